"""Each check of oddities on drawn sets: it finds what was planted, and is silent otherwise."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from visionloop.core.entities import Annotation
from visionloop.data.datasets.mirrored import mirrored_borders
from visionloop.data.datasets.oddities import facts_of, find_oddities
from visionloop.data.datasets.table import RawSample
from visionloop.data.formats.pictures import Fault


def scene(number: int, width: int = 160, height: int = 120) -> np.ndarray:
    """Blobs and lines that are alike nowhere."""
    generator = np.random.default_rng(number)
    image = np.full((height, width, 3), 90, np.uint8)
    for _ in range(40):
        centre = tuple(int(generator.integers(0, side)) for side in (width, height))
        colour = tuple(int(one) for one in generator.integers(0, 255, 3))
        cv2.circle(image, centre, int(generator.integers(3, 15)), colour, -1)
    return image


def facts(file: str, image: np.ndarray, *rows: Annotation, split: str | None = None):
    content = cv2.imencode(".png", image)[1].tobytes()
    raw = RawSample(content, "png", "", "", "", {"file": file}, tuple(rows), official_split=split)
    return facts_of(raw, image)


def box(name: str, shift: float = 0.0) -> Annotation:
    return Annotation("", name, (5 + shift, 5, 30 + shift, 30))


def kinds(rows, faults=()) -> list[str]:
    return [oddity.kind for oddity in find_oddities(rows, faults)]


def test_a_set_without_oddities_is_met_with_silence():
    rows = [facts(f"images/{name}.png", scene(n), box("a")) for n, name in enumerate("qwertzuiop")]
    assert kinds(rows) == []


def test_the_same_picture_with_other_boxes_even_when_compressed_again():
    image = scene(0)
    again = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1], 1)
    rows = [facts("a.png", image, box("x")), facts("b.png", again, box("x", 20))]
    rows += [facts(f"{n}.png", scene(n), box("x")) for n in "345" for n in [int(n)]]
    (oddity,) = find_oddities(rows)
    assert oddity.kind == "same_picture_other_annotations" and oddity.files == ("a.png", "b.png")
    assert "a.png and b.png" in oddity.reason and "1 only in the first" in oddity.reason
    assert kinds([facts("a.png", image, box("x")), facts("b.png", again, box("x"))]) == [
        "same_picture"
    ]


def test_one_more_defect_makes_it_another_picture():
    image = scene(0)
    other = image.copy()
    cv2.rectangle(other, (70, 50), (80, 60), (0, 0, 0), -1)
    assert kinds([facts("a.png", image, box("x")), facts("b.png", other, box("y"))]) == []


def test_the_same_picture_across_official_splits():
    rows = [
        facts("a.png", scene(0), box("x"), split="train"),
        facts("b.png", scene(0), box("x"), split="test"),
    ]
    assert "same_picture_across_splits" in kinds(rows)


def test_boxes_of_another_class_than_the_file_name():
    rows = [facts(f"rust-spot_{n}.png", scene(n), box("rust spot")) for n in range(5)]
    rows += [facts(f"dent_{n}.png", scene(10 + n), box("dent")) for n in range(4)]
    assert kinds(rows) == []
    rows.append(facts("dent_9.png", scene(30), box("dent"), box("rust spot", 9)))
    (oddity,) = find_oddities(rows)
    assert oddity.kind == "foreign_class" and oddity.files == ("dent_9.png",)


@pytest.mark.parametrize("kind", [cv2.BORDER_REFLECT, cv2.BORDER_REFLECT_101])
@pytest.mark.parametrize("quality", [100, 92])
def test_mirrored_borders_are_measured(kind, quality):
    padded = cv2.copyMakeBorder(scene(3), 30, 20, 0, 24, kind)
    coded = cv2.imencode(".jpg", padded, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    left, top, right, bottom = mirrored_borders(cv2.imdecode(coded, 1))
    assert left == 0
    assert abs(top - 30) <= 1 and abs(right - 24) <= 1 and abs(bottom - 20) <= 1


def test_mirrors_of_one_width_are_told_and_mirrors_by_chance_are_not():
    def padded(number: int, top: int) -> np.ndarray:
        return cv2.copyMakeBorder(scene(number), top, 0, 0, 0, cv2.BORDER_REFLECT)

    alike = [facts(f"{name}.png", padded(n, 30)) for n, name in enumerate("abcd")]
    (oddity,) = find_oddities(alike)
    assert oddity.kind == "mirrored_border" and "4 of 4 pictures" in oddity.reason
    assert "30 px" in oddity.reason
    names = "abcdefghijkl"
    chance = [facts(f"{name}.png", padded(n, 16 + 2 * n)) for n, name in enumerate(names)]
    assert kinds(chance) == []


def test_symmetrical_traces_plain_edges_and_gradients_are_no_mirrors():
    stripes = np.zeros((120, 160, 3), np.uint8)
    stripes[:, ::16] = 255
    ramp = np.repeat(np.linspace(0, 255, 160, dtype=np.uint8)[None, :, None], 120, 0).repeat(3, 2)
    for image in (scene(5), ramp, np.full((120, 160, 3), 7, np.uint8), scene(6, 40, 40)):
        assert mirrored_borders(image) == (0, 0, 0, 0)
    assert mirrored_borders(stripes)[1::2] == (0, 0)


def test_settings_in_file_names_and_their_views():
    rows = []
    for view in range(8):
        for setting in range(1, 5):
            name = f"exp{setting}_num_{1000 * view + 7 * setting}.jpg"
            rows.append(facts(name, scene(10 * view + setting), Annotation("", "x")))
    (oddity,) = find_oddities(rows)
    assert oddity.kind == "setting_in_name"
    assert "'exp'" in oddity.reason and "4 values (1 to 4)" in oddity.reason
    assert "8 times, 4 neighbouring numbers" in oddity.reason


def test_official_splits_that_share_a_prefix_and_counters_that_do_not():
    rows = []
    for prefix, splits in (("120", "train test"), ("506", "train test"), ("920", "train")):
        for number in range(8):
            split = splits.split()[number % len(splits.split())]
            rows.append(facts(f"{prefix}{9 * number:02d}.png", scene(len(rows)), split=split))
    (oddity,) = find_oddities(rows)
    assert oddity.kind == "shared_prefix" and "8 of 8 official test pictures" in oddity.reason
    assert "120, 506" in oddity.reason
    counted = [
        facts(f"{number:05d}.png", scene(number), split=("train", "test")[number % 2])
        for number in range(24)
    ]
    assert kinds(counted) == []


def test_faults_that_say_something_about_the_set_are_counted():
    rows = [Fault("a.xml", "object[1]", "no area", "degenerate_box")] * 2
    rows += [Fault("m.png", "", "is empty", "empty_mask", True)]
    rows += [Fault("x.txt", "line 1", "no", "syntax")]
    found = find_oddities([], rows)
    assert [(one.kind, one.reason) for one in found] == [
        ("degenerate_box", "2 rows without area"),
        ("empty_mask", "1 empty masks of pictures filed under a defect"),
    ]
