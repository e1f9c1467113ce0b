"""The edge agent's own loop on the feeds of ``streams.py``, and what is noted meanwhile."""

from __future__ import annotations

import os
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from stream_detector import MODEL
from stream_feeds import Feed

from visionloop.core.progress import say_step
from visionloop.core.workspace import Workspace
from visionloop.serving.edge.cameras.messages import CameraStatus
from visionloop.serving.edge.device import Device
from visionloop.serving.edge.live import Live
from visionloop.serving.edge.record.recording import Recorder
from visionloop.serving.edge.settings import SettingsFile
from visionloop.serving.edge.updates.release_source import ReleaseFolder
from visionloop.serving.edge.updates.smaller_models import SmallerModels
from visionloop.serving.edge.updates.takeover import Updates

__all__ = ["ASKED_FPS", "SETTLE_S", "Sampled", "watch"]

ASKED_FPS = 5.0
"""Frames a second that are asked for of a camera while it is active."""
SETTLE_S = 15.0
"""Starting up is not measured: decoding processes, first looks at everything."""
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Sampled:
    """What is noted while the agent runs: status of the readers, processor time, frames that
    were analysed of each camera, level of the degradation ladder."""

    moments: list[float] = field(default_factory=list)
    status: list[dict[str, CameraStatus]] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    analysed: list[dict[str, int]] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)


def watch(place: Workspace, feeds: list[Feed], seconds: float) -> tuple[Live, Sampled]:
    """Let the agent watch the feeds."""
    config = _write_config(place, feeds)
    settings = SettingsFile(place, config)
    sampled = Sampled()
    with closing(Device(place.edge, place.root, settings.params)) as device:
        updates = Updates(
            folder=place.edge,
            releases=ReleaseFolder(place.releases),
            model=MODEL,
            params=settings.params,
            report=lambda what, facts: say_step(f"{what}: {facts}"),
        )
        model = updates.open()
        live = Live(
            workspace=place,
            settings=settings,
            updates=updates,
            model=model,
            smaller=SmallerModels(
                settings.params, ReleaseFolder(place.releases), folder=place.edge, full=model
            ),
            recorder=Recorder(place.edge, device.outbox),
            device=device,
        )
        ended = threading.Event()
        sampler = threading.Thread(target=_sample, args=(live, device, sampled, ended), daemon=True)
        sampler.start()
        say_step(f"watching {len(feeds)} feeds for {seconds:.0f} s")
        end = time.monotonic() + SETTLE_S + seconds

        def is_over() -> bool:
            if time.monotonic() >= end:
                ended.set()  # now: the processes are about to end
            return ended.is_set()

        live.run(is_over)
        ended.set()
        sampler.join()
    return live, sampled


def _write_config(place: Workspace, feeds: list[Feed]) -> Path:
    rule = {
        "name": "person",
        "kind": "forbidden_class",
        "class_name": "person",
        "minimum_confidence": 0.4,
        "cooldown_s": 2.5,
    }
    cameras = [
        {"name": feed.path.stem, "kind": "file", "path": str(feed.path), "loop": True}
        for feed in feeds
    ]
    content = {
        "model": MODEL,
        "threads": 1,
        "cameras": cameras,
        "rules": [rule],
        "gate": {"active_fps": ASKED_FPS},
        "evidence": {"clip_before_s": 2.0, "clip_after_s": 1.0},
    }
    config = place.root / "edge.yaml"
    config.write_text(yaml.safe_dump(content, sort_keys=False))
    return config


def _sample(live: Live, device: Device, sampled: Sampled, ended: threading.Event) -> None:
    used: dict[int, float] = {}
    while not ended.wait(0.5):
        for pid in [os.getpid(), *live.fleet.processes]:
            used[pid] = max(used.get(pid, 0.0), _cpu_s(pid))
        sampled.moments.append(time.monotonic())
        sampled.status.append(dict(live.fleet.status))
        sampled.cpu_s.append(sum(used.values()))
        sampled.analysed.append(dict(live._records.sequences))
        sampled.levels.append(device.ladder.level)


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS
