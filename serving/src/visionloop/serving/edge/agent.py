"""The edge agent: newest release → sources and cameras → answers → rules → outbox, evidence."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionloop.core.progress import say_step
from visionloop.core.workspace import Workspace
from visionloop.serving.edge.device import Device
from visionloop.serving.edge.line import play_source
from visionloop.serving.edge.live import Live
from visionloop.serving.edge.record.recording import Recorder
from visionloop.serving.edge.record.store import DATABASE_NAME
from visionloop.serving.edge.settings import SettingsFile
from visionloop.serving.edge.updates.model import LoadedModel, load_model
from visionloop.serving.edge.updates.release_source import ReleaseSource, open_releases
from visionloop.serving.edge.updates.smaller_models import SmallerModels
from visionloop.serving.edge.updates.takeover import Updates
from visionloop.serving.edge.watchdog import Watchdog
from visionloop.serving.edge_params import EdgeParams
from visionloop.serving.releases.index import locked
from visionloop.serving.releases.store import fetch_newest

__all__ = ["AgentReport", "run_agent"]


@dataclass(frozen=True)
class AgentReport:
    """What one run of the agent did.

    Attributes
    ----------
    db : Path
        The database with events and frames.
    release : int
        Number of the release that served last.
    frames, events, kept : int
        Analysed, seen by rules, kept as files; in this run.
    seconds : float
    """

    db: Path
    release: int
    frames: int
    events: int
    kept: int
    seconds: float


def run_agent(
    *,
    workspace: Workspace,
    config: Path | None = None,
    max_frames: int | None = None,
    max_seconds: float | None = None,
) -> AgentReport:
    """Play the sources to their ends, then watch the cameras until stopped.

    Started again after an interruption, each source goes on where it stopped. Cameras are
    watched until SIGTERM, Ctrl-C, or ``max_seconds``; SIGHUP, or a change of the file, reads
    the configuration again.

    Parameters
    ----------
    workspace : Workspace
        Events, frames and pictures go to its ``edge`` folder.
    config : Path or None
        A YAML file with the keys of ``serving.edge``; None takes ``params.yaml``.
    max_frames : int or None
        Stop after this many frames of each source.
    max_seconds : float or None
        Watch the cameras for so long.

    Raises
    ------
    ConfigError
        If the configuration is wrong.
    PackageError
        If there is no release that can be verified.
    DataError
        If a source is missing or a file is damaged.
    """
    settings = SettingsFile(workspace, config)
    start = time.monotonic()
    with (
        locked(workspace.edge / "agent.lock", wait=False),
        closing(Device(workspace.edge, workspace.root, settings.params)) as device,
    ):
        device.start(with_page=bool(settings.params.cameras))
        agent = _Agent(workspace, settings, device)
        totals = agent.play_sources(max_frames)
        if settings.params.cameras:
            totals = _add(totals, agent.watch_cameras(max_seconds))
        agent.stop()
        number = agent.release
    seconds = time.monotonic() - start
    return AgentReport(workspace.edge / DATABASE_NAME, number, *totals, seconds)


class _Agent:
    def __init__(self, workspace: Workspace, settings: SettingsFile, device: Device) -> None:
        self._workspace, self._settings, self._device = workspace, settings, device
        self._recorder = Recorder(
            workspace.edge, device.outbox, sends_pictures=bool(settings.params.sinks)
        )
        self._model: LoadedModel | None = None
        self._watchdog = Watchdog()

    @property
    def release(self) -> int:
        """Number of the release that served last."""
        return 0 if self._model is None else self._model.number

    def stop(self) -> None:
        """Tell the supervisor that the agent ends in order."""
        self._watchdog.stop()

    def play_sources(self, max_frames: int | None) -> tuple[int, int, int]:
        """Play the sources one after another; each begins with the newest release."""
        totals = (0, 0, 0)
        for source in self._settings.params.sources:
            done = play_source(
                source,
                params=self._settings.params,
                model=self._newest_model(),
                recorder=self._recorder,
                root=self._workspace.root,
                max_frames=max_frames,
                beat=self._watchdog.beat,
            )
            totals = _add(totals, done)
        return totals

    def watch_cameras(
        self, max_seconds: float | None, ended: threading.Event | None = None
    ) -> tuple[int, int, int]:
        """Watch the cameras until stopped, or until ``ended`` is set."""
        params = self._settings.params
        releases = self._releases()
        updates = Updates(
            folder=self._workspace.edge,
            releases=releases,
            model=self._settings.model,
            params=params,
            report=self._report_update,
        )
        with self._watchdog.patience():
            self._model = updates.open()
        say_step(f"edge: release {self._model.number} of '{self._settings.model}' serves")
        live = Live(
            workspace=self._workspace,
            settings=self._settings,
            updates=updates,
            model=self._model,
            smaller=SmallerModels(params, releases, folder=self._workspace.edge, full=self._model),
            recorder=self._recorder,
            device=self._device,
            watchdog=self._watchdog,
        )
        end = None if max_seconds is None else time.monotonic() + max_seconds
        with _signals(live, ended or threading.Event()) as stopped:
            live.run(lambda: stopped.is_set() or (end is not None and time.monotonic() >= end))
        self._model = live.model
        return live.counts.frames, live.counts.events, live.counts.kept

    def _report_update(self, what: str, facts: dict[str, Any]) -> None:
        payload = {"what": what, "model": self._settings.model, **facts}
        self._device.tell("model_update", payload, priority=1)

    def _releases(self) -> ReleaseSource:
        params, workspace = self._settings.params, self._workspace
        return open_releases(
            params.releases, params.release_server, root=workspace.root, edge=workspace.edge
        )

    def _newest_model(self) -> LoadedModel:
        """The newest release, loaded anew only if it is another one."""
        params, model = self._settings.params, self._settings.model
        with self._watchdog.patience():
            return self._load_newest(params, model)

    def _load_newest(self, params: EdgeParams, model: str) -> LoadedModel:
        release, package = fetch_newest(
            releases=self._releases().refresh(model),
            model=model,
            state=self._workspace.edge / "seen.json",
        )
        if self._model is None or self._model.package.sha256 != package.sha256:
            self._model = load_model(
                params, release, package, cache=self._workspace.edge / "engines"
            )
            say_step(f"edge: release {release.number} of '{model}' serves")
        return self._model


@contextmanager
def _signals(live: Live, stopped: threading.Event) -> Iterator[threading.Event]:
    """SIGTERM ends the watch in order, SIGHUP reads the configuration again.

    Ctrl-C raises KeyboardInterrupt as everywhere. Outside of the main thread nothing is
    changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    def read_again(*_: object) -> None:
        live.should_read_again = True

    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: stopped.set()),
        signal.SIGHUP: signal.signal(signal.SIGHUP, read_again),
    }
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _add(first: tuple[int, int, int], second: tuple[int, int, int]) -> tuple[int, int, int]:
    return first[0] + second[0], first[1] + second[1], first[2] + second[2]
