"""The verb that collects from cameras: schedules, workers, bursts, and the table at the end."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from visionloop.core.errors import UnreachableError
from visionloop.core.files import write_json
from visionloop.core.progress import say_step
from visionloop.core.workspace import Workspace
from visionloop.data.collection.bursts import BurstWatch
from visionloop.data.collection.cameras import CONFIG_NAME, load_cameras
from visionloop.data.collection.cameras_page import write_cameras_page
from visionloop.data.collection.file_worker import FileWorker
from visionloop.data.collection.journal import collection_folder
from visionloop.data.collection.keeper import Keeper
from visionloop.data.collection.live_worker import LiveWorker
from visionloop.data.collection.schedule import day_of, make_trigger
from visionloop.data.collection.worker import CameraWorker
from visionloop.data.params import load_params
from visionloop.serving.releases.index import locked

__all__ = ["CameraReport", "CamerasReport", "collect_from_cameras"]

TICK_S = 0.5
STATUS_S = 10.0
END_S = 10.0
MISFIRE_S = 30


@dataclass(frozen=True)
class CameraReport:
    """What one camera gave in this run.

    Attributes
    ----------
    camera, site, kind : str
    kept, similar, known : int
        New samples; frames too similar to a kept one; frames whose very bytes were there.
    over_quota, missed, faults : int
        Looks and frames that the quota stopped; looks without a picture; faults.
    no_space, misfit : int
        Frames lost to a full disk; frames of another size than the calibration.
    kept_today : int
        Of all runs of this day.
    quota : int or None
    last_kept, fault : str
        When the last sample was taken; the fault that lasts, if any.
    """

    camera: str
    site: str
    kind: str
    kept: int
    similar: int
    known: int
    over_quota: int
    missed: int
    faults: int
    no_space: int
    misfit: int
    kept_today: int
    quota: int | None
    last_kept: str
    fault: str

    @property
    def answered(self) -> bool:
        """Whether any frame came."""
        return self.kept + self.similar + self.known + self.over_quota > 0


@dataclass(frozen=True)
class CamerasReport:
    """What all cameras gave, how many samples are new in the table, and for how long it ran."""

    cameras: tuple[CameraReport, ...]
    added: int
    seconds: float

    @property
    def kept(self) -> int:
        """Samples of all cameras in this run."""
        return sum(row.kept for row in self.cameras)


def collect_from_cameras(
    *,
    workspace: Workspace,
    config: Path | None = None,
    once: bool = False,
    stop: threading.Event | None = None,
) -> CamerasReport:
    """Collect from the cameras of ``cameras.yaml`` until told to stop.

    Parameters
    ----------
    workspace : Workspace
    config : Path or None
        Another file of cameras.
    once : bool
        Look once at every camera whose shift is on, whatever its times, and return.
    stop : Event or None
        Ends the collection from another thread; Ctrl-C and SIGTERM end it too.

    Returns
    -------
    CamerasReport
        Also in ``reports/collect/cameras.json``, and as a page with the newest pictures in
        ``index.html`` beside it.

    Raises
    ------
    ConfigError
        If the file, a password's place, a calibration or a redaction is wrong: all before
        the first picture is taken.
    InputError
        If another collection runs in this workspace.
    UnreachableError
        With ``once``, if no camera at all could be reached.
    """
    project, data = load_params(workspace)
    cameras = load_cameras(config or workspace.root / CONFIG_NAME)
    params = data.collection
    begin = time.monotonic()
    ended = stop or threading.Event()
    with locked(collection_folder(workspace) / "collect.lock", wait=False):
        keeper = Keeper(workspace, cameras.cameras, params, project.classes)
        with closing(keeper):
            added = keeper.merge_if_due(now=True)
            workers: list[CameraWorker] = [
                (LiveWorker if camera.is_live else FileWorker)(
                    camera, cameras.site, workspace, keeper, params.look_seconds
                )
                for camera in cameras.cameras
            ]
            for worker in workers:
                worker.start()
            bursts = BurstWatch(workspace, keeper.journal, params.trigger_seconds)
            with _signals_set(ended):
                if once:
                    added += _look_once(workers, keeper, ended)
                else:
                    added += _follow_schedules(workers, keeper, bursts, ended)
            _end(workers)
            added += keeper.merge_if_due(now=True)
            rows = tuple(_report(worker, cameras.site, keeper) for worker in workers)
    report = CamerasReport(rows, added, time.monotonic() - begin)
    write_json(workspace.reports / "collect" / "cameras.json", asdict(report))
    write_cameras_page(report, workspace)
    _refuse_silence(report, once, ended)
    return report


def _look_once(workers: list[CameraWorker], keeper: Keeper, ended: threading.Event) -> int:
    added = 0
    for worker in workers:
        worker.look("once")
    while any(worker.is_busy for worker in workers) and not ended.wait(TICK_S / 5):
        added += keeper.merge_if_due()
    return added


def _follow_schedules(
    workers: list[CameraWorker], keeper: Keeper, bursts: BurstWatch, ended: threading.Event
) -> int:
    by_id = {worker.camera.id: worker for worker in workers}
    cameras = [worker.camera for worker in workers]
    added, say_at = 0, time.monotonic() + STATUS_S
    with _scheduled(workers):
        say_step(f"collect: {len(workers)} cameras; Ctrl-C ends")
        while not ended.wait(TICK_S):
            added += keeper.merge_if_due()
            for camera_id in bursts.cameras_to_burst(cameras):
                say_step(f"collect: burst of camera '{camera_id}'")
                by_id[camera_id].burst()
            if time.monotonic() >= say_at:
                say_at += STATUS_S
                say_step(_status(workers))
    return added


@contextmanager
def _scheduled(workers: list[CameraWorker]) -> Iterator[None]:
    """APScheduler calls the workers; a look is only a word to the worker's own thread."""
    from apscheduler.schedulers.background import BackgroundScheduler  # type: ignore[import-untyped]

    scheduler = BackgroundScheduler(
        timezone=timezone.utc,
        job_defaults={"coalesce": True, "misfire_grace_time": MISFIRE_S, "max_instances": 1},
    )
    for worker in workers:
        first = {} if worker.camera.schedule.cron else {"next_run_time": _now()}
        scheduler.add_job(worker.look, make_trigger(worker.camera.schedule), **first)
    scheduler.start()
    try:
        yield
    finally:
        scheduler.shutdown(wait=False)


@contextmanager
def _signals_set(ended: threading.Event) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the collection in order; a second one at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(_signal: int, _frame: Any) -> None:
        if ended.is_set():
            raise KeyboardInterrupt
        ended.set()

    before: dict[signal.Signals, Callable[..., Any] | int | None] = {
        one: signal.signal(one, end) for one in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _end(workers: list[CameraWorker]) -> None:
    for worker in workers:
        worker.stop()
    deadline = time.monotonic() + END_S
    for worker in workers:
        if not worker.join(max(0.0, deadline - time.monotonic())):
            say_step(f"collect: camera '{worker.camera.id}' did not end in time and is left")


def _status(workers: list[CameraWorker]) -> str:
    parts = []
    for worker in workers:
        counts, fault = worker.tally.counts, worker.tally.fault
        state = " (fault)" if fault else ""
        parts.append(f"{worker.camera.id}{state} {counts['kept']} kept, {counts['similar']} alike")
    return "collect: " + "; ".join(parts)


def _report(worker: CameraWorker, site: str, keeper: Keeper) -> CameraReport:
    camera, tally = worker.camera, worker.tally
    counts = {
        name: tally.counts[name]
        for name in (
            "kept",
            "similar",
            "known",
            "over_quota",
            "missed",
            "faults",
            "no_space",
            "misfit",
        )
    }
    return CameraReport(
        camera=camera.id,
        site=camera.site or site,
        kind=camera.source.kind,
        kept_today=keeper.journal.kept_on(camera.id, day_of(camera.schedule, _now())),
        quota=camera.quota,
        last_kept=tally.last_kept,
        fault=tally.fault,
        **counts,
    )


def _refuse_silence(report: CamerasReport, once: bool, ended: threading.Event) -> None:
    silent = [row for row in report.cameras if row.fault and not row.answered]
    if once and not ended.is_set() and len(silent) == len(report.cameras):
        raise UnreachableError(
            "cameras",
            [row.fault for row in silent],
            "nothing was collected; run the same command again",
        )


def _now() -> datetime:
    return datetime.now(timezone.utc)
