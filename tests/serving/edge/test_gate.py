"""The gate before the network: what it lets through, and that slow change is not missed."""

from __future__ import annotations

import time

import numpy as np
import pytest

from visionloop.serving.edge.agent import run_agent
from visionloop.serving.edge.cameras.gate import HEIGHT, WIDTH, Gate, small_grey
from visionloop.serving.edge.delivery.outbox import read_events
from visionloop.serving.edge_params import GateParams


def scene(seed: int = 0) -> np.ndarray:
    """A textured grey background (360, 640, 3)."""
    rng = np.random.default_rng(seed)
    small = rng.integers(60, 180, (9, 16, 3)).astype(np.uint8)
    return np.kron(small, np.ones((40, 40, 1), np.uint8))


def noisy(image: np.ndarray, seed: int, sigma: float = 6.0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sigma, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def with_person(image: np.ndarray, x: int, opacity: float = 1.0) -> np.ndarray:
    shown = image.astype(np.float32)
    shown[150:270, x : x + 50] += opacity * (np.array([20, 30, 200]) - shown[150:270, x : x + 50])
    return shown.astype(np.uint8)


def play(gate: Gate, frames, *, every_s: float = 2.0, start: float = 1000.0) -> list[str]:
    return [
        gate.judge(small_grey(image), start + number * every_s)
        for number, image in enumerate(frames)
    ]


def test_noise_is_no_motion_and_a_person_is():
    gate = Gate(GateParams(full_look_s=1e6))
    background = scene()
    empty = play(gate, [noisy(background, n) for n in range(60)])
    assert empty == ["full"] + [""] * 59
    seen = play(
        gate,
        [noisy(with_person(background, 300), 100 + n) for n in range(3)],
        start=1120.0,
    )
    assert seen == ["motion"] * 3
    assert gate.is_active(1124.5) and not gate.is_active(1130.0)


def test_a_full_look_is_due_whatever_the_gate_says():
    gate = Gate(GateParams(full_look_s=30))
    reasons = play(gate, [noisy(scene(), n) for n in range(61)])
    assert [n for n, reason in enumerate(reasons) if reason] == [0, 15, 30, 45, 60]
    assert set(reasons) == {"full", ""}


def test_slow_change_passes_the_gate_unseen_and_the_full_look_finds_it():
    """A person fades in over ten minutes: the background follows; only the full look helps."""
    background = scene()
    frames = [noisy(with_person(background, 300, opacity=min(1.0, n / 300)), n) for n in range(330)]
    params = GateParams(absorb_s=20)
    blind = play(Gate(params.model_copy(update={"full_look_s": 1e6})), frames)
    assert "motion" not in blind
    reasons = play(Gate(params), frames)
    visible = [n for n, reason in enumerate(reasons) if reason == "full" and n >= 300]
    assert visible and visible[0] <= 315


def test_motion_outside_of_the_region_and_in_ignored_places_does_not_count():
    background, person = scene(), with_person(scene(), 300)
    for fields, expected in (
        ({}, "motion"),
        ({"region": (0, 0, 0.4, 1)}, ""),
        ({"ignored": [[[0.4, 0.3], [0.7, 0.3], [0.7, 0.9], [0.4, 0.9]]]}, ""),
    ):
        gate = Gate(GateParams(full_look_s=1e6), **fields)
        assert play(gate, [background, background, person])[-1] == expected


def test_what_was_seen_is_followed_while_it_stands_still():
    gate = Gate(GateParams(full_look_s=1e6, quiet_s=0))
    background = scene()
    play(gate, [background] * 2)
    gate.follow(until=1010.0)
    assert gate.judge(small_grey(background), 1008.0) == "follow"
    assert gate.judge(small_grey(background), 1012.0) == ""


def test_the_rate_is_kept_and_can_be_lowered():
    gate = Gate(GateParams(active_fps=5))
    grey = small_grey(scene())
    gate.judge(grey, 100.0)
    assert not gate.is_due(100.1) and gate.is_due(100.2)
    gate.pace_share = 0.2
    assert not gate.is_due(100.5) and gate.is_due(101.0)


def test_the_brightness_plane_of_a_decoded_frame_is_read_in_place():
    import av

    frame = av.VideoFrame.from_ndarray(scene(), format="bgr24")
    expected = small_grey(scene()).astype(int)
    for name in ("yuv420p", "yuvj420p", "rgb24"):
        found = small_grey(frame.reformat(format=name)).astype(int)
        assert found.shape == (HEIGHT, WIDTH)
        # Limited range has 219 steps from 16 on.
        full = (found - 16) * 255 / 219 if name == "yuv420p" else found
        assert np.abs(full - expected).mean() < 4


@pytest.mark.parametrize("full_look_s", [2.0, 1000.0])
def test_the_agent_finds_what_came_slowly_within_the_full_look(
    device, worker_frames, film, full_look_s
):
    """A worker fades in over 6 s. The gate's background follows him; the agent sees him all
    the same, unless the full look is switched off."""
    worker, rest = worker_frames[-1].astype(np.float32), worker_frames[-1].copy()
    rest[40:240, 80:150] = rest[40:240, 160:230]  # the floor beside him
    frames = [(rest + min(1.0, n / 60) * (worker - rest)).astype(np.uint8) for n in range(90)]
    film.write(device.workspace.root / "slow.mp4", frames, fps=10, gop=10)
    rule = {"name": "in", "kind": "detection_present", "class_name": "vest", "cooldown_s": 60}
    gate = {"full_look_s": full_look_s, "absorb_s": 0.5, "quiet_s": 0.5, "minimum_change": 24.0}
    device.write_config(
        [{"name": "c", "kind": "file", "path": "slow.mp4", "rules": [rule]}],
        gate=gate,
        evidence={"clips": False},
    )
    began = time.monotonic()
    report = run_agent(workspace=device.workspace, config=device.config, max_seconds=60)
    assert time.monotonic() - began > 6
    assert len(read_events(report.db)) == (1 if full_look_s < 100 else 0)
