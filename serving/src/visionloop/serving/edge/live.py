"""Cameras that are watched at once: newest frames, the model, rules, events, until stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from visionloop.core.entities import Prediction
from visionloop.core.errors import PackageError, VisionloopError
from visionloop.core.progress import say_step
from visionloop.core.workspace import Workspace
from visionloop.serving.edge.cameras.fleet import Fleet
from visionloop.serving.edge.cameras.messages import Look, Watch
from visionloop.serving.edge.device import Device
from visionloop.serving.edge.device_figures import DeviceFigures
from visionloop.serving.edge.live_counts import LiveCounts
from visionloop.serving.edge.record.evidence import sweep
from visionloop.serving.edge.record.live_records import LiveRecords
from visionloop.serving.edge.record.recording import Recorder
from visionloop.serving.edge.settings import SettingsFile
from visionloop.serving.edge.station import Station, rules_of
from visionloop.serving.edge.updates.model import LoadedModel
from visionloop.serving.edge.updates.smaller_models import SmallerModels, describe_form
from visionloop.serving.edge.updates.takeover import Updates
from visionloop.serving.edge.watchdog import Watchdog
from visionloop.serving.edge_params import EdgeParams

__all__ = ["Live"]

TEND_S = 0.2
LOOK_AT_FILES_S = 1.0
SWEEP_S = 60.0
DEVICE_S = 1.0
WAIT_S = 0.1
MOTION_EVERY_S = 30.0
MAX_BATCH = 16
FOLLOW_S = 5.0
"""So long after something was seen, key frames of an idle camera are looked at."""


class Live:
    """Watches the cameras of a configuration.

    Parameters
    ----------
    workspace : Workspace
    settings : SettingsFile
        Read again when it changes.
    updates : Updates
        Opened; the model that serves comes from it, and those that follow.
    model : LoadedModel
        The one that it opened.
    recorder : Recorder
    smaller : SmallerModels
        What answers under pressure.
    device : Device
        Outbox, ladder, page; ticked once a second.
    watchdog : Watchdog or None
        Told at each turn of the loop, and so of no turn that never ends.

    Raises
    ------
    ConfigError
        If a camera or its rules do not fit the model.
    """

    def __init__(
        self,
        *,
        workspace: Workspace,
        settings: SettingsFile,
        updates: Updates,
        model: LoadedModel,
        smaller: SmallerModels,
        recorder: Recorder,
        device: Device,
        watchdog: Watchdog | None = None,
    ) -> None:
        self._workspace, self._settings, self.model = workspace, settings, model
        self._updates, self._smaller = updates, smaller
        self._recorder, self._device = recorder, device
        self._watchdog = watchdog or Watchdog()
        self.counts = LiveCounts()
        self._records = LiveRecords(recorder, settings, device.ladder, self.counts)
        self._stations = self.make_stations(settings.params, model)
        self._frame_ms = 0.0
        self._due = {"tend": 0.0, "files": 0.0, "sweep": 0.0, "device": 0.0}
        self._told_motion: dict[str, float] = {}
        self._pace = 1.0
        self.fleet = Fleet(settings.params.cameras_per_process, self._records.note_clip)
        self.should_read_again = False

    def make_stations(self, params: EdgeParams, model: LoadedModel) -> dict[str, Station]:
        """The stations of a configuration with a model.

        Raises
        ------
        ConfigError
            If they do not fit.
        """
        root = self._workspace.root
        return {
            camera.name: Station(camera, rules_of(camera, params.rules), model.manifest, root)
            for camera in params.cameras
        }

    def run(self, should_stop: Callable[[], bool]) -> None:
        """Watch until told to stop, or until every camera was a file that has ended."""
        self.fleet.set_watches(self._watches(self._settings.params))
        try:
            while not should_stop():
                self._tend()
                params = self._settings.params
                now = time.monotonic()
                self._drop_older(now, params.max_age_s)
                looks = self.fleet.take(self._batch_size(), WAIT_S)
                if looks:
                    self._analyse(looks)
                elif self.fleet.has_ended():
                    return
        finally:
            self.fleet.close()
            self._updates.close()
            self._smaller.close()

    def _drop_older(self, now: float, max_age_s: float) -> None:
        dropped = self.fleet.drop_older(now - max_age_s)
        self.counts.too_old += dropped
        self.counts.ages_s.extend([1.25 * max_age_s] * dropped)

    def _tend(self) -> None:
        if self._is_due("tend", TEND_S):
            self._watchdog.beat()
            self.fleet.tend()
            self._choose_form()
            self._update()
        is_asked = self.should_read_again
        if self._is_due("files", LOOK_AT_FILES_S) and (is_asked or self._settings.has_changed()):
            self.should_read_again = False
            self._read_again()
        if self._is_due("device", DEVICE_S):
            self._tick_device()
        if self._is_due("sweep", SWEEP_S):
            sweep(self._recorder.folder, self._settings.params.evidence)

    def _tick_device(self) -> None:
        """Let the device judge itself, and do what is left to do."""
        ladder = self._device.ladder
        ladder.missing = self._smaller.missing
        self._device.tick(self._figures())
        wants_pictures = bool(self._settings.params.sinks)
        self._recorder.sends_pictures = wants_pictures and ladder.allows("thumbnails")
        if ladder.pace != self._pace:
            self._pace = ladder.pace
            self.fleet.set_pace(self._pace)

    def _choose_form(self) -> None:
        """Let a smaller model answer, or the full one again, as the ladder wants it."""
        before = self._smaller.answering
        if self._smaller.choose(self._device.ladder.allows) is not before:
            self._frame_ms = 0.0
            form = describe_form(self.model, self._smaller.answering)
            say_step(f"edge: answering with: {form}")
            self._device.tell("model_form", {"form": form, "release": self.model.number})

    def _update(self) -> None:
        """Let another model answer from the next frame on, where it is time for that.

        Not while a smaller one answers: the shadow would compare with it, and cost more.
        """
        if self._smaller.answering is not self.model:
            return
        params = self._settings.params
        model = self._updates.step(lambda new: self.make_stations(params, new))
        if model is not None:
            self._stations = self.make_stations(params, model)
            self.model, self._frame_ms = model, 0.0
            self._smaller.set_full(model)
            say_step(f"edge: release {model.number} serves")

    def _is_due(self, what: str, period_s: float) -> bool:
        now = time.monotonic()
        if now < self._due[what]:
            return False
        self._due[what] = now + period_s
        return True

    def _read_again(self) -> None:
        """Take over a changed configuration as a whole, or not at all."""
        before = self._settings.params
        if not self._settings.read_again():
            return
        params = self._settings.params
        try:
            stations = self.make_stations(params, self.model)
        except VisionloopError as error:
            say_step(f"edge: the new configuration is wrong, the old one stays: {error}")
            self._settings.params = before
            return
        for name, station in self._stations.items():
            # Who did not change keeps its objects and what its rules remember.
            if name in stations and stations[name].is_like(station):
                stations[name] = station
        self._stations = stations
        self.fleet.set_watches(self._watches(params))
        say_step(f"edge: the configuration changed, {len(stations)} cameras")

    def _watches(self, params: EdgeParams) -> dict[str, Watch]:
        return {
            one.name: Watch(
                one,
                one.gate or params.gate,
                params.evidence,
                params.site,
                self._workspace.root,
                health=params.health,
            )
            for one in params.cameras
        }

    def _batch_size(self) -> int:
        """So many frames that a batch takes half of what a frame may: times vary."""
        if not self._frame_ms:
            return 1
        fitting = self._settings.params.service_ms / 2 // self._frame_ms
        return int(min(MAX_BATCH, max(1, fitting)))

    def _analyse(self, looks: list[Look]) -> None:
        looks = [look for look in looks if look.name in self._stations]
        if not self._device.ladder.allows("model"):
            self._tell_motion(looks)
            return
        start, worked = time.perf_counter(), time.thread_time()
        answers = self._answer(looks)
        shared_ms = (time.perf_counter() - start) * 1e3
        shared_work_ms = (time.thread_time() - worked) * 1e3
        if looks:
            each = shared_ms / len(looks)
            self._frame_ms = each if not self._frame_ms else 0.8 * self._frame_ms + 0.2 * each
        for look, prediction in zip(looks, answers, strict=True):
            if prediction is None:
                continue
            began, worked = time.perf_counter(), time.thread_time()
            station = self._stations[look.name]
            seen = station.take(
                look.image, prediction, seconds=look.monotonic, moment=datetime.now()
            )
            self.counts.service_ms.append(shared_ms + (time.perf_counter() - began) * 1e3)
            self.counts.work_ms.append(shared_work_ms + (time.thread_time() - worked) * 1e3)
            self.counts.frames += 1
            self.counts.analysed[look.name] = look.monotonic
            self.counts.ages_s.append(time.monotonic() - look.monotonic)
            self._device.gallery.note(
                look.name,
                look.image,
                seen.prediction,
                self.model.manifest.classes,
                len(seen.events),
            )
            if station.has_objects(seen.prediction):
                self.fleet.follow(look.name, time.monotonic() + FOLLOW_S)
            self._records.record(
                look,
                station.camera,
                seen,
                package=self._smaller.answering.package.sha256,
                classes=self.model.manifest.classes,
                order_clip=self.fleet.order_clip,
            )

    def _answer(self, looks: list[Look]) -> list[Prediction | None]:
        """Answers of the model; None for a frame on which it fails."""
        images = [self._stations[look.name].crop(look.image) for look in looks]
        start = time.perf_counter()
        is_full = self._smaller.answering is self.model
        try:
            answers = self._smaller.answering.predictor.predict(images)
            seconds = time.perf_counter() - start
            if is_full:
                self._updates.note_time(1e3 * seconds / max(1, len(images)))
                if self._updates.shadow is not None:
                    self._updates.shadow.look(images, answers, seconds)
            return list(answers)
        except PackageError as error:
            if len(looks) > 1:  # one frame must not take the others with it
                return [one for look in looks for one in self._answer([look])]
            self.counts.model_faults += 1
            self.counts.failed |= {look.name: look.monotonic for look in looks}
            if is_full:
                self._updates.note_fault()
            if self.counts.model_faults == 1:
                say_step(f"edge: the model fails on a frame of '{looks[0].name}': {error}")
            return [None] * len(looks)

    def _tell_motion(self, looks: list[Look]) -> None:
        """The last rung of the ladder: no model answers, motion alone is told."""
        now = time.monotonic()
        for look in looks:
            self._device.gallery.note(look.name, look.image, None, (), 0)
            last = self._told_motion.get(look.name, float("-inf"))
            if look.reason == "motion" and now - last >= MOTION_EVERY_S:
                self._told_motion[look.name] = now
                self._device.tell("motion", {"camera": look.name}, priority=1)

    def _figures(self) -> DeviceFigures:
        held = sum(status.clip_bytes for status in self.fleet.status.values())
        ring = round(1e6 * self._settings.params.evidence.ring_megabytes)
        answering = self._smaller.answering
        return self.counts.as_figures(
            cameras=dict(self.fleet.status),
            model=self._settings.model,
            package=answering.package.sha256,
            form=describe_form(self.model, answering),
            release=self.model.number,
            queues={
                "frames": (len(self.fleet.mailbox), len(self._stations)),
                "clip_bytes": (held, ring * len(self._stations)),
            },
            restarts=self.fleet.restarts,
            replaced=dict(self.fleet.replaced),
        )
