"""Every answer that people gave in Label Studio, kept in ``studio/decisions.sqlite``.

``pull`` writes it; the verdicts, the review, the second look's precision and the meter read
it. One row an annotation on the server, so reading the same one twice changes nothing.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from itertools import groupby
from pathlib import Path
from typing import Any

from visionloop.core.errors import DataError
from visionloop.core.workspace import Workspace
from visionloop.labeling.regions import Region, read_region
from visionloop.labeling.state import state_folder

__all__ = ["LOOKS", "MADE_OF_THEM", "Decision", "DecisionStore", "load_decisions", "open_decisions"]

LOOKS = ("first", "second", "review", "adjudicate")
"""Why a task exists: to be annotated; a doubtful annotation; an independent second answer;
two answers that differ."""

MADE_OF_THEM = "made of them"
"""Note that goes as soon as a decision comes, changes or goes."""


@dataclass(frozen=True)
class Decision:
    """What a person did with one task.

    Attributes
    ----------
    annotation, task : int
        Label Studio's ids.
    sample_id : str
    look : str
        Row of ``LOOKS``.
    annotator : str
    created_at, decided_at : str
        When it was submitted first and last: UTC, RFC 3339, by Label Studio's clock.
    lead_time : float
        Seconds.
    draft : int or None
        Label Studio's id of the draft that was shown.
    draft_version : str
        Whose draft: ``<model>@<short fingerprint>``, of boxes also ``.<that of the thresholds>``.
    actions : list of str
        One a region: accepted, adjusted, relabelled, added; "accepted" alone where a
        person confirmed that nothing is there.
    deleted : int
        Regions of the draft that were removed.
    is_skipped : bool
        The person said nothing.
    is_control : bool
        Shown without a draft on purpose, to measure what annotation by hand costs.
    findings : str
        Second look: which list of findings asked for it.
    regions : list of Region
    """

    annotation: int
    task: int
    sample_id: str
    look: str
    annotator: str
    created_at: str
    decided_at: str
    lead_time: float
    draft: int | None = None
    draft_version: str = ""
    actions: list[str] = field(default_factory=list)
    deleted: int = 0
    is_skipped: bool = False
    is_control: bool = False
    findings: str = ""
    regions: list[Region] = field(default_factory=list)

    @property
    def had_draft(self) -> bool:
        """Whether a draft was shown."""
        return self.draft is not None


class DecisionStore:
    """The decisions of one Label Studio project; see :func:`open_decisions`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._db.executescript(_SCHEMA)

    def put(self, decisions: Iterable[Decision], *, read: Mapping[int, str] | None = None) -> None:
        """Insert or replace, all or none, by the id of the annotation.

        Parameters
        ----------
        decisions : iterable of Decision
        read : mapping of int to str or None
            Tasks that were read, and their ``updated_at`` as the server told it then.
        """
        rows = [_encode(row) for row in decisions]
        marks = ", ".join("?" for _ in _COLUMNS)
        with self._db:
            self._db.executemany(f"INSERT OR REPLACE INTO decisions VALUES ({marks})", rows)
            query = "INSERT OR REPLACE INTO readings VALUES (?, ?)"
            self._db.executemany(query, (read or {}).items())
            if rows:
                self._outdate()

    def forget(self, *, annotations: Iterable[int] = (), tasks: Iterable[int] = ()) -> None:
        """Remove what was deleted on the server."""
        with self._db:
            before = self._db.total_changes
            self._db.executemany(
                "DELETE FROM decisions WHERE annotation = ?", [(one,) for one in annotations]
            )
            numbers = [(one,) for one in tasks]
            for table in ("decisions", "readings"):
                self._db.executemany(f"DELETE FROM {table} WHERE task = ?", numbers)
            if self._db.total_changes > before:
                self._outdate()

    def clear(self) -> None:
        """Forget all decisions: those to come are of another project."""
        with self._db:
            self._db.execute("DELETE FROM decisions")
            self._db.execute("DELETE FROM readings")
            self._outdate()

    def annotations_of(self, tasks: Collection[int]) -> set[int]:
        """Ids of the annotations known of a page of tasks."""
        marks = ", ".join("?" for _ in tasks)
        query = f"SELECT annotation FROM decisions WHERE task IN ({marks})"
        return {row[0] for row in self._db.execute(query, tuple(tasks))}

    def read_since(self, moment: str) -> dict[int, str]:
        """Tasks that were read and had changed after a moment, to their ``updated_at``."""
        query = "SELECT task, updated_at FROM readings WHERE updated_at > ?"
        return dict(self._db.execute(query, (moment,)))

    def newest_read(self) -> int:
        """The greatest id of a task that was read; 0 without one."""
        return int(self._db.execute("SELECT coalesce(max(task), 0) FROM readings").fetchone()[0])

    def counts(self) -> dict[int, int]:
        """Task id to how many annotations of it are known."""
        return dict(self._db.execute("SELECT task, count(*) FROM decisions GROUP BY task"))

    def tasks(self) -> set[int]:
        """Ids of the tasks that have a decision."""
        return {row[0] for row in self._db.execute("SELECT DISTINCT task FROM decisions")}

    def skipped(self) -> int:
        """How many tasks somebody skipped."""
        query = "SELECT count(DISTINCT task) FROM decisions WHERE is_skipped"
        return int(self._db.execute(query).fetchone()[0])

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM decisions").fetchone()[0])

    def __iter__(self) -> Iterator[Decision]:
        """All decisions, in the order they were given."""
        yield from self._read("ORDER BY decided_at, annotation")

    def by_sample(self) -> Iterator[tuple[str, list[Decision]]]:
        """Each sample with its decisions, oldest first; one sample in memory at a time."""
        rows = self._read("ORDER BY sample_id, decided_at, annotation")
        for sample_id, group in groupby(rows, key=lambda row: row.sample_id):
            yield sample_id, list(group)

    def answered_samples(self) -> Iterator[str]:
        """Samples of which somebody said something, by rising id."""
        query = "SELECT DISTINCT sample_id FROM decisions WHERE NOT is_skipped ORDER BY sample_id"
        return (row[0] for row in self._db.execute(query))

    def note(self, name: str) -> str:
        """A remembered text, such as how far the last pull came; empty if there is none."""
        row = self._db.execute("SELECT value FROM notes WHERE name = ?", (name,)).fetchone()
        return row[0] if row else ""

    def set_note(self, name: str, value: str) -> None:
        """Remember a text."""
        with self._db:
            self._db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, value))

    def _outdate(self) -> None:
        """Said in the transaction that changes a decision."""
        self._db.execute("DELETE FROM notes WHERE name = ?", (MADE_OF_THEM,))

    def _read(self, order: str) -> Iterator[Decision]:
        for row in self._db.execute(f"SELECT {', '.join(_COLUMNS)} FROM decisions {order}"):
            yield _decode(row)


@contextmanager
def open_decisions(workspace: Workspace) -> Iterator[DecisionStore]:
    """The store of a workspace, made if needed; closed at the end of the block."""
    path = _path(workspace)
    state_folder(workspace)
    connection = sqlite3.connect(path, timeout=30)
    try:
        path.chmod(0o600)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        yield DecisionStore(connection)
    finally:
        connection.close()


def load_decisions(workspace: Workspace) -> list[Decision]:
    """The decisions that the pulls brought, in the order they were given.

    Raises
    ------
    DataError
        If nothing was pulled yet.
    """
    if not _path(workspace).exists():
        raise DataError(
            str(_path(workspace)), "nothing was pulled yet", "run: visionloop label pull"
        )
    with open_decisions(workspace) as store:
        return list(store)


def _path(workspace: Workspace) -> Path:
    return workspace.studio_state / "decisions.sqlite"


_COLUMNS = tuple(one.name for one in fields(Decision))
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS decisions (
  annotation INTEGER PRIMARY KEY, {", ".join(name for name in _COLUMNS if name != "annotation")}
);
CREATE INDEX IF NOT EXISTS by_sample ON decisions (sample_id, decided_at);
CREATE INDEX IF NOT EXISTS by_task ON decisions (task);
CREATE TABLE IF NOT EXISTS readings (task INTEGER PRIMARY KEY, updated_at TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS by_change ON readings (updated_at);
CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


def _encode(decision: Decision) -> tuple[Any, ...]:
    row = vars(decision) | {
        "actions": json.dumps(decision.actions),
        "regions": json.dumps([vars(region) for region in decision.regions]),
    }
    return tuple(row[name] for name in _COLUMNS)


def _decode(row: Sequence[Any]) -> Decision:
    content = dict(zip(_COLUMNS, row, strict=True))
    regions = [read_region(one) for one in json.loads(content["regions"])]
    flags = {name: bool(content[name]) for name in ("is_skipped", "is_control")}
    return Decision(
        **{**content, **flags, "actions": json.loads(content["actions"]), "regions": regions}
    )
