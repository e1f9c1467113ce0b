"""The parts of a server, and whether it may be sent requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from visionloop.core.config import load_block, load_project, load_yaml_model
from visionloop.core.errors import DataError
from visionloop.core.plugins import resolve
from visionloop.core.workspace import Workspace
from visionloop.serving.backends.table import BACKENDS, ENGINE_BACKENDS, TUNED
from visionloop.serving.http.batches import Observer
from visionloop.serving.http.bodies import BodyLimits, BodyReader
from visionloop.serving.http.lanes import Lanes
from visionloop.serving.http.params import HttpParams
from visionloop.serving.http.pictures import PictureLimits
from visionloop.serving.http.served import Served, Shelf
from visionloop.serving.http.tokens import Tokens
from visionloop.serving.params import ServingParams
from visionloop.serving.processors import count_processors
from visionloop.serving.releases.hot_swap import HotSwap, stamps_of
from visionloop.serving.releases.index import INDEX_NAME
from visionloop.serving.tuning.device_profile import load_profile

__all__ = ["ServerState", "make_state", "read_params"]


@dataclass
class ServerState:
    """What the routes work with.

    Attributes
    ----------
    params : HttpParams
    tokens : Tokens
    shelf : Shelf
    releases : HotSwap of Served
    lanes : Lanes
    observer : Observer
    bodies : BodyReader
    limits : PictureLimits
    is_draining : bool
        SIGTERM came: requests are still answered, but no more should be sent.
    """

    params: HttpParams
    tokens: Tokens
    shelf: Shelf
    releases: HotSwap[Served]
    lanes: Lanes
    observer: Observer
    bodies: BodyReader
    limits: PictureLimits
    is_draining: bool = field(default=False)

    @property
    def problem(self) -> str:
        """Why the newest release is not the one that serves; empty if it is."""
        return self.releases.problem or self.shelf.fallback_problem

    @property
    def not_ready(self) -> str:
        """Why no requests should be sent; empty if they may be."""
        if self.is_draining:
            return "the server is being stopped"
        if self.releases.used is None:
            return "no release serves yet"
        if self.observer.is_failing:
            return "the model gives no usable answers"
        return self.lanes.problem

    def start(self) -> None:
        """Load the release and start the lanes."""
        self.lanes.start()
        self.releases.start()

    def stop(self) -> None:
        """Answer what waits, then end every thread."""
        self.releases.stop()
        self.lanes.stop()


def make_state(
    workspace: Workspace, params: HttpParams, *, model: str, vision_task: str, tokens: Tokens
) -> ServerState:
    """The parts, not started.

    Parameters
    ----------
    workspace : Workspace
    params : HttpParams
    model : str
        Name of the releases.
    vision_task : str
        Empty takes that of the first release.
    tokens : Tokens
    """
    profile = workspace.root / params.device_profile
    count = params.lanes or _count_lanes(params, profile)
    folder = workspace.root / params.releases
    shelf = Shelf(
        folder,
        model=model,
        vision_task=vision_task,
        state=workspace.root / params.state / "seen.json",
        params=params,
        profile=profile,
        lanes=count,
    )
    releases: HotSwap[Served] = HotSwap(
        stamp=lambda: stamps_of([folder / INDEX_NAME]),
        load=shelf.load,
        name=lambda served: served.name,
    )
    observer = Observer()
    lanes = Lanes(
        lambda: releases.used,
        lanes=count,
        max_batch=params.max_batch,
        queue_pictures=params.queue_pictures,
        observer=observer,
    )
    limits = BodyLimits(
        one=int(params.max_request_mb * 1e6),
        all=int(params.max_uploading_mb * 1e6),
        seconds=params.body_timeout_s,
    )
    return ServerState(
        params=params,
        tokens=tokens,
        shelf=shelf,
        releases=releases,
        lanes=lanes,
        observer=observer,
        bodies=BodyReader(limits),
        limits=PictureLimits(params.max_pictures, int(params.max_megapixels * 1e6)),
    )


def _count_lanes(params: HttpParams, profile: Path) -> int:
    """A GPU is filled by batches, not by several engines."""
    backend, threads = params.backend, params.threads
    if backend == TUNED:
        try:
            choice = load_profile(profile).choice
            backend, threads = choice.backend, choice.threads
        except DataError:  # said when the release is opened, and ONNX Runtime serves
            backend = "onnxruntime"
    if backend in ENGINE_BACKENDS:
        return 1
    return max(1, count_processors() // threads)


def read_params(workspace: Workspace, config: Path | None) -> tuple[HttpParams, str, str]:
    """Parameters, name of the releases, vision task (empty: that of the first release).

    Parameters
    ----------
    workspace : Workspace
    config : Path or None
        A YAML file with the keys of ``serving.http``; None takes ``params.yaml``.

    Raises
    ------
    ConfigError
        If a file is missing or wrong, or names no backend.
    MissingExtraError
        If a library of the backend is not installed.
    """
    if config is not None:
        params = load_yaml_model(config, HttpParams)
    else:
        params = load_block(workspace.params, "serving", ServingParams).http
    if params.backend != TUNED:  # said now, not in a log later
        resolve(BACKENDS, params.backend, kind="backend", extra="edge")
    task = params.vision_task or ""
    if params.model and (task or config is not None):
        return params, params.model, task
    project = load_project(workspace.params)
    return params, params.model or project.model, task or project.vision_task
