"""The outbox that goes on when the disk does not; for many threads.

For the agent::

    outbox = GuardedOutbox(folder, sinks={"hub": 9}, limits=OutboxLimits())
    outbox.put(kind="zone", priority=0, created_at=now, payload={...})   # durable on return
    outbox.tick()            # every few seconds: looks whether the disk is back
    outbox.state             # "durable", "reserve" or "memory": a metric and a health event
    outbox.take_notices()    # what a person should hear: (kind, text), once

* **Full disk**: a reserve file is given up, so that the database can go on for a while; it is
  laid down again when there is space.
* **Still full, or read-only**: events go to a database in memory with the same bounds, and are
  sent from there; they move to the disk when it can be written again. What is in memory at a
  power cut is lost, which ``state`` says.
* **Damaged file**: set aside, a new one begun, and said.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

from visionloop.core.errors import DataError
from visionloop.core.failpoints import failpoint
from visionloop.serving.edge.delivery.disk_reserve import DiskReserve
from visionloop.serving.edge.delivery.outbox import Outbox, OutboxDepth, OutboxLimits
from visionloop.serving.edge.delivery.transfer import move_events
from visionloop.serving.edge.record.events import Event
from visionloop.serving.edge.record.store import (
    DATABASE_NAME,
    MEMORY,
    open_store,
    recover_store,
    set_aside,
)

__all__ = ["GuardedOutbox", "OutboxState"]

OutboxState = Literal["durable", "reserve", "memory"]
RESERVE_NAME = "outbox.reserve"
RESERVE_BYTES = 4_000_000
MEMORY_BYTES = 32_000_000
"""Bound of what is kept in memory while the disk cannot be written."""

Answer = TypeVar("Answer")


class GuardedOutbox:
    """Events of one device; thread-safe.

    Parameters
    ----------
    folder : Path
        Of the agent; the database is ``outbox.db`` there.
    sinks, limits
        As for :class:`Outbox`.
    reserve_bytes : int
        Laid down on the disk beside the database.
    """

    def __init__(
        self,
        folder: Path,
        *,
        sinks: Mapping[str, int],
        limits: OutboxLimits | None = None,
        reserve_bytes: int = RESERVE_BYTES,
    ) -> None:
        self._folder, self._sinks = folder, dict(sinks)
        self._limits = limits or OutboxLimits()
        self._reserve = DiskReserve(folder / RESERVE_NAME, reserve_bytes)
        self._lock = threading.RLock()
        self._news = threading.Condition(self._lock)
        self._notices: list[tuple[str, str]] = []
        self._disk: sqlite3.Connection | None = None
        self._memory: sqlite3.Connection | None = None
        self._open_disk()
        if self._disk is None:
            self._go_to_memory(0)

    @property
    def state(self) -> OutboxState:
        """Where a new event goes."""
        if self._memory is not None:
            return "memory"
        return "durable" if self._reserve.is_laid else "reserve"

    def put(self, *, kind: str, priority: int, created_at: str, payload: dict[str, Any]) -> str:
        """Add an event; returns its id. Durable on return unless ``state`` is ``memory``."""
        return self.commit(
            lambda _, outbox: outbox.append(
                kind=kind, priority=priority, created_at=created_at, payload=payload
            )
        )

    def commit(self, action: Callable[[sqlite3.Connection, Outbox], Answer]) -> Answer:
        """One transaction for events and what belongs to them, such as the frame's record.

        Parameters
        ----------
        action : callable of (connection, outbox)
            Called again, on another database, where the first cannot be written; only events
            move from memory to the disk later.
        """
        with self._lock:
            answer = self._write(action)
            self._news.notify_all()
        return answer

    def read(self, action: Callable[[sqlite3.Connection], Answer]) -> Answer:
        """Ask the database that events go to now."""
        with self._lock:
            connection = self._memory or self._disk
            assert connection is not None
            return action(connection)

    def pending(self, limit: int, *, sink: str, max_bytes: int | None = None) -> list[Event]:
        """Events that wait for a sink; those on the disk come first."""
        with self._lock:
            found: list[Event] = []
            for connection in self._connections():
                with suppress(sqlite3.Error):
                    found += self._outbox(connection).pending(limit, sink=sink, max_bytes=max_bytes)
            found.sort(key=lambda event: (event.priority, event.seq))
            return found[:limit]

    def acknowledge(self, event_ids: Sequence[str], *, sink: str) -> int:
        """Mark events as received by a sink; returns how many were still waiting.

        Where the disk cannot be written they are sent again later: the receiver tells
        doubles by their id.
        """
        return self._settle(lambda outbox: outbox.acknowledge(event_ids, sink=sink))

    def refuse(self, reasons: Mapping[str, str], *, sink: str) -> int:
        """Give events up that a sink will never take, with its reason for each id."""
        return self._settle(lambda outbox: outbox.refuse(reasons, sink=sink))

    def depth(self) -> OutboxDepth:
        """How full the outbox is, disk and memory together."""
        with self._lock:
            depths = []
            for connection in self._connections():
                with suppress(sqlite3.Error):
                    depths.append(self._outbox(connection).depth())
        total = OutboxDepth(waiting=dict.fromkeys(self._sinks, 0))
        for one in depths:
            total = OutboxDepth(
                _add(total.waiting, one.waiting),
                total.bytes + one.bytes,
                _add(total.dropped, one.dropped),
                total.refused + one.refused,
                max(total.oldest_s, one.oldest_s),
            )
        return total

    def wait(self, timeout_s: float) -> None:
        """Sleep until an event was added, or for this long."""
        with self._lock:
            self._news.wait(timeout_s)

    def tick(self) -> None:
        """Look whether the disk can be written again, and lay down the reserve."""
        with self._lock:
            if self._memory is not None:
                self._return_to_disk()
            if self._memory is None:
                self._reserve.lay()

    def take_notices(self) -> list[tuple[str, str]]:
        """What happened to the outbox since the last call: kind and text for a person."""
        with self._lock:
            taken, self._notices = self._notices, []
        return taken

    def close(self) -> None:
        """Close the databases; what is in memory is moved to the disk if that is possible."""
        with self._lock:
            if self._memory is not None:
                self._return_to_disk()
            for connection in self._connections():
                connection.close()
            self._disk = self._memory = None

    def _outbox(self, connection: sqlite3.Connection) -> Outbox:
        limits = self._limits
        if connection is self._memory:
            limits = OutboxLimits(min(MEMORY_BYTES, limits.max_bytes), limits.reserve_share)
        return Outbox(connection, sinks=self._sinks, limits=limits)

    def _connections(self) -> list[sqlite3.Connection]:
        return [one for one in (self._disk, self._memory) if one is not None]

    def _open_disk(self) -> None:
        try:
            self._disk, aside = recover_store(self._folder / DATABASE_NAME, shared=True)
            self._outbox(self._disk).forget_other_sinks()
        except (DataError, OSError, sqlite3.Error) as error:
            self._notices.append(("outbox_in_memory", f"the disk cannot be written: {error}"))
            self._disk = None
            return
        if aside is not None:
            self._notices.append(
                ("outbox_set_aside", f"outbox.db was damaged; it is kept as {aside.name}")
            )
        self._reserve.lay()

    def _write(self, action: Callable[[sqlite3.Connection, Outbox], Answer]) -> Answer:
        """Do it on the disk; on a full disk from the reserve; else in memory."""
        if self._memory is None and self._disk is not None:
            try:
                return self._on(self._disk, action)
            except sqlite3.DatabaseError as error:
                again = self._recover(error)
            if again and self._disk is not None:
                with suppress(sqlite3.DatabaseError):
                    return self._on(self._disk, action)
            self._go_to_memory(self._last_sequence())
        assert self._memory is not None
        return self._on(self._memory, action)

    def _on(
        self,
        connection: sqlite3.Connection,
        action: Callable[[sqlite3.Connection, Outbox], Answer],
    ) -> Answer:
        with connection:
            answer = action(connection, self._outbox(connection))
            failpoint("outbox.before_commit")
        failpoint("outbox.after_commit")
        return answer

    def _recover(self, error: sqlite3.DatabaseError) -> bool:
        """What can be done about a failed write; True if it is worth another try."""
        if _is_damage(error):
            assert self._disk is not None
            self._disk.close()
            self._disk = None
            with suppress(OSError):
                aside = set_aside(self._folder / DATABASE_NAME)
                text = f"outbox.db was damaged ({error}); it is kept as {aside.name}"
                self._notices.append(("outbox_set_aside", text))
            self._open_disk()
            return self._disk is not None
        if self._reserve.give_up():
            self._notices.append(("outbox_reserve_used", f"the disk is full: {error}"))
            return True
        self._notices.append(("outbox_in_memory", f"the disk cannot be written: {error}"))
        return False

    def _settle(self, action: Callable[[Outbox], int]) -> int:
        done = 0
        with self._lock:
            for connection in self._connections():
                try:
                    done += action(self._outbox(connection))
                except sqlite3.DatabaseError as error:
                    if connection is self._disk and self._recover(error) and self._disk:
                        with suppress(sqlite3.DatabaseError):
                            done += action(self._outbox(self._disk))
        return done

    def _last_sequence(self) -> int:
        if self._disk is None:
            return 0
        with suppress(sqlite3.Error):
            row = self._disk.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'")
            return int((row.fetchone() or (0,))[0])
        return 0

    def _go_to_memory(self, after: int) -> None:
        """Events go to memory, numbered on from those on the disk."""
        if self._memory is None:
            self._memory = open_store(MEMORY, shared=True)
            with self._memory as memory:
                memory.execute("INSERT INTO sqlite_sequence VALUES ('events', ?)", (after,))

    def _return_to_disk(self) -> None:
        """Move what waits in memory to the disk, in one transaction; stay if it fails."""
        if self._disk is None:
            before = len(self._notices)
            self._open_disk()
            if self._disk is None:
                del self._notices[before:]  # it was said when it began
                return
        memory = self._memory
        assert memory is not None
        try:
            move_events(memory, self._disk)
        except sqlite3.Error:
            return
        self._memory = None
        memory.close()
        self._notices.append(("outbox_durable", "events are written to the disk again"))


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    return not isinstance(error, sqlite3.OperationalError) or "malformed" in str(error)


def _add(first: Mapping[Any, int], second: Mapping[Any, int]) -> dict[Any, int]:
    return {key: first.get(key, 0) + second.get(key, 0) for key in [*first, *second]}
