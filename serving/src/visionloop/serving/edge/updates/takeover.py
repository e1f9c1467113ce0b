"""How a new release takes over on a device: at any moment the old one serves, or the new one.

Look at the index → copy → verify → load beside the old one → golden images → shadow → switch →
probation → good. What fails before the switch is rejected; what fails in probation is rolled
back. The state is one small file that is replaced as a whole, so that a device that is killed
anywhere starts with a release that was verified.
"""

from __future__ import annotations

import queue
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from visionloop.core.errors import PackageError, VisionloopError
from visionloop.core.failpoints import failpoint
from visionloop.core.files import replace_folder
from visionloop.core.progress import say_step
from visionloop.serving import signing
from visionloop.serving.edge.updates.model import LoadedModel, load_model
from visionloop.serving.edge.updates.model_state import (
    STATE_NAME,
    ModelState,
    read_state,
    write_state,
)
from visionloop.serving.edge.updates.release_source import ReleaseSource
from visionloop.serving.edge.updates.shadow import Shadow
from visionloop.serving.edge_params import EdgeParams
from visionloop.serving.engines.record import ENGINE_SIGNATURE
from visionloop.serving.package import load_package
from visionloop.serving.releases.golden import GOLDEN_NAME, check_golden
from visionloop.serving.releases.index import INDEX_NAME
from visionloop.serving.releases.store import Release, fetch_newest

__all__ = ["Updates"]

COPIES_NAME = "models"
ENGINES_NAME = "engines"
MAX_STARTS = 2
"""A release in probation with which the agent was started more often is what ended it."""

TIMES = 20
"""Frames after which the time that a model takes in probation is judged."""

Report = Callable[[str, dict[str, Any]], None]


class Updates:
    """The releases of one device.

    Parameters
    ----------
    folder : Path
        Of the agent: ``model.json``, ``models/<n>/`` and ``seen.json`` are below it.
    releases : ReleaseSource
        Where the signed index is.
    model : str
        Name of the releases.
    params : EdgeParams
    report : function (what, facts)
        Told of each switch, rejection and rollback; from the caller's thread.
    """

    def __init__(
        self,
        *,
        folder: Path,
        releases: ReleaseSource,
        model: str,
        params: EdgeParams,
        report: Report,
    ) -> None:
        self._folder, self._releases, self._model = folder, releases, model
        self._params, self._report = params, report
        self._state = read_state(folder)
        self._next_look = 0.0
        self._ready: queue.Queue[LoadedModel | tuple[int, str]] = queue.Queue(maxsize=1)
        self._worker: threading.Thread | None = None
        self._probation_end = 0.0
        self._is_told = False
        self._index_problem = ""
        self._has_index = False
        self._faults = 0
        self._times_ms: list[float] = []
        self._limit_ms = float("inf")
        self._serving: LoadedModel | None = None
        self._before: LoadedModel | None = None
        self.shadow: Shadow | None = None

    @property
    def state(self) -> ModelState:
        """Which release serves."""
        return self._state

    def open(self) -> LoadedModel:
        """The model to begin with; see :meth:`_choose`."""
        self._serving = self._choose()
        return self._serving

    def _choose(self) -> LoadedModel:
        """The model to begin with.

        A release in probation that the agent was started with too often is rolled back; one
        that cannot be loaded gives way to the one before. The first start, and one on which
        nothing can be loaded, take the newest release.

        Raises
        ------
        PackageError
            If there is no release that can be verified.
        """
        if self._state.phase == "probation":
            self._write_state(starts=self._state.starts + 1)
            if self._state.starts > MAX_STARTS:
                self._roll_back("the agent ended again and again with it")
            self._probation_end = time.monotonic() + self._params.updates.probation_s
        for number in (self._state.current, self._state.previous):
            if not number:
                continue
            try:
                loaded = self._load(number)
            except VisionloopError as error:
                say_step(f"edge: release {number} on this device cannot be used: {error}")
                continue
            if number != self._state.current:
                self._roll_back(f"release {self._state.current} cannot be loaded")
            return loaded
        loaded = self._load_first()
        self._write_state(current=loaded.number, previous=0, phase="good", starts=0)
        return loaded

    def step(self, fits: Callable[[LoadedModel], object]) -> LoadedModel | None:
        """Go on with an update; call it often. It takes no time of its own.

        Parameters
        ----------
        fits : function (LoadedModel)
            Raises VisionloopError if cameras and rules do not fit the new model.

        Returns
        -------
        LoadedModel or None
            The model that must answer from now on, where that changed.
        """
        now = time.monotonic()
        if self._state.phase == "probation":
            return self._step_probation(now)
        if self.shadow is not None:
            return self._step_shadow()
        if self._worker is None and now >= self._next_look:
            self._next_look = now + self._params.updates.look_s
            self._worker = threading.Thread(target=self._prepare, name="update", daemon=True)
            self._worker.start()
        try:
            found = self._ready.get_nowait()
        except queue.Empty:
            return None
        self._worker = None
        if isinstance(found, tuple):
            if found[0]:
                self._reject(*found)
            else:
                self._tell_index(found[1])
            return None
        try:
            fits(found)
        except VisionloopError as error:
            self._reject(found.number, f"does not fit the cameras: {error.problems[0]}")
            return None
        self.shadow = Shadow(found, self._params)
        return None

    def note_fault(self) -> None:
        """The model that serves failed on a frame."""
        self._faults += 1

    def note_time(self, milliseconds: float) -> None:
        """The model that serves took so long for a frame."""
        if self._state.phase == "probation" and len(self._times_ms) < TIMES:
            self._times_ms.append(milliseconds)

    def close(self) -> None:
        """Wait for a preparation that is under way, so that it leaves nothing half copied."""
        self._releases.close()
        if self._worker is not None:
            self._worker.join(60)

    def _step_shadow(self) -> LoadedModel | None:
        assert self.shadow is not None
        verdict = self.shadow.verdict()
        if verdict is None:
            return None
        shadow, self.shadow = self.shadow, None
        if verdict:
            self._reject(shadow.model.number, verdict)
            return None
        failpoint("updates.before_switch")
        before = self._state.current
        self._write_state(current=shadow.model.number, previous=before, phase="probation", starts=0)
        failpoint("updates.after_switch")
        self._faults, self._times_ms = 0, []
        self._limit_ms = self._params.updates.max_slowdown * shadow.old_ms
        self._before, self._serving = self._serving, shadow.model
        self._probation_end = time.monotonic() + self._params.updates.probation_s
        self._report("switched", {"number": shadow.model.number, "before": before, **shadow.facts})
        return shadow.model

    def _step_probation(self, now: float) -> LoadedModel | None:
        reason = ""
        if self._faults >= self._params.updates.max_faults:
            reason = f"failed {self._faults} times in probation"
        elif len(self._times_ms) >= TIMES and np.median(self._times_ms) > self._limit_ms:
            reason = f"takes {np.median(self._times_ms):.0f} ms a frame"
        if reason:
            self._roll_back(reason)
            self._serving = self._before or self._load(self._state.current)
            return self._serving
        if now >= self._probation_end:
            self._write_state(phase="good", starts=0)
            self._before = None
            failpoint("updates.after_good")
            self._remove_old_copies()
            self._report("good", {"number": self._state.current})
        return None

    def _prepare(self) -> None:
        """In a thread: look, copy, verify, load, golden images. Nothing serves yet."""
        number = 0
        try:
            release = self._newest()
            number = release.number
            if number == self._state.current or str(number) in self._state.rejected:
                self._ready.put((0, ""))
                return
            self._copy(release)
            loaded = self._load(number)
            self._check_golden(loaded)
            self._ready.put(loaded)
        except VisionloopError as error:
            # Without a number the index itself is wrong: that may pass, nothing is rejected.
            if not number:
                say_step(f"edge: no look at the releases: {error}")
            is_news = number or (isinstance(error, PackageError) and self._has_index)
            self._ready.put((number, str(error.problems[0]) if is_news else ""))
        except OSError as error:
            say_step(f"edge: the new release could not be copied: {error}")
            self._ready.put((0, ""))

    def _load_first(self) -> LoadedModel:
        """The newest release; from where it is, if this device's disk cannot be written."""
        release = self._newest()
        try:
            self._copy(release)
        except OSError as error:
            say_step(f"edge: release {release.number} serves without a copy of its own: {error}")
            package = load_package(release.package)
            return load_model(self._params, release, package, cache=self._folder / ENGINES_NAME)
        return self._load(release.number)

    def _newest(self) -> Release:
        self._has_index = True
        folder = self._releases.refresh(self._model)
        self._has_index = (folder / INDEX_NAME).is_file()
        release, _ = fetch_newest(
            releases=folder, model=self._model, state=self._folder / "seen.json"
        )
        return release

    def _copy(self, release: Release) -> None:
        """Copy a release to this device; it is there as a whole, or not at all."""
        with replace_folder(self._copy_of(release.number)) as staging:
            shutil.copytree(release.package, staging / "package", symlinks=True)
            if release.engine is not None:
                shutil.copytree(release.engine, staging / "engine", symlinks=True)
            failpoint("updates.copied")
            copied = load_package(staging / "package")
            if copied.sha256 != release.package_sha256:
                raise PackageError(str(release.package), "changed while it was copied")

    def _load(self, number: int) -> LoadedModel:
        """Load this device's copy of a release, which is verified again."""
        folder = self._copy_of(number)
        package = load_package(folder / "package")
        release = Release(self._model, number, folder, package.sha256, "")
        return load_model(self._params, release, package, cache=self._folder / ENGINES_NAME)

    def _check_golden(self, loaded: LoadedModel) -> None:
        engine = self._copy_of(loaded.number) / "engine"
        if not (engine / GOLDEN_NAME).is_dir():
            return
        signing.verify_folder(engine, keys=signing.trusted_keys(), signature_name=ENGINE_SIGNATURE)
        check_golden(engine / GOLDEN_NAME, loaded.predictor)

    def _copy_of(self, number: int) -> Path:
        return self._folder / COPIES_NAME / str(number)

    def _reject(self, number: int, reason: str) -> None:
        rejected = {**self._state.rejected, str(number): reason}
        self._write_state(rejected=rejected)
        say_step(f"edge: release {number} is rejected: {reason}")
        self._report("rejected", {"number": number, "reason": reason})
        self._remove_old_copies()

    def _tell_index(self, problem: str) -> None:
        """Once for each problem: an old or changed index is news for whoever runs the device."""
        if problem and problem != self._index_problem:
            self._report("index refused", {"reason": problem})
        self._index_problem = problem

    def _roll_back(self, reason: str) -> None:
        bad, good = self._state.current, self._state.previous
        rejected = {**self._state.rejected, str(bad): reason}
        self._write_state(current=good, previous=0, phase="good", starts=0, rejected=rejected)
        failpoint("updates.rolled_back")
        say_step(f"edge: release {bad} is rolled back to {good}: {reason}")
        self._report("rolled back", {"number": bad, "to": good, "reason": reason})

    def _remove_old_copies(self) -> None:
        """Keep what serves and what it would be rolled back to."""
        kept = {str(self._state.current), str(self._state.previous)}
        for folder in (self._folder / COPIES_NAME).glob("*"):
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def _write_state(self, **changes: Any) -> None:
        self._state = self._state.model_copy(update=changes)
        try:
            write_state(self._folder, self._state)
        except OSError as error:
            # What serves now goes on; a restart begins with what the file says.
            if not self._is_told:
                say_step(f"edge: {STATE_NAME} cannot be written: {error}")
            self._is_told = True
