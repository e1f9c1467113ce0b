"""Round trips between formats, over boxes and outlines that hypothesis thinks of."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionloop.core.entities import Annotation
from visionloop.data.formats.outlines import draw_outline, trace_objects
from visionloop.data.formats.pictures import Fault, LoadOptions, Picture
from visionloop.data.formats.sources import open_source
from visionloop.data.formats.table import FORMATS, guess_format, open_format

CLASSES = ["open", "pin hole", "naïve"]
FEW = settings(max_examples=25, deadline=None)


@st.composite
def boxes(draw, width: int, height: int) -> Annotation:
    x1 = draw(st.floats(0, width - 1, width=32))
    y1 = draw(st.floats(0, height - 1, width=32))
    x2 = draw(st.floats(x1 + 1, width)) if x1 + 1 < width else float(width)
    y2 = draw(st.floats(y1 + 1, height)) if y1 + 1 < height else float(height)
    return Annotation("", draw(st.sampled_from(CLASSES)), (x1, y1, x2, y2))


@st.composite
def outlines(draw, width: int, height: int) -> Annotation:
    points = draw(
        st.lists(
            st.tuples(st.floats(0, width, width=32), st.floats(0, height, width=32)),
            min_size=3,
            max_size=12,
        ).filter(lambda rows: all(np.ptp([row[side] for row in rows]) > 1 for side in (0, 1)))
    )
    ring = tuple(float(value) for point in points for value in point)
    box = (min(ring[0::2]), min(ring[1::2]), max(ring[0::2]), max(ring[1::2]))
    return Annotation("", draw(st.sampled_from(CLASSES)), box, polygon=(ring,))


@st.composite
def sets(draw, rows) -> list[Picture]:
    pictures = []
    for number in range(draw(st.integers(1, 3))):
        width, height = draw(st.integers(8, 4000)), draw(st.integers(8, 40))
        some = draw(st.lists(rows(width, height), max_size=4, unique_by=lambda one: one.xyxy))
        annotations = tuple(some) or (Annotation("", ""),)
        split = draw(st.sampled_from(["train", "val", "test"]))
        pictures.append(Picture(f"{number:04d}.png", annotations, (), width, height, split))
    return pictures


def through(name: str, pictures: list[Picture], folder: Path) -> list[Picture]:
    """Save in a format and load again; a fault fails the test."""
    form = open_format(name)
    placed = [replace(one, file=form.place_of(one)) for one in pictures]
    for one in placed:
        place = folder / one.file
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            cv2.imwrite(str(place), np.zeros((one.height, one.width), np.uint8))
    form.save(folder, placed, CLASSES)
    with open_source(folder) as files:
        assert guess_format(files).name == name
        loaded = list(form.load(files, LoadOptions()))
    said = [one for one in loaded if isinstance(one, Fault)]
    assert not [str(one) for one in said if one.kind != "doubled_row"]  # rounding makes equals
    return sorted(
        (one for one in loaded if isinstance(one, Picture)), key=lambda one: Path(one.file).name
    )


def assert_close(found: list[Picture], wanted: list[Picture], tolerance: float) -> None:
    assert len(found) == len(wanted)
    for one, two in zip(found, wanted, strict=True):
        assert (Path(one.file).name, one.width, one.height) == (two.file, two.width, two.height)
        assert len(one.annotations) == len(two.annotations)
        rest = list(two.annotations)
        for row in one.annotations:
            if row.xyxy is None:
                assert rest == [row]
                continue
            near = [other for other in rest if _distance(row, other) <= tolerance]
            assert near, f"{row} is not near any of {rest}"
            rest.remove(min(near, key=lambda other: _distance(row, other)))


def _distance(one: Annotation, two: Annotation) -> float:
    if one.class_name != two.class_name or two.xyxy is None or one.xyxy is None:
        return float("inf")
    ours = [*one.xyxy, *(value for ring in one.polygon for value in ring)]
    theirs = [*two.xyxy, *(value for ring in two.polygon for value in ring)]
    if len(ours) != len(theirs):
        return float("inf")
    return max(abs(a - b) for a, b in zip(ours, theirs, strict=True))


def travel(route: list[str], pictures: list[Picture], tolerance: float) -> None:
    current = pictures
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(route):
            found = through(name, current, Path(folder, str(number)))
            current = [replace(one, file=Path(one.file).name) for one in found]
    assert_close(current, pictures, tolerance)


@FEW
@given(pictures=sets(boxes))
def test_boxes_coco_yolo_coco_labelme_stay_within_a_thousandth_of_a_pixel(pictures):
    travel(["coco", "yolo", "coco", "labelme"], pictures, 1e-3)


@FEW
@given(pictures=sets(boxes))
def test_boxes_coco_yolo_voc_and_back_stay_within_half_a_pixel(pictures):
    travel(["coco", "yolo", "voc", "yolo", "coco"], pictures, 0.5 + 1e-3)


@FEW
@given(pictures=sets(boxes))
def test_boxes_voc_labelme_deeppcb_voc_stay_within_half_a_pixel(pictures):
    travel(["voc", "labelme", "deeppcb", "voc"], pictures, 0.5 + 1e-3)


@FEW
@given(pictures=sets(outlines))
def test_outlines_coco_yolo_labelme_coco_stay_within_a_thousandth_of_a_pixel(pictures):
    travel(["coco", "yolo", "labelme", "coco"], pictures, 1e-3)


@FEW
@given(pictures=sets(boxes))
def test_splits_survive_every_format_of_boxes(pictures):
    for name in ("coco", "yolo", "voc"):
        with tempfile.TemporaryDirectory() as folder:
            found = through(name, pictures, Path(folder))
        assert [one.split for one in found] == [one.split for one in pictures]


@FEW
@given(
    shares=st.lists(st.integers(0, 60), min_size=3, max_size=3).filter(any),
    split=st.sampled_from(["train", "test"]),
)
def test_soft_classes_csv_and_coco_keep_every_probability(shares, split):
    total = sum(shares)
    rows = tuple(
        (name, count / total) for name, count in zip(CLASSES, shares, strict=True) if count
    )
    best = max(rows, key=lambda row: row[1])[0]
    picture = Picture("0000.png", (Annotation("", best, probabilities=rows),), (), 9, 9, split)
    for name in ("csv", "coco"):
        with tempfile.TemporaryDirectory() as folder:
            (found,) = through(name, [picture], Path(folder))
        assert found.annotations == picture.annotations and found.split == split


@FEW
@given(
    cells=st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 2)),
        min_size=1,
        max_size=12,
        unique_by=lambda cell: cell[:2],
    ),
    seed=st.integers(0, 1000),
)
def test_masks_are_drawn_back_pixel_by_pixel(cells, seed):
    """Objects of one cell each, a pixel apart, random inside but without holes."""
    generator = np.random.default_rng(seed)
    rows, drawn = [], []
    for column, line, number in cells:
        mask = np.zeros((64, 64), bool)
        for row in range(1, 9):
            start, length = generator.integers(1, 5), generator.integers(4, 6)
            mask[line * 10 + row, column * 10 + start : column * 10 + start + length] = True
        rows += [
            Annotation("", CLASSES[number], one.xyxy, polygon=one.polygon)
            for one in trace_objects(mask, as_one=True)
        ]
        drawn.append(mask)
    picture = Picture("0000.png", tuple(rows), (), 64, 64, "train")
    with tempfile.TemporaryDirectory() as folder:
        (found,) = through("mask", [picture], Path(folder))
    assert len(found.annotations) == len(rows)
    painted = np.zeros((64, 64), bool)
    for row in found.annotations:
        painted |= draw_outline(row.polygon, 64, 64)
    assert (painted == np.logical_or.reduce(drawn)).all()
    assert {(row.class_name, row.xyxy) for row in found.annotations} == {
        (row.class_name, row.xyxy) for row in rows
    }


def test_single_pixels_and_lines_are_objects_too():
    for pixels in ([(3, 4)], [(3, 4), (3, 5)], [(3, 4), (4, 5)], [(0, 0)], [(7, 7), (6, 7)]):
        mask = np.zeros((8, 8), bool)
        for y, x in pixels:
            mask[y, x] = True
        (one,) = trace_objects(mask)
        assert (draw_outline(one.polygon, 8, 8) == mask).all()


def test_an_object_in_parts_stays_one_object_in_coco_and_labelme(tmp_path):
    rings = ((1.0, 1.0, 5.0, 1.0, 5.0, 5.0), (10.0, 10.0, 15.0, 10.0, 15.0, 15.0))
    row = Annotation("", "open", (1.0, 1.0, 15.0, 15.0), polygon=rings)
    picture = Picture("0000.png", (row,), (), 20, 20, "train")
    for name in ("coco", "labelme"):
        (found,) = through(name, [picture], tmp_path / name)
        assert found.annotations == (row,)
    (found,) = through("yolo", [picture], tmp_path / "yolo")
    assert [one.polygon for one in found.annotations] == [(rings[0],), (rings[1],)]


def test_image_folders_keep_class_and_split(tmp_path):
    rows = [
        Picture(f"{n}.png", (Annotation("", CLASSES[n % 2]),), (), 9, 9, ("train", "test")[n % 2])
        for n in range(4)
    ]
    found = through("imagefolder", rows, tmp_path)
    assert [(one.annotations[0].class_name, one.split) for one in found] == [
        (one.annotations[0].class_name, one.split) for one in rows
    ]


@pytest.mark.parametrize("name", FORMATS)
def test_pictures_that_nobody_annotated_stay_so(name, tmp_path):
    """They come back without annotations, or not at all: never as "nothing there"."""
    whole = name in ("imagefolder", "csv")
    ring = (1.0, 1.0, 5.0, 1.0, 5.0, 5.0)
    polygon = (ring,) if name == "mask" else ()
    box = None if whole else (1.0, 1.0, 5.0, 5.0)
    row = Annotation("", "open", box, polygon=() if whole else polygon)
    other = Annotation("", "naïve", box, polygon=() if whole else polygon)
    pictures = [
        Picture("a.png", (row,), (), 9, 9, "train"),
        Picture("b.png", (), (), 9, 9, "train"),
        Picture("c.png", (other,), (), 9, 9, "train"),
    ]
    form = open_format(name)
    placed = [replace(one, file=form.place_of(one)) for one in pictures]
    for one in placed:
        (tmp_path / one.file).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / one.file), np.zeros((9, 9), np.uint8))
    form.save(tmp_path, placed, CLASSES)
    with open_source(tmp_path) as files:
        loaded = list(form.load(files, LoadOptions()))
    assert not [one for one in loaded if isinstance(one, Fault) and not one.is_note]
    found = {Path(one.file).name: one.annotations for one in loaded if isinstance(one, Picture)}
    assert len(found["a.png"]) == len(found["c.png"]) == 1
    assert found.get("b.png", ()) == ()
