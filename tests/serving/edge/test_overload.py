"""M8: four times more frames than the model can answer."""

from __future__ import annotations

import time
from pathlib import Path

from visionloop.serving.edge.agent import run_agent
from visionloop.serving.edge.device import Device
from visionloop.serving.edge.live import Live
from visionloop.serving.predictor import Predictor

CAMERAS, FPS, MODEL_S, STALL_S = 8, 5.0, 0.1, 2.5
MAX_AGE_S, SECONDS = 1.5, 18.0


def rss_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def test_m8_under_overload_frames_are_fresh_drops_are_counted_and_memory_is_flat(
    device, worker_frames, film, monkeypatch
):
    """The real model takes a tenth of a second longer for each frame, and once it stalls."""
    film.write(device.workspace.root / "worn.mp4", worker_frames[::2])
    cameras = [
        {"name": f"c{n}", "kind": "file", "path": "worn.mp4", "loop": True} for n in range(CAMERAS)
    ]
    device.write_config(
        cameras,
        gate={"enabled": False, "active_fps": FPS},
        evidence={"clips": False},
        cameras_per_process=2,
        max_age_s=MAX_AGE_S,
        rules=[{"name": "vest", "kind": "forbidden_class", "class_name": "vest"}],
    )
    batches, ages, memory, figures = [], {}, [], []
    predict, tick, analyse = Predictor.predict, Device.tick, Live._analyse

    def slow(self, images):
        time.sleep(STALL_S if len(batches) == 60 else MODEL_S * len(images))
        batches.append(len(images))
        return predict(self, images)

    def look_on(self, one):
        figures.append(one)
        memory.append(rss_mb())
        tick(self, one)

    def measure(self, looks):
        analyse(self, looks)
        for look in looks:
            ages.setdefault(look.name, []).append(time.monotonic() - look.monotonic)

    monkeypatch.setattr(Predictor, "predict", slow)
    monkeypatch.setattr(Device, "tick", look_on)
    monkeypatch.setattr(Live, "_analyse", measure)
    report = run_agent(workspace=device.workspace, config=device.config, max_seconds=SECONDS)
    last = figures[-1]
    assert report.frames == len(batches) >= 60  # never more than one: it takes too long
    assert set(batches) == {1}
    assert last.counts["frames_too_old"] >= 1  # those that waited through the stall
    waited = sum(last.replaced.values())
    waited += sum(status.replaced for status in last.cameras.values())
    assert waited >= report.frames  # of four frames at most two or so could be answered
    usual = sorted(age for rows in ages.values() for age in rows)
    assert usual[-1] < MAX_AGE_S + STALL_S + 1.0
    # What the device promises: twice the time between two answers of a camera, and the model's.
    between_s = SECONDS * CAMERAS / len(usual)
    assert usual[int(0.99 * len(usual))] < 2 * between_s + 2 * MODEL_S
    counts = [len(rows) for rows in ages.values()]
    assert len(counts) == CAMERAS and max(counts) <= 2 * min(counts)  # in turns
    for one in figures:
        length, bound = one.queues["frames"]
        assert length <= bound == CAMERAS
    half = len(memory) // 2
    assert max(memory[half:]) - max(memory[2:half]) < 15  # megabytes
