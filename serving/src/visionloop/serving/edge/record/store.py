"""The agent's database: one SQLite file, so that a frame and its events are one commit.

WAL with ``synchronous=FULL``: what was committed survives a kill and a loss of power.

The agent calls :func:`recover_store`: a damaged file is set aside under another name and a new
one is started, because a device in a plant has nobody who could repair it. Sequence numbers of
events go on above those of the file that was set aside.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from pathlib import Path
from typing import NamedTuple

from visionloop.core.errors import DataError
from visionloop.core.failpoints import failpoint

__all__ = ["MEMORY", "RecoveredStore", "open_reader", "open_store", "recover_store"]

DATABASE_NAME = "outbox.db"
MEMORY = Path(":memory:")
"""In place of a file: a database that lives as long as its connection."""

VERSION = 2
GENERATION_BITS = 40
"""Each database file that had to be set aside lifts the sequence numbers by 2**40."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL UNIQUE,
    boot_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    priority INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    created_monotonic REAL NOT NULL,
    payload TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    acknowledged INTEGER NOT NULL DEFAULT 0,
    clock_ok INTEGER NOT NULL DEFAULT 1,
    size INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS frames (
    frame INTEGER PRIMARY KEY AUTOINCREMENT,
    sample_id TEXT NOT NULL,
    source TEXT NOT NULL,
    camera TEXT NOT NULL,
    site TEXT NOT NULL,
    captured_at TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    package TEXT NOT NULL,
    attributes TEXT NOT NULL,
    statistics TEXT NOT NULL,
    answer TEXT NOT NULL,
    embedding BLOB,
    image TEXT,
    UNIQUE (source, sequence)
);
"""
_FIRST_VERSION = """
ALTER TABLE events ADD COLUMN clock_ok INTEGER NOT NULL DEFAULT 1;
ALTER TABLE events ADD COLUMN size INTEGER NOT NULL DEFAULT 0;
UPDATE events SET size = length(payload);
"""
_WAITED_FOR_ONE = """
INSERT INTO waiting SELECT 'receiver', priority, seq FROM events WHERE acknowledged = 0;
"""
_OUTBOX = """
CREATE INDEX IF NOT EXISTS events_waiting ON events (acknowledged, priority, seq);
CREATE TABLE IF NOT EXISTS waiting (
    sink TEXT NOT NULL,
    priority INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (sink, priority, seq)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS waiting_seq ON waiting (seq);
CREATE TABLE IF NOT EXISTS refused (
    seq INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    sink TEXT NOT NULL,
    reason TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS dropped (priority INTEGER PRIMARY KEY, events INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS totals (
    one INTEGER PRIMARY KEY CHECK (one = 1), events INTEGER NOT NULL, bytes INTEGER NOT NULL
);
INSERT OR IGNORE INTO totals SELECT 1, COUNT(*), COALESCE(SUM(size), 0) FROM events;
CREATE TRIGGER IF NOT EXISTS events_added AFTER INSERT ON events BEGIN
    UPDATE totals SET events = events + 1, bytes = bytes + NEW.size;
END;
CREATE TRIGGER IF NOT EXISTS events_removed AFTER DELETE ON events BEGIN
    UPDATE totals SET events = events - 1, bytes = bytes - OLD.size;
    DELETE FROM waiting WHERE seq = OLD.seq;
END;
"""


class RecoveredStore(NamedTuple):
    """An open database, and the damaged file that had to give way to it (or None)."""

    connection: sqlite3.Connection
    set_aside: Path | None


def open_store(path: Path, *, shared: bool = False) -> sqlite3.Connection:
    """Open the database for writing; it is made where it is missing.

    Parameters
    ----------
    path : Path
        ``MEMORY`` makes one that is kept nowhere.
    shared : bool
        Several threads use the connection, one at a time (the caller locks).

    Raises
    ------
    DataError
        If the file is no SQLite database or cannot be written.
    """
    if path != MEMORY:
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _open(path, shared)
    except sqlite3.Error as error:
        raise DataError(
            str(path), f"cannot be used: {error}", "move it aside; the agent makes a new one"
        ) from None


def recover_store(path: Path, *, shared: bool = False) -> RecoveredStore:
    """Open the database for writing; a damaged one is set aside and a new one begun.

    Raises
    ------
    DataError
        If nothing can be written there: the disk is full or read-only.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        connection = _open(path, shared)
    except sqlite3.OperationalError as error:  # full, read-only, locked: not damaged
        raise DataError(str(path), f"cannot be written: {error}", "free or remount the disk") from (
            error
        )
    except sqlite3.DatabaseError:
        pass
    else:
        if _is_sound(connection):
            return RecoveredStore(connection, None)
        connection.close()
    aside = set_aside(path)
    return RecoveredStore(open_store(path, shared=shared), aside)


def set_aside(path: Path) -> Path:
    """Give a damaged database and its side files another name; returns that of the database."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    number = _generation(path) + 1
    aside = path.with_name(f"{path.name}.damaged-{number}-{stamp}")
    for suffix in ("-wal", "-shm", ""):
        file = path.with_name(path.name + suffix)
        if file.exists():
            file.rename(aside.with_name(aside.name + suffix))
            failpoint("store.set_aside")
    return aside


def _open(path: Path, shared: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, check_same_thread=not shared)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA journal_size_limit=4194304")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version < VERSION:
            _upgrade(connection, path)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _upgrade(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables; one script, so that a kill leaves the old file or the new."""
    columns = [row[1] for row in connection.execute("PRAGMA table_info(events)")]
    is_old = bool(columns) and "size" not in columns
    before, after = (_FIRST_VERSION, _WAITED_FOR_ONE) if is_old else ("", "")
    make = f"{before}{_SCHEMA}{_OUTBOX}{after}"
    script = f"BEGIN IMMEDIATE;{make}PRAGMA user_version={VERSION};COMMIT;"
    connection.executescript(script)
    start = _generation(path) << GENERATION_BITS if path != MEMORY else 0
    if start and not columns:
        with connection:
            connection.execute("INSERT INTO sqlite_sequence VALUES ('events', ?)", (start,))


def _generation(path: Path) -> int:
    """How many databases were set aside here before."""
    pattern = re.compile(re.escape(path.name) + r"\.damaged-(\d+)-[0-9TZ]+$")
    found = [pattern.match(file.name) for file in path.parent.glob(f"{path.name}.damaged-*")]
    return max((int(match.group(1)) for match in found if match), default=0)


def _is_sound(connection: sqlite3.Connection) -> bool:
    """Whether every page can be read and every index fits its table."""
    try:
        return bool(connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
    except sqlite3.DatabaseError:
        return False


def open_reader(path: Path) -> sqlite3.Connection:
    """Open the database for reading, while the agent may be writing.

    Raises
    ------
    DataError
        If it is missing or is no database of the agent.
    """
    if not path.is_file():
        raise DataError(str(path), "there is no such file", "visionloop serve edge makes it")
    mode = "mode=ro"
    if not os.access(path.parent, os.W_OK) and not Path(f"{path}-wal").exists():
        mode += "&immutable=1"  # a finished copy: SQLite cannot make its lock files here
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True, timeout=30)
        connection.execute("SELECT 1 FROM frames LIMIT 1")
    except sqlite3.Error as error:
        raise DataError(str(path), f"is no database of the edge agent: {error}") from None
    return connection
