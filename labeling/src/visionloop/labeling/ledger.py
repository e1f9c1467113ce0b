"""Which labeling tasks exist, kept in ``studio/tasks.sqlite`` and checked against the server.

The server's own list is the truth. Task ids only rise, so what was made since the last look
lies beyond the greatest id known; the number of tasks tells whether any were deleted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from visionloop.core.workspace import Workspace
from visionloop.labeling.state import state_folder

__all__ = ["Entry", "Ledger", "open_ledger"]


@dataclass(frozen=True)
class Entry:
    """A task on the server.

    Attributes
    ----------
    task : int
    sample_id, look : str
        Both empty for people's own uploads.
    draft : str
        Version of the newest draft; empty without one.
    """

    task: int
    sample_id: str = ""
    look: str = ""
    draft: str = ""


class Ledger:
    """The tasks of one Label Studio project; see :func:`open_ledger`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._db.executescript(_SCHEMA)

    def add(self, entries: Iterable[Entry]) -> None:
        """Insert or replace, all or none, by the id of the task."""
        rows = ((one.task, one.sample_id, one.look, one.draft) for one in entries)
        with self._db:
            self._db.executemany("INSERT OR REPLACE INTO tasks VALUES (?, ?, ?, ?)", rows)

    def forget(self, tasks: Iterable[int]) -> None:
        """Remove what was deleted on the server."""
        with self._db:
            self._db.executemany("DELETE FROM tasks WHERE task = ?", ((one,) for one in tasks))

    def clear(self, project: int) -> None:
        """Begin anew, for another project."""
        with self._db:
            self._db.execute("DELETE FROM tasks")
            self._db.execute("DELETE FROM notes")
        self.set_note("project", str(project))

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM tasks").fetchone()[0])

    def newest(self) -> int:
        """The greatest task id known; 0 without one."""
        return int(self._db.execute("SELECT coalesce(max(task), 0) FROM tasks").fetchone()[0])

    def tasks(self) -> set[int]:
        """Ids of all tasks, people's own uploads too."""
        return {row[0] for row in self._db.execute("SELECT task FROM tasks")}

    def of_look(self, look: str) -> dict[str, int]:
        """Sample id to its eldest task of a look."""
        query = "SELECT sample_id, min(task) FROM tasks WHERE look = ? GROUP BY sample_id"
        return dict(self._db.execute(query, (look,)))

    def doubles(self) -> list[int]:
        """Younger tasks of a sample that has one first or second look already."""
        query = """SELECT task FROM tasks WHERE look IN ('first', 'second') AND task NOT IN
                   (SELECT min(task) FROM tasks GROUP BY sample_id, look)"""
        return [row[0] for row in self._db.execute(query)]

    def undrafted(self, version: str, look: str) -> set[int]:
        """Tasks of a look whose newest draft is another's, or that have none."""
        query = "SELECT task FROM tasks WHERE look = ? AND draft != ?"
        return {row[0] for row in self._db.execute(query, (look, version))}

    def set_draft(self, tasks: Iterable[int], version: str) -> None:
        """Tasks got the drafts of a version."""
        with self._db:
            query = "UPDATE tasks SET draft = ? WHERE task = ?"
            self._db.executemany(query, ((version, one) for one in tasks))

    def note(self, name: str) -> str:
        """A remembered text; empty if there is none."""
        row = self._db.execute("SELECT value FROM notes WHERE name = ?", (name,)).fetchone()
        return row[0] if row else ""

    def set_note(self, name: str, value: str) -> None:
        """Remember a text."""
        with self._db:
            self._db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, value))


@contextmanager
def open_ledger(workspace: Workspace) -> Iterator[Ledger]:
    """The ledger of a workspace, made if needed; closed at the end of the block."""
    # A push asks it from the thread that sends, while the other one drafts and does not.
    path = state_folder(workspace) / "tasks.sqlite"
    connection = sqlite3.connect(path, timeout=30, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # the server knows what is lost
        yield Ledger(connection)
    finally:
        connection.close()


_SCHEMA = """
CREATE TABLE IF NOT EXISTS tasks (
  task INTEGER PRIMARY KEY, sample_id TEXT NOT NULL, look TEXT NOT NULL, draft TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS by_look ON tasks (look, sample_id, task);
CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
