"""The outbox: events that wait on the device until somebody has acknowledged them."""

from __future__ import annotations

import json
import os
import sqlite3
import time
import uuid
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionloop.core.files import canonical_json, sha256_of_bytes
from visionloop.serving.edge.store import open_reader

__all__ = ["Event", "Outbox", "new_event_id", "read_boot_id", "read_events"]

_COLUMNS = (
    "seq, event_id, boot_id, kind, priority, created_at, created_monotonic, payload, sha256, "
    "acknowledged"
)


@dataclass(frozen=True)
class Event:
    """What a rule saw.

    Attributes
    ----------
    seq : int
        Counts the events of this device from 1, without going back.
    event_id : str
        UUID version 7: unique everywhere, ordered by time.
    boot_id : str
        Which run of the device's clock ``created_monotonic`` belongs to.
    kind : str
        The rule's kind.
    priority : int
        0 leaves the device first.
    created_at : str
        UTC, RFC 3339.
    created_monotonic : float
        Seconds.
    payload : dict
        Rule, camera, site, sample, package, class, confidence, boxes, picture.
    sha256 : str
        Of the payload's canonical JSON.
    acknowledged : bool
    """

    seq: int
    event_id: str
    boot_id: str
    kind: str
    priority: int
    created_at: str
    created_monotonic: float
    payload: dict[str, Any]
    sha256: str
    acknowledged: bool


class Outbox:
    """Events of one device, in its database.

    Parameters
    ----------
    connection : sqlite3.Connection
        From :func:`visionloop.serving.edge.store.open_store`. ``append`` belongs to
        the caller's transaction.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._boot_id = read_boot_id()

    def append(self, *, kind: str, priority: int, created_at: str, payload: dict[str, Any]) -> str:
        """Add an event; returns its id. It is durable once the caller commits."""
        event_id = new_event_id()
        text = canonical_json(payload).decode()
        self._connection.execute(
            "INSERT INTO events (event_id, boot_id, kind, priority, created_at, "
            "created_monotonic, payload, sha256) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                event_id,
                self._boot_id,
                kind,
                priority,
                created_at,
                time.monotonic(),
                text,
                sha256_of_bytes(text.encode()),
            ),
        )
        return event_id

    def pending(self, limit: int = 100) -> list[Event]:
        """Events that wait, most urgent first, then oldest first."""
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM events WHERE acknowledged = 0 ORDER BY priority, seq LIMIT ?",
            (limit,),
        )
        return [_event(row) for row in rows]

    def acknowledge(self, event_ids: Sequence[str]) -> int:
        """Mark events as received; returns how many were still waiting. Durable on return."""
        with self._connection:
            changed = self._connection.executemany(
                "UPDATE events SET acknowledged = 1 WHERE event_id = ? AND acknowledged = 0",
                [(event_id,) for event_id in event_ids],
            )
        return changed.rowcount


def read_events(db: Path, *, after: int = 0) -> list[Event]:
    """Events of a device, oldest first.

    Parameters
    ----------
    db : Path
    after : int
        Only events with a larger ``seq``.

    Raises
    ------
    DataError
        If there is no database of the edge agent.
    """
    with closing(open_reader(db)) as connection:
        query = f"SELECT {_COLUMNS} FROM events WHERE seq > ? ORDER BY seq"
        rows = connection.execute(query, (after,)).fetchall()
    return [_event(row) for row in rows]


def new_event_id() -> str:
    """A UUID version 7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then random."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & ((1 << 48) - 1)) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def read_boot_id() -> str:
    """The kernel's id of this boot; elsewhere a new id for each process."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return str(uuid.uuid4())


def _event(row: tuple[Any, ...]) -> Event:
    seq, event_id, boot_id, kind, priority, created_at, monotonic, payload, sha256, done = row
    return Event(
        seq,
        event_id,
        boot_id,
        kind,
        priority,
        created_at,
        monotonic,
        json.loads(payload),
        sha256,
        bool(done),
    )
