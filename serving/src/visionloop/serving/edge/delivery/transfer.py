"""Events from the outbox in memory to the one on the disk, when that can be written again."""

from __future__ import annotations

import sqlite3

from visionloop.core.failpoints import failpoint

__all__ = ["move_events"]


def move_events(memory: sqlite3.Connection, disk: sqlite3.Connection) -> None:
    """Move what waits in one outbox to another, in one transaction; the order stays.

    Parameters
    ----------
    memory, disk : Connection
        From, and to.

    Raises
    ------
    sqlite3.Error
        If the target cannot be written; nothing is moved then.
    """
    columns = [row[1] for row in memory.execute("PRAGMA table_info(events)") if row[1] != "seq"]
    names, marks = ", ".join(columns), ", ".join("?" * (len(columns) + 1))
    query = f"SELECT seq, {names} FROM events WHERE acknowledged = 0 ORDER BY seq"
    with disk:
        (last,) = disk.execute("SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence").fetchone()
        # Numbers of a disk that could not even be read at the start may be higher than ours.
        (first,) = memory.execute("SELECT COALESCE(MIN(seq), 0) FROM events").fetchone()
        lift = max(0, last - first + 1) if first else 0
        for seq, *values in memory.execute(query):
            disk.execute(
                f"INSERT INTO events (seq, {names}) VALUES ({marks})", (seq + lift, *values)
            )
        for sink, priority, seq in memory.execute("SELECT sink, priority, seq FROM waiting"):
            disk.execute("INSERT INTO waiting VALUES (?, ?, ?)", (sink, priority, seq + lift))
        disk.executemany(
            "INSERT INTO dropped VALUES (?, ?) "
            "ON CONFLICT (priority) DO UPDATE SET events = events + excluded.events",
            memory.execute("SELECT priority, events FROM dropped").fetchall(),
        )
        (top,) = memory.execute("SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence").fetchone()
        disk.execute(
            "UPDATE sqlite_sequence SET seq = MAX(seq, ?) WHERE name = 'events'", (top + lift,)
        )
        failpoint("outbox.before_move")
    failpoint("outbox.after_move")
