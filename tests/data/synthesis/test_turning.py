"""Turned samples: what a box and a mask show stays what they show."""

import numpy as np
import pytest

from visionloop.data.synthesis.recipes import MadeObject, MadeSample
from visionloop.data.synthesis.turning import turn_sample


def sample_with_one_mark() -> MadeSample:
    image = np.zeros((30, 50, 3), np.uint8)
    image[4:9, 10:22] = 200
    mask = image[..., 0] > 0
    return MadeSample(image, (MadeObject("mark", (10.0, 4.0, 22.0, 9.0), mask),), (), "ours")


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("quarters", range(4))
def test_the_box_still_holds_the_mark_and_nothing_else(quarters, mirrored) -> None:
    turned = turn_sample(sample_with_one_mark(), quarters=quarters, mirrored=mirrored)
    assert turned.image.shape[:2] == ((50, 30) if quarters % 2 else (30, 50))
    (one,) = turned.objects
    x1, y1, x2, y2 = (int(value) for value in one.xyxy)
    assert (turned.image[y1:y2, x1:x2] == 200).all()
    assert (turned.image > 0).sum() == 3 * 5 * 12
    assert (one.mask == (turned.image[..., 0] > 0)).all()


def test_the_eight_ways_differ() -> None:
    ways = {
        turn_sample(sample_with_one_mark(), quarters=q, mirrored=m).image.tobytes()
        for q in range(4)
        for m in (False, True)
    }
    assert len(ways) == 8
