"""Conditions: shape kept, seed decides, a higher severity does more harm."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from visionloop.core.errors import ConfigError
from visionloop.core.image_statistics import measure_image
from visionloop.data.synthesis.conditions import CONDITIONS, LIGHT_LEFT, apply_condition


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
