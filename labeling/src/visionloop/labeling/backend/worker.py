"""Runs one job: its commands one after another, each a process of its own.

The worker is a process apart, so that a training that exhausts the memory takes neither the
backend nor Label Studio with it. It leads a process group: ending the group ends the job.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from visionloop.core.errors import RefusedError, VisionloopError
from visionloop.core.failpoints import failpoint
from visionloop.core.privacy import mask_secrets
from visionloop.core.workspace import Workspace, find_workspace
from visionloop.labeling.backend.jobs import KEPT, Job, JobQueue
from visionloop.labeling.backend.progress import read_fraction
from visionloop.labeling.params import PROGRAMS, load_params
from visionloop.labeling.processes import start_time
from visionloop.labeling.state import state_folder

__all__ = ["commands_of", "log_of", "run_job"]

CLOSING = ("visionloop label thresholds", "visionloop label push")
"""After training, whatever the gate said: new drafts, and with them the order of the queue."""

LAST_LINES = 6
TELL_SECONDS = 0.5


def commands_of(workspace: Workspace, kind: str) -> list[str]:
    """The commands of a kind of job."""
    closing = list(CLOSING)
    if not (workspace.studio_state / "selection.parquet").exists():
        closing.pop()  # nothing was ever pushed
    training = list(load_params(workspace)[1].training_commands) if kind == "training" else []
    return training + closing


def log_of(workspace: Workspace, job: int) -> Path:
    """Where the output of a job is kept."""
    return workspace.studio_state / "jobs" / f"{job}.log"


def run_job(workspace: Workspace, number: int) -> None:
    """Run the commands of a job that was taken from the queue, and note how it ended.

    A command that ends with 3 was refused by a gate: the training is over, the drafts are
    renewed nevertheless.
    """
    queue = JobQueue(workspace)
    job = queue.get(number)
    commands = commands_of(workspace, job.kind)
    queue.update(number, steps=len(commands))
    refusal = ""
    with _open_log(workspace, number) as log:
        for step, command in enumerate(commands, start=1):
            if refusal and command not in CLOSING:
                continue
            if step == len(commands):
                queue.drop_waiting("drafts")  # this command takes the newest model there is now
            queue.update(number, step=step, command=command, fraction=0.0)
            code, last = _run(workspace, queue, job, command, log)
            failpoint("labeling.job")
            if code == RefusedError.exit_code:
                refusal = last
            elif code:
                queue.end(number, "failed", f"{command} ended with {code}: {last}")
                return
    queue.end(number, "refused" if refusal else "done", refusal)


def _run(
    workspace: Workspace, queue: JobQueue, job: Job, command: str, log: IO[str]
) -> tuple[int, str]:
    """Run a command; its exit code and the last lines that it printed."""
    log.write(f"$ {command}\n")
    process = subprocess.Popen(
        _as_arguments(command),
        cwd=workspace.root,
        env={**os.environ, "VISIONLOOP_WORKSPACE": str(workspace.root), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    queue.update(job.id, child=process.pid, child_started=start_time(process.pid))
    assert process.stdout is not None
    last = _follow(process.stdout, log, lambda share: queue.update(job.id, fraction=share))
    return process.wait(), "\n".join(last)


def _follow(output: IO[str], log: IO[str], tell: Callable[[float], None]) -> list[str]:
    """Copy the output to the log, tell the progress, and keep what was said last.

    That is the last line that is not indented, and the lines below it: an error of ours with
    its problems and its next step, or the last line of a traceback.
    """
    last: list[str] = []
    told = 0.0
    for line in output:
        text = mask_secrets(line.rstrip())
        log.write(text + "\n")
        if text and not text[0].isspace():
            last = [text[:500]]
        elif text.strip():
            last[LAST_LINES - 1 :] = [text[:500]]
        share, now = read_fraction(text), time.monotonic()
        if share is not None and now - told >= TELL_SECONDS:
            told = now
            tell(share)
    return last


def _as_arguments(command: str) -> list[str]:
    program, *arguments = shlex.split(command)
    return [sys.executable, "-m", PROGRAMS[program], *arguments]


@contextlib.contextmanager
def _open_log(workspace: Workspace, number: int) -> Iterator[IO[str]]:
    state_folder(workspace)
    path = log_of(workspace, number)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    log_of(workspace, number - KEPT).unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(handle, "a", buffering=1, encoding="utf-8") as log:
        yield log


def _main(root: str, number: str) -> None:
    workspace = find_workspace(Path(root))
    try:
        run_job(workspace, int(number))
    except VisionloopError as error:
        JobQueue(workspace).end(int(number), "failed", mask_secrets(str(error)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
