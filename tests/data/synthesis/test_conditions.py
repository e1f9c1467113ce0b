"""Conditions: shape kept, seed decides, a higher severity does more harm."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from visionloop.core.errors import ConfigError
from visionloop.core.image_statistics import measure_image
from visionloop.data.synthesis.conditions.light import LIGHT_LEFT
from visionloop.data.synthesis.conditions.table import (
    CAUSES,
    CONDITIONS,
    apply_condition,
    apply_condition_to_sample,
    changes_boxes,
    check_condition,
)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = cv2.resize(rng.integers(40, 220, (20, 16, 3)).astype(np.uint8), (160, 200))
    return cv2.rectangle(coarse, (30, 40), (90, 120), (240, 240, 240), -1)


@pytest.mark.parametrize("name", CONDITIONS)
def test_shape_type_seed_and_growing_harm(image, name):
    harm = []
    for severity in range(1, 6):
        changed = apply_condition(image, name, severity, 7)
        assert changed.shape == image.shape and changed.dtype == np.uint8
        assert np.array_equal(changed, apply_condition(image, name, severity, 7))
        seeds = [apply_condition(image, name, severity, seed) for seed in range(6)]
        harm.append(np.mean([np.abs(one.astype(float) - image).mean() for one in seeds]))
    if name == "pixelate":  # published sizes: .5 of the side falls on whole pixels, .6 does not
        harm = harm[1:]
    assert harm == sorted(harm) and harm[0] > 0.3, harm


@pytest.mark.parametrize("name", CONDITIONS)
def test_grey_and_odd_sizes(name):
    grey = np.random.default_rng(1).integers(0, 256, (33, 47)).astype(np.uint8)
    assert apply_condition(grey, name, 3, 0).shape == (33, 47)
    assert apply_condition(np.full((8, 8, 3), 9, np.uint8), name, 5, 0).shape == (8, 8, 3)


def test_the_original_stays_untouched(image):
    before = image.copy()
    for name in CONDITIONS:
        apply_condition(image, name, 5, 0)
    assert np.array_equal(before, image)


def test_there_are_at_least_fifteen_causes_beside_the_common_ones():
    own = [name for cause, rows in CAUSES.items() if cause != "common" for name in rows]
    assert len(own) >= 15 and len(CONDITIONS) == sum(len(rows) for rows in CAUSES.values())


@pytest.mark.parametrize("name", [name for name in CONDITIONS if not changes_boxes(name)])
def test_conditions_that_move_nothing_keep_every_box(image, name):
    boxes = np.array([[30, 40, 91, 121], [0, 0, 10, 10]], np.float32)
    done = apply_condition_to_sample(image, boxes, name, 5, 3)
    assert done.kept.all() and np.array_equal(done.xyxy, boxes)
    assert np.array_equal(done.image, apply_condition(image, name, 5, 3))


def _scene():
    """A bright square on black, for conditions that move it."""
    scene = np.zeros((240, 320, 3), np.uint8)
    cv2.rectangle(scene, (120, 90), (199, 149), (255, 255, 255), -1)
    return scene, np.array([[120, 90, 200, 150]], np.float32)


@pytest.mark.parametrize("name", ["camera_shift", "tilt"])
@pytest.mark.parametrize("severity", [1, 3, 5])
def test_boxes_move_with_the_picture(name, severity):
    scene, boxes = _scene()
    for seed in range(8):
        done = apply_condition_to_sample(scene, boxes, name, severity, seed)
        rows, columns = np.nonzero(done.image.max(axis=2) > 127)
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert done.kept.all() and np.abs(done.xyxy[0] - seen).max() <= 2.0, (seed, done.xyxy, seen)


def test_a_box_that_left_the_picture_is_lost():
    scene, _ = _scene()
    corners = np.array([[0, 0, 8, 8], [312, 0, 320, 8], [0, 232, 8, 240], [312, 232, 320, 240]])
    for seed in range(6):
        done = apply_condition_to_sample(scene, corners, "camera_shift", 5, seed)
        assert 0 < len(done.xyxy) == done.kept.sum() < 4


@pytest.mark.parametrize("name", ["occlusion", "occlusion_objects"])
def test_a_box_that_is_covered_is_lost(name):
    """A grid of boxes: those lost are black with what covers them, the others still show white."""
    scene = np.full((240, 320, 3), 255, np.uint8)
    x, y = np.meshgrid(np.arange(0, 320, 16), np.arange(0, 240, 16))
    boxes = np.stack([x, y, x + 16, y + 16], axis=-1).reshape(-1, 4).astype(np.float32)
    done = apply_condition_to_sample(scene, boxes, name, 5, 1)
    white = [
        (done.image[int(y1) : int(y2), int(x1) : int(x2)] > 215).mean() for x1, y1, x2, y2 in boxes
    ]
    white = np.array(white)
    assert 0.1 < (~done.kept).mean() < 0.35
    assert (white[~done.kept] <= 0.26).all() and (white[done.kept] > 0.05).all()


def test_severities_of_one_seed_share_their_layout(image):
    """What severity 2 covers is covered at severity 4 as well: severities can be compared."""
    mild, strong = (apply_condition(image, "dirt", severity, 4) != image for severity in (2, 4))
    assert (strong | ~mild).mean() > 0.97


def test_boxes_stay_true(image):
    """Nothing moves: the bright rectangle is where it was, however bad it gets."""
    inside = np.zeros(image.shape[:2], bool)
    inside[40:121, 30:91] = True
    for name in ("darkness", "blur", "defocus", "noise", "fog"):
        changed = apply_condition(image, name, 4, 1).mean(axis=2)
        rows, columns = np.nonzero(inside)
        weight = changed[inside]
        bright = weight > np.median(weight) * 0.7
        assert abs(rows[bright].mean() - 80) < 4 and abs(columns[bright].mean() - 60) < 4, name


def test_statistics_say_what_happened(image):
    clean = measure_image(image)
    dark = measure_image(apply_condition(image, "darkness", 3, 0))
    assert dark.luminance == pytest.approx(clean.luminance * LIGHT_LEFT[2] ** (1 / 2.2), rel=0.06)
    for name in ("blur", "defocus"):
        assert measure_image(apply_condition(image, name, 3, 0)).blur < clean.blur
    assert measure_image(apply_condition(image, "noise", 3, 0)).noise > clean.noise + 3
    assert measure_image(apply_condition(image, "fog", 3, 0)).contrast < clean.contrast


def test_occlusion_covers_about_its_share(image):
    for severity, share in ((1, 0.03), (5, 0.24)):
        covered = [
            (apply_condition(image, "occlusion", severity, seed) != image).any(axis=2).mean()
            for seed in range(20)
        ]
        assert 0.6 * share < np.mean(covered) <= 1.05 * share


def test_motion_blur_direction_differs_by_seed(image):
    blurred = {apply_condition(image, "blur", 5, seed).tobytes() for seed in range(5)}
    assert len(blurred) == 5


def test_wrong_input_is_refused(image):
    with pytest.raises(ConfigError, match="did you mean 'noise'"):
        apply_condition(image, "noize", 1, 0)
    for severity in (0, 6, 2.5):
        with pytest.raises(ValueError, match="severity"):
            apply_condition(image, "noise", severity, 0)
    with pytest.raises(ValueError, match="uint8"):
        apply_condition(image.astype(np.float32), "noise", 1, 0)


def test_joined_conditions_act_one_after_the_other(image):
    joined = apply_condition(image, "darkness+noise", 3, 5)
    alone = apply_condition(apply_condition(image, "darkness", 3, 5), "noise", 3, 5)
    assert np.array_equal(joined, alone)
    assert changes_boxes("darkness+tilt") and not changes_boxes("darkness+noise")


def test_boxes_follow_all_that_is_joined(image):
    boxes = np.array([[30, 40, 90, 120], [0, 0, 6, 6]], np.float32)
    both = apply_condition_to_sample(image, boxes, "camera_shift+tilt", 5, 1)
    first = apply_condition_to_sample(image, boxes, "camera_shift", 5, 1)
    second = apply_condition_to_sample(first.image, first.xyxy, "tilt", 5, 1)
    assert np.array_equal(both.image, second.image)
    assert np.array_equal(both.xyxy, second.xyxy)
    assert both.kept.sum() == len(both.xyxy)
    assert not both.kept[~first.kept].any()


def test_an_unknown_part_is_named():
    with pytest.raises(ConfigError, match="'fogg'"):
        check_condition("darkness+fogg")
