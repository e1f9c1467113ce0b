"""One camera at work: a thread of its own, so that a slow camera holds up no other."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone

from visionloop.core.entities import Frame
from visionloop.core.errors import DataError, VisionloopError
from visionloop.core.privacy import mask_secrets
from visionloop.core.progress import say_step
from visionloop.core.workspace import Workspace
from visionloop.data.collection.cameras import Camera, source_params
from visionloop.data.collection.keeper import Keeper, Outcome
from visionloop.data.collection.schedule import is_open
from visionloop.serving.sources.frames import Watcher
from visionloop.serving.sources.table import Source, open_source

__all__ = ["CameraWorker", "Tally"]

SAY_AGAIN_S = 60.0
"""A fault that lasts is told again after so long."""


@dataclass
class Tally:
    """What happened at one camera in this run.

    Attributes
    ----------
    counts : Counter
        kept, similar, known (the same bytes were there), over_quota, missed (looks without
        a picture), faults, no_space and misfit (frames lost to a full disk, or of another
        size than the calibration).
    fault : str
        The last fault, until a picture comes.
    last_kept : str
        UTC, RFC 3339.
    """

    counts: Counter[str] = field(default_factory=Counter)
    fault: str = ""
    last_kept: str = ""


class CameraWorker(ABC):
    """Takes the frames of one camera whenever it is told to look; see its two subclasses.

    Parameters
    ----------
    camera : Camera
    site : str
        Where the camera names none.
    workspace : Workspace
    keeper : Keeper
    look_seconds : float
        Longest time that one look waits for a live camera.
    """

    def __init__(
        self, camera: Camera, site: str, workspace: Workspace, keeper: Keeper, look_seconds: float
    ) -> None:
        self.camera, self.tally = camera, Tally()
        self._site, self._workspace, self._keeper = camera.site or site, workspace, keeper
        self._look_seconds = look_seconds
        self._place = f"next frame of {camera.id}"
        self._next = keeper.journal.place(self._place)
        self._wake = threading.Condition()
        self._asked_by = ""
        self._is_playing = False
        self._is_stopping = False
        self._said_at = 0.0
        self._thread = threading.Thread(target=self._run, name=camera.id, daemon=True)

    def start(self) -> None:
        """Begin to wait for looks."""
        self._thread.start()

    @property
    def is_busy(self) -> bool:
        """Whether it looks at its camera now, or is about to."""
        return bool(self._asked_by) or self._is_playing

    def look(self, asked_by: str = "schedule") -> None:
        """Look at the camera, if its shift is on and its quota is not used up.

        While it looks already, that look goes on instead.
        """
        now = datetime.now(timezone.utc)
        if self.is_busy or not is_open(self.camera.schedule, now):
            return
        if self._keeper.quota_left(self.camera, now) == 0:
            self.tally.counts["over_quota"] += 1
            return
        self._ask(asked_by)

    def burst(self) -> None:
        """Look now, also outside of the shifts."""
        self._ask("burst")

    def stop(self) -> None:
        """End after the frame that is at work."""
        with self._wake:
            self._is_stopping = True
            self._wake.notify()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; False if a library still holds the thread."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _ask(self, asked_by: str) -> None:
        with self._wake:
            self._asked_by = asked_by
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._is_stopping or bool(self._asked_by))
                if self._is_stopping:
                    return
                self._is_playing, asked_by, self._asked_by = True, self._asked_by, ""
            try:
                self._play(asked_by)
            except VisionloopError as error:
                self._note_fault(f"camera '{self.camera.id}': {'; '.join(error.problems)}")
            except Exception as error:  # one camera's defect must not end the others' work
                reason = mask_secrets(f"unexpected failure: {type(error).__name__}: {error}")
                self._note_fault(f"camera '{self.camera.id}': {reason}")
            finally:
                self._is_playing = False

    @abstractmethod
    def _play(self, asked_by: str) -> None:
        """One look at the camera: schedule, burst or once."""

    def _take(self, frame: Frame, collected_by: str) -> Outcome | None:
        """Hand a frame to the keeper and count what became of it; None if it does not fit.

        Raises
        ------
        NoSpaceError
            If the disk is full.
        """
        try:
            outcome = self._keeper.take(frame, self.camera, collected_by)
        except DataError as error:
            self.tally.counts["misfit"] += 1
            if self.tally.fault != str(error):
                self.tally.fault = str(error)
                say_step(f"collect: {error}")
            return None
        self.tally.fault = ""
        self.tally.counts[outcome] += 1
        if outcome == "kept":
            self.tally.last_kept = frame.captured_at
        return outcome

    def _is_used_up(self) -> bool:
        return self._keeper.quota_left(self.camera, datetime.now(timezone.utc)) == 0

    def _note_fault(self, reason: str, wait_s: float | None = None) -> None:
        self.tally.counts["faults"] += 1
        now = time.monotonic()
        if reason == self.tally.fault and now < self._said_at + SAY_AGAIN_S:
            return
        self.tally.fault, self._said_at = reason, now
        after = "" if wait_s is None else f"; next attempt in {wait_s:.1f} s"
        say_step(f"collect: {reason}{after}")

    def _open(
        self, should_stop: Callable[[], bool], is_known: Callable[..., bool] | None = None
    ) -> Source:
        hooks = {} if is_known is None else {"is_known": is_known}
        watcher = Watcher(should_stop=should_stop, on_fault=self._note_fault, **hooks)
        return open_source(
            source_params(self.camera), site=self._site, root=self._workspace.root, watcher=watcher
        )
