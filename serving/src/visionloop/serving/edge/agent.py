"""The edge agent: newest release → sources → answers → rules → outbox and records."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from visionloop.core.config import load_block, load_project, load_yaml_model
from visionloop.core.entities import Frame
from visionloop.core.errors import ConfigError
from visionloop.core.failpoints import failpoint
from visionloop.core.files import sha256_of_bytes, write_bytes
from visionloop.core.image_statistics import measure_image
from visionloop.core.progress import say_step, track
from visionloop.core.workspace import Workspace
from visionloop.serving.device_engines import start_with_engine
from visionloop.serving.edge.outbox import Outbox
from visionloop.serving.edge.pictures import draw_observation, encode_jpeg
from visionloop.serving.edge.records import add_frame, next_sequence
from visionloop.serving.edge.rules import Observation, Rule, make_rules
from visionloop.serving.edge.store import DATABASE_NAME, open_store
from visionloop.serving.failover import FailoverPredictor
from visionloop.serving.package import ModelPackage
from visionloop.serving.params import EdgeParams, ServingParams, SourceParams
from visionloop.serving.predictor import Predictor
from visionloop.serving.release_index import locked
from visionloop.serving.releases import Release, fetch_newest
from visionloop.serving.sources.table import open_source

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
    *, workspace: Workspace, config: Path | None = None, max_frames: int | None = None
) -> AgentReport:
    """Play the sources one after another through the newest release.

    Every frame is one commit: its record and its events are there together or not at
    all. Started again after an interruption, each source goes on where it stopped.

    Parameters
    ----------
    workspace : Workspace
        Events, frames and pictures go to its ``edge`` folder.
    config : Path or None
        A YAML file with the keys of ``serving.edge``; None takes ``params.yaml``.
    max_frames : int or None
        Stop after this many frames of each source.

    Raises
    ------
    ConfigError
        If the configuration is wrong.
    PackageError
        If there is no release that can be verified.
    DataError
        If a source is missing or a file is damaged.
    """
    params, model = _read_params(workspace, config)
    start = time.monotonic()
    counts = [0, 0, 0]
    number = 0
    with (
        locked(workspace.edge / "agent.lock", wait=False),
        closing(open_store(workspace.edge / DATABASE_NAME)) as connection,
    ):
        worker: _Worker | None = None
        for source_params in params.sources:
            release, package = fetch_newest(
                releases=workspace.root / params.releases,
                model=model,
                state=workspace.edge / "seen.json",
            )
            if worker is None or worker.package.sha256 != package.sha256:
                predictor = _make_predictor(params, release, package, workspace.edge / "engines")
                rules = make_rules(params.rules, package.manifest)
                worker = _Worker(workspace.edge, connection, params, predictor, rules)
                say_step(f"edge: release {release.number} of '{model}' serves")
            number = release.number
            done = _play(worker, source_params, workspace.root, connection, max_frames)
            counts = [a + b for a, b in zip(counts, done, strict=True)]
    seconds = time.monotonic() - start
    frames, events, kept = counts
    return AgentReport(workspace.edge / DATABASE_NAME, number, frames, events, kept, seconds)


class _Worker:
    """Takes one frame through the model and the rules, and makes it durable."""

    def __init__(
        self,
        folder: Path,
        connection: sqlite3.Connection,
        params: EdgeParams,
        predictor: Predictor | FailoverPredictor,
        rules: list[Rule],
    ) -> None:
        self._folder, self._connection, self._params = folder, connection, params
        self._predictor, self._rules = predictor, rules
        self._outbox = Outbox(connection)
        self.package = predictor.package
        self.site = params.site

    def take(self, frame: Frame, source: str) -> tuple[int, bool]:
        """Handle a frame; returns the number of events and whether it was kept."""
        (prediction,) = self._predictor.predict([frame.image])
        is_kept = _is_drawn(frame, source, self._params.keep_share)
        content = frame.encoded
        if content is None and is_kept:
            content = encode_jpeg(frame.image, quality=95)
        sample_id = sha256_of_bytes(content if content is not None else frame.image.tobytes())
        image = self._keep(sample_id, content) if is_kept and content is not None else None
        seen = [(rule, rule.look(prediction)) for rule in self._rules]
        events = [(rule, found) for rule, found in seen if found is not None]
        pictures = [self._draw(frame, source, rule, found) for rule, found in events]
        with self._connection:
            is_new = add_frame(
                self._connection,
                frame,
                prediction,
                source=source,
                sample_id=sample_id,
                package=self.package.sha256,
                statistics=measure_image(frame.image).as_row(),
                image=image,
            )
            if is_new:
                for (rule, found), picture in zip(events, pictures, strict=True):
                    self._emit(frame, sample_id, rule, found, picture)
            failpoint("agent.before_commit")
        failpoint("agent.after_commit")
        return (len(events), is_kept) if is_new else (0, False)

    def _keep(self, sample_id: str, content: bytes) -> str:
        suffix = ".png" if content.startswith(b"\x89PNG") else ".jpg"
        name = f"frames/{sample_id}{suffix}"
        if not (self._folder / name).is_file():
            write_bytes(self._folder / name, content)
        return name

    def _draw(self, frame: Frame, source: str, rule: Rule, found: Observation) -> str:
        """Write the event's picture. The name is that of the frame: a repeat replaces it."""
        name = f"events/{source}-{frame.sequence:08d}-{rule.params.name}.jpg"
        classes = self.package.manifest.classes
        write_bytes(self._folder / name, encode_jpeg(draw_observation(frame.image, found, classes)))
        return name

    def _emit(
        self, frame: Frame, sample_id: str, rule: Rule, found: Observation, picture: str
    ) -> None:
        boxes = found.detections
        classes = self.package.manifest.classes
        payload = {
            "rule": rule.params.name,
            "camera": frame.camera,
            "site": frame.site,
            "sequence": frame.sequence,
            "captured_at": frame.captured_at,
            "sample_id": sample_id,
            "package": self.package.sha256,
            "class_name": found.class_name,
            "confidence": found.confidence,
            "boxes": None
            if boxes is None
            else [
                {"xyxy": xyxy, "class_name": classes[class_id], "confidence": confidence}
                for xyxy, class_id, confidence in zip(
                    boxes.xyxy.tolist(),
                    boxes.class_id.tolist(),
                    boxes.confidence.tolist(),
                    strict=True,
                )
            ],
            "attributes": frame.attributes,
            "picture": picture,
        }
        self._outbox.append(
            kind=rule.params.kind,
            priority=rule.params.priority,
            created_at=frame.captured_at,
            payload=payload,
        )


def _play(
    worker: _Worker,
    params: SourceParams,
    root: Path,
    connection: sqlite3.Connection,
    max_frames: int | None,
) -> tuple[int, int, int]:
    """Play one source; returns frames, events and kept frames."""
    source = open_source(params, site=worker.site, root=root)
    start = next_sequence(connection, params.name)
    total = None if source.total is None else max(0, source.total - start)
    if total == 0:
        say_step(f"edge: source '{params.name}' was played to its end before")
        return 0, 0, 0
    frames = events = kept = 0
    for frame in track(source.frames(start), f"edge: {params.name}", total=total):
        seen, is_kept = worker.take(frame, params.name)
        frames, events, kept = frames + 1, events + seen, kept + is_kept
        if max_frames is not None and frames >= max_frames:
            break
    return frames, events, kept


def _make_predictor(
    params: EdgeParams, release: Release, package: ModelPackage, cache: Path
) -> Predictor | FailoverPredictor:
    """ONNX Runtime at once; TensorRT, where asked for, takes over when its engine is ready."""
    if params.backend in ("tensorrt", "tensorrt_rtx"):
        return start_with_engine(
            package, release.engine, cache=cache, threads=params.threads, backend=params.backend
        )
    return Predictor(package, backend=params.backend, threads=params.threads)


def _read_params(workspace: Workspace, config: Path | None) -> tuple[EdgeParams, str]:
    if config is not None:
        params = load_yaml_model(config, EdgeParams)
    else:
        params = load_block(workspace.params, "serving", ServingParams).edge
    where = str(config or workspace.params)
    if not params.sources:
        raise ConfigError(where, "there are no sources", "add one below serving.edge.sources")
    names = [source.name for source in params.sources]
    if len(set(names)) != len(names):
        raise ConfigError(where, f"two sources have the same name: {', '.join(names)}")
    return params, params.model or load_project(workspace.params).model


def _is_drawn(frame: Frame, source: str, share: float) -> bool:
    """Draw a share of the frames, the same ones whenever this source is played again."""
    digest = sha256_of_bytes(f"{source}:{frame.sequence}".encode())
    return int(digest[:8], 16) < share * 2**32
