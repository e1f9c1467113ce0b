"""Camera health: each condition begins and ends as an event, and ordinary days raise none."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from visionloop.data.synthesis.conditions.table import apply_condition
from visionloop.serving.edge.health.judge import CONDITIONS, CameraHealth
from visionloop.serving.edge.health.params import HealthParams
from visionloop.serving.edge.health.registration import find_move

BEFORE = 12


@pytest.fixture(scope="module")
def scene():
    """A hall larger than the view, so that the view can move in it."""
    generator = np.random.default_rng(3)
    hall = np.full((540, 960, 3), 120, np.uint8)
    for _ in range(260):
        x, y = generator.integers(0, 900), generator.integers(0, 500)
        size = generator.integers(15, 90, 2)
        colour = generator.integers(20, 235, 3).tolist()
        cv2.rectangle(hall, (int(x), int(y)), (int(x + size[0]), int(y + size[1])), colour, -1)
    return hall


class Camera:
    """What a fixed camera sends: noise, and somebody who walks."""

    def __init__(self, scene, x=160, y=90):
        self.scene, self.x, self.y = scene, x, y
        self.generator = np.random.default_rng(0)
        self.number = 0

    def frame(self):
        view = self.scene[self.y : self.y + 360, self.x : self.x + 640].astype(np.float32)
        left = (37 * self.number) % 600
        view[150:330, left : left + 40] = (40, 60, 160)
        self.number += 1
        noise = self.generator.normal(0, 2.5, (360, 640, 1))
        return (view + noise).clip(0, 255).astype(np.uint8)


def play(health, camera, seconds, start, change=None):
    """One look a second; returns (second, condition, is_raised)."""
    events = []
    for now in range(start, start + seconds):
        image = camera.frame()
        if change is not None:
            image = change(image)
        found = (
            health.absent(now=float(now)) if image is None else health.look(image, now=float(now))
        )
        events += [(now, one.condition, one.is_raised) for one in found]
    return events


def engine(name, severity=5):
    return lambda image: apply_condition(image, name, severity, 1)


def cover(image):
    """Something close to the lens: dark, without focus, all over but a rim."""
    hidden = image.copy()
    hidden[40:, :560] = 45
    noise = np.random.default_rng(int(image.sum()) % 1000).normal(0, 2, (*image.shape[:2], 1))
    return (hidden + noise).clip(0, 255).astype(np.uint8)


def colourless(image):
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return cv2.merge([grey, grey, grey])


CHANGES = {
    "lost": lambda image: None,
    "dark": engine("darkness+darkness"),
    "white": engine("overexposure+overexposure"),
    "fogged": engine("fog"),
    "defocused": engine("defocus"),
    "covered": cover,
    "infrared": colourless,
}


@pytest.mark.parametrize("condition", CHANGES)
def test_a_condition_is_raised_within_ten_seconds_and_cleared_after_it(scene, condition):
    health, camera = CameraHealth("c", HealthParams()), Camera(scene)
    assert play(health, camera, BEFORE, 0) == []
    during = play(health, camera, 15, BEFORE, CHANGES[condition])
    raised = [(now - BEFORE, name) for now, name, is_raised in during if is_raised]
    assert [name for _, name in raised] == [condition]
    assert raised[0][0] <= 10
    assert health.states[condition] is True
    assert health.faults == ([] if condition == "infrared" else [condition])
    after = play(health, camera, 25, BEFORE + 15)
    assert [(name, is_raised) for _, name, is_raised in after] == [(condition, False)]
    assert not any(health.states.values())


def test_a_camera_that_was_pushed_aside_is_moved_and_its_new_view_is_learned(scene):
    health = CameraHealth("c", HealthParams(relearn_s=60))
    camera = Camera(scene)
    play(health, camera, BEFORE, 0)
    camera.x += 90
    camera.y -= 30
    during = play(health, camera, 12, BEFORE)
    assert [(name, is_raised) for _, name, is_raised in during] == [("moved", True)]
    later = play(health, camera, 100, BEFORE + 12)
    assert [(name, is_raised) for _, name, is_raised in later] == [("moved", False)]
    camera.x -= 90
    again = play(health, camera, 12, BEFORE + 112)
    assert [(name, is_raised) for _, name, is_raised in again] == [("moved", True)]


def test_the_same_picture_again_and_again_is_frozen(scene):
    health, camera = CameraHealth("c", HealthParams()), Camera(scene)
    play(health, camera, BEFORE, 0)
    still = camera.frame()
    during = play(health, camera, 10, BEFORE, lambda _: still)
    assert [(name, is_raised) for _, name, is_raised in during] == [("frozen", True)]
    after = play(health, camera, 12, BEFORE + 10)
    assert [(name, is_raised) for _, name, is_raised in after] == [("frozen", False)]


def test_a_camera_that_always_stood_nearly_still_is_given_more_time(scene):
    """A made picture, or a codec that sends nothing while nothing happens."""
    health, camera = CameraHealth("c", HealthParams()), Camera(scene)
    still = camera.frame()
    events = play(health, camera, 100, 0, lambda _: still)
    assert events == []
    events = play(health, camera, 60, 100, lambda _: still)
    assert [name for _, name, _ in events] == ["frozen"]


def test_a_short_disturbance_is_no_event(scene):
    health, camera = CameraHealth("c", HealthParams()), Camera(scene)
    play(health, camera, BEFORE, 0)
    events = []
    for round_number in range(6):
        start = BEFORE + 12 * round_number
        events += play(health, camera, 3, start, cover)
        events += play(health, camera, 9, start + 3)
    assert events == []


def test_light_that_changes_slowly_or_at_once_is_no_event(scene):
    health, camera = CameraHealth("c", HealthParams()), Camera(scene)
    play(health, camera, BEFORE, 0)
    levels = [*np.linspace(1.0, 0.35, 300), *[1.1] * 60, *[0.5] * 60]
    events = []
    for number, level in enumerate(levels):
        image = (camera.frame() * level).clip(0, 255).astype(np.uint8)
        events += health.look(image, now=float(BEFORE + number))
    assert events == []


def test_fog_that_comes_within_an_hour_is_still_seen(scene):
    """The reference follows slow change; the anchor does not."""
    health, camera = CameraHealth("c", HealthParams(follow_s=300)), Camera(scene)
    play(health, camera, BEFORE, 0)
    raised = []
    for number in range(0, 3600, 4):
        share = 0.75 * number / 3600
        image = camera.frame() * (1 - share) + 200 * share
        events = health.look(image.clip(0, 255).astype(np.uint8), now=float(BEFORE + number))
        raised += [event.condition for event in events if event.is_raised]
    assert raised == ["fogged"]


def test_what_was_learned_survives_a_restart_and_damage_only_costs_learning(scene, tmp_path):
    health, camera = CameraHealth("c", HealthParams()), Camera(scene)
    play(health, camera, BEFORE, 0)
    path = tmp_path / "c.npz"
    health.save(path)
    again = CameraHealth("c", HealthParams())
    again.load(path)
    events = play(again, camera, 10, 100, engine("defocus"))
    assert [name for _, name, _ in events] == ["defocused"]
    path.write_bytes(path.read_bytes()[:500])
    damaged = CameraHealth("c", HealthParams())
    damaged.load(path)
    damaged.load(tmp_path / "none.npz")
    assert play(damaged, camera, 20, 0) == []


def test_grey_frames_of_any_size_are_judged(scene):
    for size in ((64, 48), (1920, 1080), (333, 777)):
        health, camera = CameraHealth("c", HealthParams()), Camera(scene)
        events = play(
            health,
            camera,
            20,
            0,
            lambda image, size=size: cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), size),
        )
        assert events == []
        assert set(health.states) == set(CONDITIONS)


def test_a_move_is_found_and_another_scene_is_not(scene):
    grey = cv2.cvtColor(scene, cv2.COLOR_BGR2GRAY).astype(np.float32)
    small = cv2.resize(grey, (240, 135), interpolation=cv2.INTER_AREA)
    small -= cv2.GaussianBlur(small, (0, 0), 4)
    reference = np.ascontiguousarray(small[20:110, 40:200])
    move = find_move(np.ascontiguousarray(small[26:116, 55:215]), reference)
    assert move is not None
    assert (abs(move.dx), abs(move.dy)) == pytest.approx((15, 6), abs=1.5)
    other = np.random.default_rng(1).normal(0, 10, (90, 160)).astype(np.float32)
    assert find_move(other, reference) is None


def test_payloads_say_what_a_person_needs(scene):
    health, camera = CameraHealth("gate-3", HealthParams()), Camera(scene)
    play(health, camera, BEFORE, 0)
    events = []
    for number in range(10):
        events += health.look(engine("fog")(camera.frame()), now=float(BEFORE + number))
    (event,) = events
    payload = event.as_payload()
    assert payload["camera"] == "gate-3"
    assert (payload["condition"], payload["state"]) == ("fogged", "raised")
    assert "contrast 0." in payload["reason"]
