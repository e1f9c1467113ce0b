"""Augmentation: boxes and masks stay on what they show, and a key gives the same picture."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionloop.core.errors import ConfigError
from visionloop.training.augment import Augmenter
from visionloop.training.params import AugmentParams


def picture(height: int = 60, width: int = 90) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A grey picture with one bright block, its box and its mask."""
    image = np.full((height, width, 3), 60, np.uint8)
    image[12:32, 30:50] = 250
    return image, np.array([[30, 12, 50, 32]], np.float32), (image[..., 0] > 200).astype(np.uint8)


@given(st.integers(0, 10_000), st.sampled_from(["light", "medium", "strong"]))
@settings(max_examples=60, deadline=None)
def test_boxes_and_masks_stay_on_the_block(number, strength) -> None:
    image, xyxy, mask = picture()
    augmenter = Augmenter(AugmentParams(strength=strength), seed=1)
    done = augmenter(image, key=(number,), xyxy=xyxy, class_id=np.array([7]), mask=mask)
    assert done.image.shape[:2] == done.mask.shape
    assert len(done.xyxy) == 1 and done.class_id.tolist() == [7]
    ys, xs = np.nonzero(done.mask)
    # a turned box is the upright one around its corners, so it may be larger than the block
    x1, y1, x2, y2 = done.xyxy[0]
    assert x1 - 2 <= xs.min() and xs.max() <= x2 + 1
    assert y1 - 2 <= ys.min() and ys.max() <= y2 + 1
    inside = done.image[ys, xs].mean()
    outside = done.image[done.mask == 0].mean()
    assert inside > outside + 60


def test_light_moves_whole_pixels_only() -> None:
    image, xyxy, mask = picture()
    augmenter = Augmenter(AugmentParams(), seed=3)
    seen = set()
    for number in range(60):
        done = augmenter(image, key=(number,), xyxy=xyxy, class_id=np.array([0]), mask=mask)
        x1, y1, x2, y2 = np.round(done.xyxy[0]).astype(int)
        assert (done.image[y1:y2, x1:x2] == 250).all()
        assert (done.image == 250).sum() == (image == 250).sum()
        seen.add(done.image.tobytes())
    assert len(seen) == 8, "flips and quarter turns have eight outcomes"


def test_the_key_decides_and_nothing_else() -> None:
    image, xyxy, _ = picture()
    params = AugmentParams(strength="strong", conditions=["darkness", "fog"], condition_share=0.8)
    first, second = Augmenter(params, seed=5), Augmenter(params, seed=5)
    for key in ((1, 4), (2, 4), (1, 5)):
        second(image, key=(99, 99))  # what was drawn before does not matter
        one, two = (which(image, key=key, xyxy=xyxy) for which in (first, second))
        assert np.array_equal(one.image, two.image) and np.array_equal(one.xyxy, two.xyxy)
    other = Augmenter(params, seed=6)(image, key=(1, 4))
    assert not np.array_equal(other.image, first(image, key=(1, 4)).image)


def test_none_changes_nothing() -> None:
    image, xyxy, mask = picture()
    params = AugmentParams(strength="none", conditions=["darkness"], condition_share=1.0)
    done = Augmenter(params, seed=0)(image, key=(0,), xyxy=xyxy, mask=mask)
    assert done.image is image and np.array_equal(done.xyxy, xyxy)


def test_conditions_come_as_often_as_asked_and_spare_masks() -> None:
    image, _, mask = picture()
    params = AugmentParams(conditions=["darkness"], condition_share=0.5, max_severity=5)
    augmenter = Augmenter(params, seed=2)
    dark = [augmenter(image, key=(n,)).image.max() < 240 for n in range(200)]
    assert 70 <= sum(dark) <= 130
    hiding = AugmentParams(conditions=["occlusion"], condition_share=1.0)
    done = Augmenter(hiding, seed=2)(image, key=(1,), mask=mask)
    assert (done.image[done.mask > 0] == 250).all()


def test_boxes_outside_are_left_out() -> None:
    image, _, _ = picture()
    boxes = np.array([[-50, -50, -10, -10], [30, 20, 50, 40], [80, 10, 200, 30]], np.float32)
    done = Augmenter(AugmentParams(), seed=1)(image, key=(1,), xyxy=boxes, class_id=np.arange(3))
    assert 1 in done.class_id and 0 not in done.class_id
    assert done.xyxy.min() >= 0


def test_no_object_appears_that_has_no_box() -> None:
    image, xyxy, mask = picture()
    augmenter = Augmenter(AugmentParams(strength="strong"), seed=4)
    for number in range(60):
        done = augmenter(image, key=(number,), xyxy=xyxy, class_id=np.array([0]), mask=mask)
        shown = done.image[..., 0] > done.image[done.mask > 0].mean() - 40
        assert not shown[_far_from(done.xyxy[0], shown.shape)].any()


def _far_from(xyxy, shape) -> np.ndarray:
    far = np.ones(shape, bool)
    x1, y1, x2, y2 = np.round(xyxy).astype(int)
    far[max(0, y1 - 3) : y2 + 3, max(0, x1 - 3) : x2 + 3] = False
    return far


def test_an_unknown_condition_is_named_at_once() -> None:
    with pytest.raises(ConfigError, match="'fogg'"):
        Augmenter(AugmentParams(conditions=["fogg"]), seed=0)
