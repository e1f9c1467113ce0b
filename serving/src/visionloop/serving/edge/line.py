"""Sources that are played to their ends, one after another: every frame of them counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from visionloop.core.progress import say_step, track
from visionloop.serving.edge.record.recording import Recorder
from visionloop.serving.edge.rules.table import Observation, Rule, Scene, make_rules
from visionloop.serving.edge.updates.model import LoadedModel
from visionloop.serving.edge_params import EdgeParams
from visionloop.serving.source_params import SourceParams
from visionloop.serving.sources.frames import Watcher
from visionloop.serving.sources.table import open_source

__all__ = ["play_source"]


def play_source(
    source_params: SourceParams,
    *,
    params: EdgeParams,
    model: LoadedModel,
    recorder: Recorder,
    root: Path,
    max_frames: int | None,
    beat: Callable[[], None],
) -> tuple[int, int, int]:
    """Play one source from where it stopped; returns frames, events and kept frames.

    Every frame is one commit: its record and its events are there together or not at all.
    ``beat`` is called between frames and while the source waits for one.
    """
    name = source_params.name
    rules = make_rules(params.rules, model.manifest)

    def go_on() -> bool:
        beat()
        return False

    watcher = Watcher(should_stop=go_on)
    source = open_source(source_params, site=params.site, root=root, watcher=watcher)
    start = recorder.next_sequence(name)
    total = None if source.total is None else max(0, source.total - start)
    if total == 0:
        say_step(f"edge: source '{name}' was played to its end before")
        return 0, 0, 0
    frames = events = kept = 0
    for frame in track(source.frames(start), f"edge: {name}", total=total):
        beat()
        (prediction,) = model.predictor.predict([frame.image])
        height, width = frame.image.shape[:2]
        scene = Scene(prediction, width, height, frame.monotonic)
        seen: list[tuple[Rule, Observation]] = [
            (rule, one) for rule in rules for one in rule.look(scene)
        ]
        count, is_kept = recorder.take(
            frame,
            prediction,
            seen,
            source=name,
            package=model.package.sha256,
            classes=model.manifest.classes,
            keep_share=params.keep_share,
        )
        frames, events, kept = frames + 1, events + count, kept + is_kept
        if max_frames is not None and frames >= max_frames:
            break
    return frames, events, kept
