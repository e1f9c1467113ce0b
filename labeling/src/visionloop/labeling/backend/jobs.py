"""The queue of jobs, durable in ``studio/jobs.sqlite``: one runs, the others wait.

A job's states: queued, running, done, refused (by the gate), failed, cancelled.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from typing import Any

from visionloop.core.workspace import Workspace
from visionloop.labeling.state import state_folder

__all__ = ["KEPT", "KINDS", "MOST_ATTEMPTS", "Job", "JobQueue"]

KINDS = ("training", "drafts")
"""Training ends with new drafts; drafts alone follow a release that somebody else made."""

MOST_ATTEMPTS = 2
"""A job whose worker was killed is tried once more."""

KEPT = 200
"""Older jobs that ended are forgotten, and what they printed."""


@dataclass(frozen=True)
class Job:
    """A job as it stands.

    Attributes
    ----------
    id : int
    kind : str
        Row of ``KINDS``.
    state : str
    asked_by : str
    created_at, started_at, ended_at : str
        UTC, RFC 3339; empty before it happened.
    step, steps : int
        Commands begun, and in all.
    command : str
        The one that runs, or ran last.
    fraction : float
        Of that command, in [0, 1].
    reason : str
        Why it failed, was refused or is tried again.
    attempts : int
    worker, worker_started : int, str
        Process, and when the kernel started it.
    child, child_started : int, str
        The command's process.
    """

    id: int
    kind: str
    state: str
    asked_by: str
    created_at: str
    started_at: str
    ended_at: str
    step: int
    steps: int
    command: str
    fraction: float
    reason: str
    attempts: int
    worker: int
    worker_started: str
    child: int
    child_started: str

    @property
    def progress(self) -> float:
        """Share of the whole job that is done, in [0, 1]; commands count alike."""
        if self.state in ("done", "refused"):
            return 1.0
        return min(max(self.step - 1, 0) + self.fraction, self.steps) / max(self.steps, 1)

    @property
    def is_over(self) -> bool:
        """Whether it ended, one way or another."""
        return self.state not in ("queued", "running")


class JobQueue:
    """The jobs of a workspace; every method may be called from any thread or process."""

    def __init__(self, workspace: Workspace) -> None:
        self._path = state_folder(workspace) / "jobs.sqlite"
        with self._open() as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute(_SCHEMA)
        self._path.chmod(0o600)

    def add(self, kind: str, *, asked_by: str) -> Job:
        """Put a job at the end of the queue; one of the kind that waits already is enough."""
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}")
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            waiting = db.execute(
                "SELECT id FROM jobs WHERE kind = ? AND state = 'queued'", (kind,)
            ).fetchone()
            if waiting is None:
                done = db.execute(
                    "INSERT INTO jobs (kind, state, asked_by, created_at) "
                    "VALUES (?, 'queued', ?, ?)",
                    (kind, asked_by, _now()),
                )
                waiting = (done.lastrowid or 0,)
                db.execute(
                    "DELETE FROM jobs WHERE ended_at != '' AND id <= ?", (int(waiting[0]) - KEPT,)
                )
        return self.get(int(waiting[0]))

    def get(self, number: int) -> Job:
        """A job by its number.

        Raises
        ------
        KeyError
            If there is none.
        """
        with self._open() as db:
            row = db.execute(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (number,)).fetchone()
        if row is None:
            raise KeyError(number)
        return Job(*row)

    def list(self, limit: int = 50) -> list[Job]:
        """The newest jobs first."""
        with self._open() as db:
            query = f"SELECT {_COLUMNS} FROM jobs ORDER BY id DESC LIMIT ?"
            return [Job(*row) for row in db.execute(query, (limit,))]

    def running(self) -> Job | None:
        """The job that runs, by what the queue knows."""
        return self._first("running")

    def take_next(self) -> Job | None:
        """The oldest waiting job, now running; None if none waits or one runs already."""
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            if db.execute("SELECT 1 FROM jobs WHERE state = 'running'").fetchone():
                return None
            row = db.execute("SELECT min(id) FROM jobs WHERE state = 'queued'").fetchone()
            if row[0] is None:
                return None
            db.execute(
                "UPDATE jobs SET state = 'running', started_at = ?, attempts = attempts + 1, "
                "step = 0, fraction = 0, worker = 0, worker_started = '' WHERE id = ?",
                (_now(), row[0]),
            )
        return self.get(int(row[0]))

    def update(self, number: int, **values: Any) -> None:
        """Note how far the running job is; what has ended meanwhile stays as it is."""
        assignments = ", ".join(f"{name} = ?" for name in values)
        with self._open() as db:
            db.execute(
                f"UPDATE jobs SET {assignments} WHERE id = ? AND state = 'running'",
                (*values.values(), number),
            )

    def end(self, number: int, state: str, reason: str = "") -> None:
        """Note that the running job ended."""
        self.update(number, state=state, reason=reason, ended_at=_now())

    def drop_waiting(self, kind: str) -> None:
        """Forget the jobs of a kind that wait: their work was done."""
        with self._open() as db:
            db.execute("DELETE FROM jobs WHERE kind = ? AND state = 'queued'", (kind,))

    def requeue(self, number: int, reason: str, *, attempts: int) -> None:
        """Let the running job wait again, after so many attempts that count."""
        self.update(number, state="queued", reason=reason, attempts=attempts)

    def cancel(self, number: int) -> Job:
        """Cancel a job that has not ended; ending its process is the supervisor's.

        Raises
        ------
        KeyError
            If there is no such job.
        """
        with self._open() as db:
            db.execute(
                "UPDATE jobs SET state = 'cancelled', ended_at = ? "
                "WHERE id = ? AND state IN ('queued', 'running')",
                (_now(), number),
            )
        return self.get(number)

    def _first(self, state: str) -> Job | None:
        with self._open() as db:
            query = f"SELECT {_COLUMNS} FROM jobs WHERE state = ? ORDER BY id LIMIT 1"
            row = db.execute(query, (state,)).fetchone()
        return Job(*row) if row else None

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection of one transaction: threads and processes share the file alone."""
        with closing(sqlite3.connect(self._path, timeout=10, isolation_level=None)) as db:
            db.execute("PRAGMA synchronous = FULL")
            try:
                yield db
            except BaseException:
                if db.in_transaction:
                    db.rollback()
                raise
            if db.in_transaction:
                db.commit()


_COLUMNS = ", ".join(one.name for one in fields(Job))
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL,
  state TEXT NOT NULL,
  asked_by TEXT NOT NULL,
  created_at TEXT NOT NULL,
  started_at TEXT NOT NULL DEFAULT '',
  ended_at TEXT NOT NULL DEFAULT '',
  step INTEGER NOT NULL DEFAULT 0,
  steps INTEGER NOT NULL DEFAULT 0,
  command TEXT NOT NULL DEFAULT '',
  fraction REAL NOT NULL DEFAULT 0,
  reason TEXT NOT NULL DEFAULT '',
  attempts INTEGER NOT NULL DEFAULT 0,
  worker INTEGER NOT NULL DEFAULT 0,
  worker_started TEXT NOT NULL DEFAULT '',
  child INTEGER NOT NULL DEFAULT 0,
  child_started TEXT NOT NULL DEFAULT ''
)
"""


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
