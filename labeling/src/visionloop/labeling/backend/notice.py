"""The state of the training, shown where annotators are: in the project's description."""

from __future__ import annotations

import logging
import threading
import time

from visionloop.core.errors import VisionloopError
from visionloop.core.workspace import Workspace
from visionloop.labeling.backend.jobs import Job
from visionloop.labeling.client import connect
from visionloop.labeling.params import load_params
from visionloop.labeling.project import find_project

__all__ = ["Notice", "sentence_of", "with_notice"]

MARK = "Training: "
PAUSE_SECONDS = 3.0
LONGEST_REASON = 240
log = logging.getLogger(__name__)


class Notice:
    """Writes the newest job into the description, from a thread of its own.

    Parameters
    ----------
    workspace : Workspace
    page : str
        Address of the page of jobs.
    """

    def __init__(self, workspace: Workspace, page: str) -> None:
        self._workspace = workspace
        self._page = page
        self._wanted = ""
        self._shown = ""
        self._changed = threading.Event()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="notice", daemon=True)

    def show(self, jobs: list[Job]) -> None:
        """Show the state of these jobs, newest first, as soon as Label Studio takes it."""
        training = [job for job in jobs if job.kind == "training"]
        self._wanted = f"{sentence_of(training)} ({self._page})" if training else ""
        self._changed.set()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after a last word."""
        self._is_over.set()
        self._changed.set()
        self._thread.join(timeout=10)

    def _watch(self) -> None:
        while True:
            self._changed.wait()
            self._changed.clear()
            if self._wanted and self._wanted != self._shown:
                self._write(self._wanted)
            if self._is_over.is_set():
                return
            time.sleep(PAUSE_SECONDS)

    def _write(self, sentence: str) -> None:
        try:
            client = connect(self._workspace)
            found = find_project(client, load_params(self._workspace)[0])
            text = with_notice(str(found.get("description") or ""), sentence)
            client.patch(f"/api/projects/{found['id']}/", {"description": text})
            self._shown = sentence
        except VisionloopError as error:
            log.warning("the project does not show the training's state: %s", error)


def sentence_of(jobs: list[Job]) -> str:
    """One sentence about the newest jobs of training."""
    current = next((job for job in jobs if not job.is_over), jobs[0])
    if current.state == "queued":
        again = f", {current.reason}" if current.reason else ""
        return f"{MARK}waiting{again}."
    if current.state == "running":
        share = f", {current.fraction:.0%}" if current.fraction else ""
        return f"{MARK}{current.step} of {current.steps}, {current.command}{share}."
    why = f": {_shorten(current.reason)}" if current.reason else ""
    return f"{MARK}{current.state} {current.ended_at}{why}."


def with_notice(description: str, sentence: str) -> str:
    """The description with this sentence as its last line; what people wrote stays."""
    kept = [line for line in description.splitlines() if not line.startswith(MARK)]
    while kept and not kept[-1].strip():
        kept.pop()
    return "\n".join([*kept, sentence])


def _shorten(reason: str) -> str:
    text = " ".join(reason.split())
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 1] + "…"
