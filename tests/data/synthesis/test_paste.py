"""Cut out, turn, place, paste: exact masks and boxes, rules of placement, blending."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from visionloop.data.synthesis.cutouts import bounds_of, cut_out, mask_of_polygon, turn
from visionloop.data.synthesis.paste import find_place, paste


@pytest.fixture
def picture() -> np.ndarray:
    """Left half dark, right half bright, a red disc at (60, 50) of radius 12."""
    image = np.full((120, 200, 3), 60, np.uint8)
    image[:, 100:] = 190
    return cv2.circle(image, (60, 50), 12, (20, 20, 230), -1)


BOX = (44.0, 34.0, 77.0, 67.0)


def is_red(image: np.ndarray) -> np.ndarray:
    return (image[..., 2].astype(int) - image[..., 1]) > 60


@pytest.mark.parametrize("outline", ["box", "ellipse", "grabcut"])
def test_outlines(picture, outline):
    cut = cut_out(picture, BOX, outline=outline, class_name="disc", source="s")
    disc = is_red(cut.pixels)
    assert (cut.mask & disc).sum() == disc.sum(), "the whole object is in the mask"
    extra = (cut.mask & ~disc).sum() / disc.sum()
    assert {"box": extra > 1, "ellipse": 0.2 < extra < 1, "grabcut": extra < 0.1}[outline]
    assert (cut.class_name, cut.source) == ("disc", "s")


def test_a_mask_or_polygon_beats_the_box(picture):
    ring = tuple(
        float(value)
        for angle in np.linspace(0, 2 * np.pi, 40)
        for value in (60 + 12 * np.cos(angle), 50 + 12 * np.sin(angle))
    )
    mask = mask_of_polygon((ring,), picture.shape[:2])
    cut = cut_out(picture, BOX, mask=mask)
    assert abs(cut.mask.sum() - is_red(picture).sum()) < 60  # OpenCV fills the outline as well
    assert cut.margin == pytest.approx(4, abs=1.1), "the room that the box left around it"
    with pytest.raises(ValueError, match="no pixel in box"):
        cut_out(picture, (100, 0, 120, 20), mask=mask)
    with pytest.raises(ValueError, match="no pixel in an image"):
        cut_out(picture, (300, 0, 320, 20))


def test_turning(picture):
    cut = cut_out(picture, BOX, outline="grabcut")
    for quarter in (90, 180, 270):
        turned = turn(cut, degrees=quarter)
        assert turned.mask.sum() == cut.mask.sum()
    assert np.array_equal(turn(turn(cut, degrees=90), degrees=270).pixels, cut.pixels)
    larger = turn(cut, degrees=30, scale=1.5)
    assert larger.mask.sum() == pytest.approx(2.25 * cut.mask.sum(), rel=0.1)
    assert larger.margin == pytest.approx(1.5 * cut.margin)


@pytest.mark.parametrize("blend", ["alpha", "shadow", "seamless"])
def test_pasted_object_is_where_its_mask_and_box_say(picture, blend):
    cut = cut_out(picture, BOX, outline="grabcut")
    ground = np.full((120, 200, 3), 120, np.uint8)
    done = paste(ground, cut, (100, 30), blend=blend)
    changed = np.abs(done.image.astype(int) - ground).max(axis=2) > 25
    assert (changed & done.mask).sum() > 0.8 * done.mask.sum()
    rim = cv2.dilate(done.mask.astype(np.uint8), np.ones((7, 7))) > 0
    assert blend == "shadow" or not (changed & ~rim).any()
    x1, y1, x2, y2 = bounds_of(done.mask)
    assert done.xyxy == pytest.approx(
        (x1 - cut.margin, y1 - cut.margin, x2 + cut.margin, y2 + cut.margin)
    )
    assert ground.min() == ground.max() == 120, "the ground itself is not touched"


def test_shadow_darkens_beside_the_object(picture):
    cut = cut_out(picture, BOX, outline="grabcut")
    ground = np.full((120, 200, 3), 120, np.uint8)
    done = paste(ground, cut, (100, 30), blend="shadow")
    around = cv2.dilate(done.mask.astype(np.uint8), np.ones((9, 9))) > 0
    assert done.image[around & ~done.mask].min() < 105 and done.image[~around].min() > 105


def test_an_object_at_the_rim_is_pasted_whole(picture):
    cut = cut_out(picture, BOX, outline="grabcut")
    down, across = cut.mask.shape
    for place in ((0, 0), (200 - across, 120 - down)):
        done = paste(np.full((120, 200, 3), 120, np.uint8), cut, place, blend="seamless")
        assert done.image.shape == (120, 200, 3) and done.mask.sum() == cut.mask.sum()


def test_rules_of_placement(picture):
    cut = cut_out(picture, BOX, outline="grabcut")
    ground = np.full((120, 200, 3), 60, np.uint8)
    ground[:, 100:] = 190
    rng = np.random.default_rng(0)

    def middles(where, **options):
        found = [find_place(ground, cut, rng, where=where, **options) for _ in range(30)]
        columns = np.flatnonzero(cut.mask.any(axis=0))
        return np.array([place[0] + columns.mean() for place in found if place is not None])

    assert (middles("dark") < 100).all() and (middles("bright") > 100).all()
    assert (np.abs(middles("edge") - 100) < 20).all()
    assert (np.abs(middles("flat") - 100) > 5).all()
    assert middles("anywhere").std() > 30
    assert (middles("matching") < 100).all(), "the disc lay on dark ground"
    allowed = np.zeros((120, 200), bool)
    allowed[:, 150:] = True
    assert (middles("anywhere", allowed=allowed) > 150).all()
    taken = np.zeros((120, 200), bool)
    taken[:, :140] = True
    assert (middles("anywhere", taken=taken) > 140).all()
    assert len(middles("dark", taken=taken)) == 0
    assert find_place(ground[:20, :20], cut, rng) is None


def test_black_and_white_stays_black_and_white(picture):
    ground = np.zeros((120, 200, 3), np.uint8)
    ground[:, 100:] = 255
    for blend in ("alpha", "seamless"):
        done = paste(ground, cut_out(picture, BOX, outline="ellipse"), (90, 40), blend=blend)
        assert set(np.unique(done.image)) <= {0, 255}
