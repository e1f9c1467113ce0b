"""The journal of collection: what was kept, before it stands in the table of samples.

One SQLite file (WAL, ``synchronous=FULL``): a sample, its share of the quota and the place
where its camera goes on are one commit. Rewriting the Parquet table for every picture would
cost more than the picture; so rows wait here and are merged in batches.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from visionloop.core.errors import DataError
from visionloop.core.workspace import Workspace
from visionloop.data.collection.diversity import Look
from visionloop.data.collection.storage import is_full
from visionloop.data.splits.near_duplicates import ImageHash

__all__ = ["Entry", "Journal", "collection_folder"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS samples (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    sample_id TEXT NOT NULL UNIQUE,
    camera TEXT NOT NULL,
    day TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    row TEXT NOT NULL,
    bits BLOB,
    thumbnail BLOB,
    embedding BLOB,
    package TEXT NOT NULL,
    is_merged INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS samples_of_a_day ON samples (camera, day);
CREATE INDEX IF NOT EXISTS samples_waiting ON samples (is_merged);
CREATE TABLE IF NOT EXISTS places (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS files (
    camera TEXT NOT NULL,
    name TEXT NOT NULL,
    size INTEGER NOT NULL,
    changed_ns INTEGER NOT NULL,
    PRIMARY KEY (camera, name)
);
"""


@dataclass(frozen=True, eq=False)
class Entry:
    """A sample that was kept.

    Attributes
    ----------
    row : dict
        Of the table of samples.
    day : str
        That its quota counts for.
    look : Look
    package : str
        SHA-256 of the backbone that made the embedding, or empty.
    """

    row: dict[str, Any]
    day: str
    look: Look
    package: str


def collection_folder(workspace: Workspace) -> Path:
    """State of collection: the journal, and triggers of bursts."""
    return workspace.root / "data" / "collection"


class Journal:
    """The journal of one workspace; its methods may be called from any thread.

    Raises
    ------
    DataError
        If the file is no journal or cannot be written.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.path = collection_folder(workspace) / "journal.db"
        self._lock = Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(self.path, timeout=30, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise DataError(
                str(self.path), f"cannot be used: {error}", "make space, or move it aside"
            ) from None

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def add(self, entry: Entry) -> bool:
        """Commit a sample and the place where its camera goes on; False if it is there."""
        row, look = entry.row, entry.look
        embedding = None if look.embedding is None else look.embedding.astype("<f4").tobytes()
        with self._lock, self._database:
            done = self._database.execute(
                "INSERT OR IGNORE INTO samples (sample_id, camera, day, sequence, row, bits, "
                "thumbnail, embedding, package) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    row["sample_id"],
                    row["camera"],
                    entry.day,
                    row["sequence"],
                    json.dumps(row),
                    look.hash.bits.to_bytes(8, "big"),
                    look.hash.thumbnail.astype("<f2").tobytes(),
                    embedding,
                    entry.package,
                ),
            )
            self._put(f"next frame of {row['camera']}", row["sequence"] + 1)
        return done.rowcount == 1

    def holds(self, sample_id: str) -> bool:
        """Whether a sample was kept already."""
        return bool(self._read("SELECT 1 FROM samples WHERE sample_id = ?", sample_id))

    def kept_on(self, camera: str, day: str) -> int:
        """How many samples of a camera count for a day."""
        query = "SELECT COUNT(*) FROM samples WHERE camera = ? AND day = ?"
        return int(self._read(query, camera, day)[0][0])

    def looks(self, camera: str, package: str, limit: int) -> Iterator[Look]:
        """The newest kept pictures of a camera, oldest of them first.

        Embeddings of another backbone than ``package`` are left out.
        """
        rows = self._read(
            "SELECT bits, thumbnail, embedding, package FROM samples "
            "WHERE camera = ? AND bits IS NOT NULL ORDER BY number DESC LIMIT ?",
            camera,
            limit,
        )
        for bits, thumbnail, embedding, made_by in reversed(rows):
            vector = None
            if embedding is not None and made_by == package:
                vector = np.frombuffer(embedding, "<f4").astype(np.float32)
            small = np.frombuffer(thumbnail, "<f2").astype(np.float32)
            yield Look(ImageHash(int.from_bytes(bits, "big"), small), vector)

    def waiting(self) -> list[tuple[int, dict[str, Any]]]:
        """Samples that are not in the table yet: number and row."""
        rows = self._read("SELECT number, row FROM samples WHERE is_merged = 0 ORDER BY number")
        return [(number, json.loads(row)) for number, row in rows]

    def mark_merged(self, numbers: Sequence[int]) -> None:
        """The table of samples holds these now."""
        with self._lock, self._database:
            self._database.executemany(
                "UPDATE samples SET is_merged = 1, row = '' WHERE number = ?",
                [(number,) for number in numbers],
            )

    def forget_looks(self, camera: str, keep: int) -> None:
        """Drop what older samples were compared by; they still count for their day."""
        with self._lock, self._database:
            self._database.execute(
                "UPDATE samples SET bits = NULL, thumbnail = NULL, embedding = NULL "
                "WHERE camera = ? AND bits IS NOT NULL AND number NOT IN "
                "(SELECT number FROM samples WHERE camera = ? ORDER BY number DESC LIMIT ?)",
                (camera, camera, keep),
            )

    def place(self, name: str, default: int = 0) -> int:
        """Where something goes on, by name."""
        rows = self._read("SELECT value FROM places WHERE name = ?", name)
        return int(rows[0][0]) if rows else default

    def set_place(self, name: str, value: int) -> None:
        """Remember where something goes on; a full disk forgets it."""
        with self._lock, _unless_full(), self._database:
            self._put(name, value)

    def seen_files(self, camera: str) -> dict[str, tuple[int, int]]:
        """Files of a folder camera that were decided about: name to size and time of change."""
        rows = self._read("SELECT name, size, changed_ns FROM files WHERE camera = ?", camera)
        return {name: (size, changed_ns) for name, size, changed_ns in rows}

    def add_seen_files(self, camera: str, files: dict[str, tuple[int, int]]) -> None:
        """Remember files that were decided about; a full disk forgets, and they are again new."""
        with self._lock, _unless_full(), self._database:
            self._database.executemany(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)",
                [(camera, name, *stamp) for name, stamp in files.items()],
            )

    def _put(self, name: str, value: int) -> None:
        self._database.execute("INSERT OR REPLACE INTO places VALUES (?, ?)", (name, value))

    def _read(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._database.execute(query, values).fetchall()


@contextmanager
def _unless_full() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if not is_full(error):
            raise
