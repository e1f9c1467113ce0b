"""Starts the workers of the queue, one at a time, and puts right what a kill left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from visionloop.core.privacy import QUIET_ENVIRONMENT
from visionloop.core.workspace import Workspace
from visionloop.labeling.backend.jobs import MOST_ATTEMPTS, Job, JobQueue
from visionloop.labeling.processes import is_running, start_time

__all__ = ["Supervisor"]

LOOK_SECONDS = 0.5
PATIENCE_SECONDS = 5.0


class Supervisor:
    """Watches the queue from a thread of its own.

    Parameters
    ----------
    workspace : Workspace
    queue : JobQueue
    on_change : function
        Called after every look at which something is different, with the newest jobs.
    """

    def __init__(
        self, workspace: Workspace, queue: JobQueue, on_change: Callable[[list[Job]], None]
    ) -> None:
        self._workspace = workspace
        self._queue = queue
        self._on_change = on_change
        self._process: subprocess.Popen[bytes] | None = None
        self._current: Job | None = None
        self._seen: list[Job] = []
        self._wake = threading.Event()
        self._is_over = False
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    def start(self) -> None:
        """Begin; a job that ran when the backend was killed goes on, or is tried again."""
        self._current = self._queue.running()
        self._thread.start()

    def wake(self) -> None:
        """Look at once."""
        self._wake.set()

    def stop(self) -> None:
        """End the thread; the running job is ended too and waits for the next start."""
        self._is_over = True
        self.wake()
        self._thread.join(timeout=PATIENCE_SECONDS * 3)
        if self._current is None:
            return
        job = self._queue.get(self._current.id)
        self._end_processes(job.id)
        self._queue.requeue(job.id, "the backend was stopped", attempts=job.attempts - 1)

    def _watch(self) -> None:
        while not self._is_over:
            self.look()
            self._wake.wait(LOOK_SECONDS)
            self._wake.clear()

    def look(self) -> None:
        """End what was cancelled, recover what was killed, start what waits."""
        if self._current is not None:
            self._look_at(self._queue.get(self._current.id))
        if self._current is None:
            taken = self._queue.take_next()
            if taken is not None:
                self._spawn(taken)
        jobs = self._queue.list()
        if jobs != self._seen:
            self._seen = jobs
            self._on_change(jobs)

    def _look_at(self, job: Job) -> None:
        """Whether the worker of the current job still works on it."""
        if job.state == "cancelled":
            self._end_processes(job.id)
            self._let_go()
        elif job.is_over:
            self._let_go()
        elif not self._is_alive(job):
            job = self._queue.get(job.id)  # it may have ended its job just before
            if not job.is_over:
                self._recover(job)
            self._let_go()

    def _recover(self, job: Job) -> None:
        self._end_processes(job.id)
        why = "its worker was killed"
        if self._process is not None and self._process.returncode is not None:
            why += f" ({_describe(self._process.returncode)})"
        if job.attempts < MOST_ATTEMPTS:
            self._queue.requeue(job.id, f"{why}; tried again", attempts=job.attempts)
        else:
            self._queue.end(job.id, "failed", f"{why}, {job.attempts} times")

    def _spawn(self, job: Job) -> None:
        command = [sys.executable, "-m", "visionloop.labeling.backend.worker"]
        process = subprocess.Popen(
            [*command, str(self._workspace.root), str(job.id)],
            env={**os.environ, **QUIET_ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        began = start_time(process.pid)
        self._queue.update(job.id, worker=process.pid, worker_started=began)
        self._process, self._current = process, job

    def _is_alive(self, job: Job) -> bool:
        if self._process is not None:
            return self._process.poll() is None
        return is_running(job.worker, job.worker_started)

    def _end_processes(self, number: int) -> None:
        """End the worker's process group: SIGTERM, and SIGKILL where that is not enough."""
        job = self._queue.get(number)
        for sign in (signal.SIGTERM, signal.SIGKILL):
            if not _group_is_ours(job):
                break
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.worker, sign)
            deadline = time.monotonic() + PATIENCE_SECONDS
            while time.monotonic() < deadline and _group_is_ours(job):
                if self._process is not None:
                    self._process.poll()
                time.sleep(0.05)

    def _let_go(self) -> None:
        if self._process is not None:
            self._process.wait()
        self._process = self._current = None


def _group_is_ours(job: Job) -> bool:
    """Whether worker or command still run; ids that others got meanwhile do not count."""
    return is_running(job.worker, job.worker_started) or (
        is_running(job.child, job.child_started) and _group_of(job.child) == job.worker
    )


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def _describe(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
