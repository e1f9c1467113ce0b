"""The outbox: events that wait on the device until everybody who wants them has them.

For the agent::

    outbox = Outbox(connection, sinks={"hub": 9, "plc": 1}, limits=OutboxLimits())
    with connection:                       # the caller's transaction
        outbox.append(kind="zone", priority=0, created_at=now, payload={...})
    outbox.pending(sink="hub")             # most urgent first, then oldest first
    outbox.acknowledge(ids, sink="hub")    # durable on return

``guarded_outbox`` holds the same behind a lock and goes on when the disk does not.

**Bounds.** The outbox has a size. Events that everybody has leave first, then waiting ones; of
both the least urgent first, and of these the oldest. Only alerts may use the reserve, and
an ordinary event never drives out an alert. What was dropped is counted by priority.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visionloop.core.files import canonical_json, sha256_of_bytes
from visionloop.serving.edge.delivery.event_ids import is_clock_ok, new_event_id, read_boot_id
from visionloop.serving.edge.record.events import EVENT_COLUMNS, Event, event_of_row
from visionloop.serving.edge.record.store import open_reader

__all__ = ["ALERT_PRIORITY", "Outbox", "OutboxDepth", "OutboxLimits", "read_events"]

ALERT_PRIORITY = 1
"""Events of this priority or a smaller one are alerts: they may use the reserve."""
LEAST_PRIORITY = 9
RECEIVER = "receiver"
OVERHEAD_BYTES = 420
"""What one event takes in the file beside its payload: columns, indexes, one waiting row."""
CHUNK = 64

_WAITING = ", ".join(f"e.{column}" for column in EVENT_COLUMNS)


@dataclass(frozen=True)
class OutboxLimits:
    """How large the outbox may become.

    Attributes
    ----------
    max_bytes : int
        Of events with their overhead, about the size of the file.
    reserve_share : float
        Part of it that only alerts may use.
    """

    max_bytes: int = 1_000_000_000
    reserve_share: float = 0.2

    def of(self, priority: int) -> int:
        """Bytes up to which an event of this priority may fill the outbox."""
        if priority <= ALERT_PRIORITY:
            return self.max_bytes
        return int(self.max_bytes * (1 - self.reserve_share))


@dataclass(frozen=True)
class OutboxDepth:
    """How full the outbox is.

    Attributes
    ----------
    waiting : dict
        Sink to the number of events that wait for it.
    bytes : int
        Of all events in it, those that everybody has included.
    dropped : dict
        Priority to the number of events that were dropped because of the bound, ever.
    refused : int
        Events that a sink refused for good, ever.
    oldest_s : float
        Age of the oldest waiting event by the monotonic clock; 0 where none waits or it was
        made before this boot.
    """

    waiting: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    dropped: dict[int, int] = field(default_factory=dict)
    refused: int = 0
    oldest_s: float = 0.0


class Outbox:
    """Events of one device, in its database.

    Parameters
    ----------
    connection : sqlite3.Connection
        From :func:`visionloop.serving.edge.record.store.open_store`. ``append`` belongs to
        the caller's transaction.
    sinks : mapping of str to int
        Who wants events, and the least urgent priority that it wants. Events wait for the
        sinks of the time when they were made.
    limits : OutboxLimits
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        sinks: Mapping[str, int] | None = None,
        limits: OutboxLimits | None = None,
    ) -> None:
        self._connection = connection
        self._boot_id = read_boot_id()
        self._sinks = dict(sinks) if sinks is not None else {RECEIVER: LEAST_PRIORITY}
        self._limits = limits or OutboxLimits()

    def append(self, *, kind: str, priority: int, created_at: str, payload: dict[str, Any]) -> str:
        """Add an event; returns its id. It is durable once the caller commits.

        The id is also returned where the event itself was dropped: the outbox was full of
        more urgent ones.
        """
        event_id = new_event_id()
        text = canonical_json(payload).decode()
        size = len(text) + OVERHEAD_BYTES
        if not self._make_room(size, priority):
            self._count_dropped(priority, 1)
            return event_id
        done = self._connection.execute(
            "INSERT INTO events (event_id, boot_id, kind, priority, created_at, created_monotonic, "
            "payload, sha256, clock_ok, size) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                event_id,
                self._boot_id,
                kind,
                priority,
                created_at,
                time.monotonic(),
                text,
                sha256_of_bytes(text.encode()),
                is_clock_ok(),
                size,
            ),
        )
        wanted = [
            (s, priority, done.lastrowid) for s, least in self._sinks.items() if priority <= least
        ]
        self._connection.executemany("INSERT INTO waiting VALUES (?, ?, ?)", wanted)
        if not wanted and self._sinks:
            self._connection.execute(
                "UPDATE events SET acknowledged = 1 WHERE seq = ?", (done.lastrowid,)
            )
        return event_id

    def pending(
        self, limit: int = 100, *, sink: str = "", max_bytes: int | None = None
    ) -> list[Event]:
        """Events that wait for a sink, most urgent first, then oldest first.

        Parameters
        ----------
        limit : int
        sink : str
            Empty is the first sink.
        max_bytes : int or None
            Stop before more than this; one event is always given.
        """
        rows = self._connection.execute(
            f"SELECT {_WAITING}, e.size FROM waiting w JOIN events e ON e.seq = w.seq "
            "WHERE w.sink = ? ORDER BY w.priority, w.seq LIMIT ?",
            (self._name(sink), limit),
        )
        found: list[Event] = []
        total = 0
        for row in rows:
            total += row[-1]
            if found and max_bytes is not None and total > max_bytes:
                break
            found.append(event_of_row(row[:-1]))
        return found

    def acknowledge(self, event_ids: Sequence[str], *, sink: str = "") -> int:
        """Mark events as received; returns how many were still waiting. Durable on return."""
        name = self._name(sink)
        with self._connection:
            return sum(self._settle(event_id, name) for event_id in event_ids)

    def refuse(self, reasons: Mapping[str, str], *, sink: str = "") -> int:
        """Give events up that a sink will never take, with its reason for each id."""
        name = self._name(sink)
        with self._connection:
            self._connection.executemany(
                "INSERT INTO refused SELECT seq, event_id, ?, ? FROM events WHERE event_id = ?",
                [(name, reason[:500], event_id) for event_id, reason in reasons.items()],
            )
            return sum(self._settle(event_id, name) for event_id in reasons)

    def forget_other_sinks(self) -> int:
        """Drop what waits for sinks that are no longer wanted; returns how many rows."""
        marks = ", ".join("?" * len(self._sinks))
        gone = f"sink NOT IN ({marks})"
        with self._connection:
            rows = self._connection.execute(f"SELECT seq FROM waiting WHERE {gone}", [*self._sinks])
            sequences = {row[0] for row in rows}
            self._connection.execute(f"DELETE FROM waiting WHERE {gone}", [*self._sinks])
            self._connection.executemany(
                "UPDATE events SET acknowledged = 1 WHERE seq = ? "
                "AND NOT EXISTS (SELECT 1 FROM waiting w WHERE w.seq = events.seq)",
                [(seq,) for seq in sequences],
            )
        return len(sequences)

    def depth(self) -> OutboxDepth:
        """How full the outbox is."""
        fetch = self._connection.execute
        waiting = dict.fromkeys(self._sinks, 0)
        waiting |= dict(fetch("SELECT sink, COUNT(*) FROM waiting GROUP BY sink").fetchall())
        (size,) = fetch("SELECT bytes FROM totals").fetchone()
        (refused,) = fetch("SELECT COUNT(*) FROM refused").fetchone()
        oldest = fetch(
            "SELECT e.created_monotonic, e.boot_id FROM events e "
            "WHERE e.seq = (SELECT MIN(seq) FROM waiting)"
        ).fetchone()
        age = time.monotonic() - oldest[0] if oldest and oldest[1] == self._boot_id else 0.0
        dropped = dict(fetch("SELECT priority, events FROM dropped").fetchall())
        return OutboxDepth(waiting, size, dropped, refused, max(0.0, age))

    def _name(self, sink: str) -> str:
        return sink or next(iter(self._sinks), RECEIVER)

    def _settle(self, event_id: str, sink: str) -> int:
        """One sink has an event (or gave it up); the event is done once no other waits."""
        row = self._connection.execute(
            "SELECT seq, priority FROM events WHERE event_id = ?", (event_id,)
        ).fetchone()
        if row is None:
            return 0
        seq, priority = row
        gone = self._connection.execute(
            "DELETE FROM waiting WHERE sink = ? AND priority = ? AND seq = ?",
            (sink, priority, seq),
        )
        if gone.rowcount:
            self._connection.execute(
                "UPDATE events SET acknowledged = 1 WHERE seq = ? "
                "AND NOT EXISTS (SELECT 1 FROM waiting WHERE seq = ?)",
                (seq, seq),
            )
        return gone.rowcount

    def _make_room(self, size: int, priority: int) -> bool:
        """Remove less valuable events until this one fits; False if there are none left."""
        limit = self._limits.of(priority)
        while True:
            (used,) = self._connection.execute("SELECT bytes FROM totals").fetchone()
            if used + size <= limit:
                return True
            if not self._remove_some(used + size - limit, priority):
                return False

    def _remove_some(self, wanted: int, priority: int) -> bool:
        fetch = self._connection.execute
        least = fetch("SELECT MAX(priority) FROM events WHERE acknowledged = 1").fetchone()[0]
        is_done = least is not None
        if not is_done:
            least = fetch("SELECT MAX(priority) FROM events WHERE acknowledged = 0").fetchone()[0]
            if least is None or least < priority:
                return False
        rows = fetch(
            "SELECT seq, size FROM events WHERE acknowledged = ? AND priority = ? "
            "ORDER BY seq LIMIT ?",
            (int(is_done), least, CHUNK),
        ).fetchall()
        removed = events = 0
        for seq, size in rows:
            if removed >= wanted:
                break
            fetch("DELETE FROM events WHERE seq = ?", (seq,))
            removed, events = removed + size, events + 1
        if not is_done:
            self._count_dropped(least, events)
        return True

    def _count_dropped(self, priority: int, events: int) -> None:
        self._connection.execute(
            "INSERT INTO dropped VALUES (?, ?) "
            "ON CONFLICT (priority) DO UPDATE SET events = events + excluded.events",
            (priority, events),
        )


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
        query = f"SELECT {', '.join(EVENT_COLUMNS)} FROM events WHERE seq > ? ORDER BY seq"
        rows = connection.execute(query, (after,)).fetchall()
    return [event_of_row(row) for row in rows]
