"""The agent's database: one SQLite file, so that a frame and its events are one commit.

WAL with ``synchronous=FULL``: what was committed survives a kill and a loss of power.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from visionloop.core.errors import DataError

__all__ = ["open_reader", "open_store"]

DATABASE_NAME = "outbox.db"

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
    acknowledged INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS events_waiting ON events (acknowledged, priority, seq);
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


def open_store(path: Path) -> sqlite3.Connection:
    """Open the database for writing; it is made where it is missing.

    Raises
    ------
    DataError
        If the file is no SQLite database or cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        connection = sqlite3.connect(path, timeout=30)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.executescript(_SCHEMA)
    except sqlite3.Error as error:
        raise DataError(
            str(path), f"cannot be used: {error}", "move it aside; the agent makes a new one"
        ) from None
    return connection


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
