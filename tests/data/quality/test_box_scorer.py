"""The scorer of boxes: errors that it did not plant are found and named, by weak witnesses too."""

from __future__ import annotations

import numpy as np
import pytest

from visionloop.core.entities import Detections
from visionloop.core.geometry import box_iou
from visionloop.data.quality.box_evidence import ClassReader, find_candidates
from visionloop.data.quality.box_scorer import image_doubt, score_boxes
from visionloop.data.quality.class_issues import neighbour_shares, rank_label_issues
from visionloop.data.quality.crop_evidence import describe_crops
from visionloop.data.quality.planted_errors import spoil

CLASSES = 3
EXTENT = 400.0


def scene(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Five boxes in cells of a grid, so that they never overlap."""
    cells = generator.choice(16, 5, replace=False)
    corner = np.stack([cells % 4, cells // 4], axis=1) * 100 + generator.uniform(5, 30, (5, 2))
    xyxy = np.concatenate([corner, corner + generator.uniform(30, 60, (5, 2))], axis=1)
    return xyxy.astype(np.float32), generator.integers(CLASSES, size=5)


def answer(boxes, generator: np.random.Generator, *, recall: float, right: float) -> Detections:
    """A detector that sees this share, names this share correctly, and imagines three boxes."""
    xyxy, class_id = boxes
    seen = generator.random(len(xyxy)) < recall
    drawn = xyxy[seen] + generator.normal(0, 2, (int(seen.sum()), 4))
    named = np.where(
        generator.random(len(drawn)) < right,
        class_id[seen],
        generator.integers(CLASSES, size=len(drawn)),
    )
    corner = generator.uniform(0, 340, (3, 2))
    imagined = np.concatenate([corner, corner + 40], axis=1)
    confidence = [generator.uniform(0.4, 0.95, len(drawn)), generator.uniform(0.01, 0.3, 3)]
    return Detections(
        np.concatenate([drawn, imagined]).astype(np.float32),
        np.concatenate([named, generator.integers(CLASSES, size=3)]),
        np.concatenate(confidence).astype(np.float32),
    )


def damage(given: list, image: int, kind: str) -> np.ndarray:
    """Spoil the first box of an image (by other rules than the scorer's own); its place."""
    xyxy, class_id = given[image][0].copy(), given[image][1].copy()
    place = xyxy[0].copy()
    if kind == "missing":
        xyxy, class_id = xyxy[1:], class_id[1:]
    elif kind == "swapped":
        class_id[0] = (class_id[0] + 1) % CLASSES
    elif kind == "shifted":
        xyxy[0] += np.array([18, 14, 18, 14], np.float32)
        place = xyxy[0].copy()
    else:
        free = next(
            np.array([x, y, x + 40, y + 40], np.float32)
            for x in range(0, 360, 20)
            for y in range(0, 360, 20)
            if box_iou(np.array([[x, y, x + 40, y + 40]], np.float32), xyxy).max() == 0
        )
        xyxy, class_id = np.concatenate([xyxy, free[None]]), np.append(class_id, 0)
        place = free
    given[image] = (xyxy, class_id)
    return place


def build(recall: float, right: float, seed: int = 0):
    """60 images, errors on twelve of them, and the detector's answers to what is really there."""
    generator = np.random.default_rng(seed)
    truth = [scene(generator) for _ in range(60)]
    answers = [answer(boxes, generator, recall=recall, right=right) for boxes in truth]
    given = list(truth)
    kinds = ("missing", "shifted", "swapped", "spurious") * 3
    errors = [(image, kind, damage(given, image, kind)) for image, kind in enumerate(kinds)]
    return given, answers, errors


def score(given, answers):
    return score_boxes(given, answers, [EXTENT] * len(given), CLASSES, seed=1)


def held_and_named(issues, errors) -> tuple[int, int]:
    """Errors that a list of their number holds, and of those the ones with the right kind."""
    listed = sorted(issues, key=lambda issue: -issue.probability)[: len(errors)]
    held = named = 0
    for image, kind, place in errors:
        there = [
            issue
            for issue in listed
            if issue.image == image and box_iou(place[None], issue.xyxy[None])[0, 0] > 0.3
        ]
        held += bool(there)
        named += bool(there) and there[0].kind == kind
    return held, named


def test_a_good_detector_finds_and_names_most_and_the_same_seed_says_the_same():
    # What it overlooks or mistakes looks like an error of people, so it may not do that often.
    given, answers, errors = build(recall=0.997, right=0.997)
    issues = score(given, answers)
    held, named = held_and_named(issues, errors)
    assert held >= 8 and named >= held - 1
    doubt = image_doubt(issues, 60)
    wrong = {image for image, _, _ in errors}
    assert len(set(np.argsort(-doubt)[:12]) & wrong) >= 8
    assert doubt.min() >= 0 and doubt.max() <= 1
    assert np.array_equal(doubt, image_doubt(score(given, answers), 60))


def test_a_detector_that_overlooks_a_third_is_no_witness_against_every_box():
    given, answers, errors = build(recall=0.65, right=0.8)
    issues = score(given, answers)
    unseen = [issue.probability for issue in issues if issue.kind == "spurious"]
    assert np.median(unseen) < 0.3  # a hundred boxes that it overlooks are no flood of findings
    held, _ = held_and_named(issues, errors)
    assert held >= 2  # of 12, among all that it overlooks by itself


def test_too_few_boxes_teach_nothing_and_silence_is_no_error():
    given, answers, _ = build(recall=0.9, right=0.9)
    assert score_boxes(given[:5], answers[:5], [EXTENT] * 5, CLASSES) == []
    silent = [Detections.empty()] * 60
    issues = score_boxes(given, silent, [EXTENT] * 60, CLASSES)
    assert all(issue.box >= 0 for issue in issues) and len(issues) > 0


def picture(boxes, generator: np.random.Generator) -> np.ndarray:
    """Grey noise; objects of class 0 are striped across, of 1 along, of 2 bright."""
    grey = generator.normal(100, 12, (int(EXTENT), int(EXTENT)))
    for (x1, y1, x2, y2), class_id in zip(boxes[0].astype(int), boxes[1], strict=True):
        along = np.arange(y1, y2)[:, None], np.arange(x1, x2)[None]
        stripes = [(along[0] // 5 % 2) * 80 - 40, (along[1] // 5 % 2) * 80 - 40, 80]
        grey[y1:y2, x1:x2] += stripes[int(class_id)]
    return np.clip(grey, 0, 255).astype(np.uint8)


def test_where_the_detector_is_silent_the_picture_tells():
    generator = np.random.default_rng(5)
    truth = [scene(generator) for _ in range(60)]
    pictures = [picture(boxes, generator) for boxes in truth]
    given = list(truth)
    kinds = ("shifted", "swapped", "spurious") * 4
    errors = [(image, kind, damage(given, image, kind)) for image, kind in enumerate(kinds)]
    silent = [Detections.empty()] * 60
    reads = [lambda one=one: one for one in pictures]
    extents = [EXTENT] * 60
    issues = score_boxes(given, silent, extents, CLASSES, seed=1, pictures=reads)
    held, named = held_and_named(issues, errors)
    blind, _ = held_and_named(score(given, silent), errors)
    assert held >= 10 and named >= held - 1
    assert blind <= 5


def test_a_crop_is_described_at_the_edge_and_without_area_too():
    grey = np.random.default_rng(0).integers(0, 255, (60, 80), dtype=np.uint8)
    boxes = np.array([[0, 0, 20, 20], [70, 50, 90, 70], [5, 5, 5, 5]], np.float32)
    found = describe_crops(grey, boxes)
    assert found.shape == (3, 390)
    assert np.isfinite(found).all()
    assert describe_crops(grey, boxes[:0]).shape == (0, 390)


def test_planted_errors_are_of_four_kinds_and_about_15_percent():
    generator = np.random.default_rng(0)
    given = [scene(generator) for _ in range(200)]
    spoilt = spoil(given, [EXTENT] * 200, CLASSES, generator)
    kinds = np.concatenate([one.kind for one in spoilt])
    removed = sum(len(one.removed) for one in spoilt)
    counts = [removed, *(int((kinds == number).sum()) for number in (1, 2, 3))]
    assert all(20 <= count <= 60 for count in counts), counts
    for before, after in zip(given, spoilt, strict=True):
        spurious = after.boxes[0][after.kind == 1]
        assert not len(spurious) or box_iou(spurious, before[0]).max() < 0.65
        moved = after.boxes[0][after.kind == 2]
        assert not len(moved) or (box_iou(moved, before[0]).max(axis=1) < 0.66).all()


def test_a_reader_undoes_a_detector_that_mixes_classes_up():
    generator = np.random.default_rng(0)
    given = [scene(generator) for _ in range(40)]
    turned = [
        Detections(xyxy, (class_id + 1) % CLASSES, np.full(len(xyxy), 0.8, np.float32))
        for xyxy, class_id in given
    ]
    reader = ClassReader.learn(given[:30], turned[:30], CLASSES)
    told = np.concatenate(
        [reader.read(xyxy, one) for (xyxy, _), one in zip(given[30:], turned[30:], strict=True)]
    )
    assert (told.argmax(axis=1) == np.concatenate([row for _, row in given[30:]])).all()


def test_candidates_for_missing_boxes_are_one_a_place():
    boxes = (np.array([[0, 0, 50, 50]], np.float32), np.array([0]))
    twice = [[2, 2, 52, 52], [200, 200, 240, 240], [201, 201, 241, 241]]
    told = Detections(
        np.array(twice, np.float32), np.array([0, 1, 2]), np.array([0.9, 0.5, 0.6], np.float32)
    )
    found = find_candidates(boxes, told, np.zeros((CLASSES, 2), np.float32))
    assert list(found.answer) == [2]
    assert found.evidence[0, 2] == pytest.approx(0.5)  # the other one supports it


def test_neighbours_of_the_same_group_are_not_asked():
    generator = np.random.default_rng(0)
    vectors = np.repeat(generator.normal(size=(60, 8)), 2, axis=0).astype(np.float32)
    class_ids = np.repeat(generator.integers(2, size=60), 2)
    pairs = [str(number // 2) for number in range(120)]
    alone = [str(number) for number in range(120)]
    apart, together = (
        neighbour_shares(vectors, class_ids, groups, classes=2) for groups in (alone, pairs)
    )
    own = np.arange(120), class_ids
    assert apart[own].mean() > together[own].mean() + 0.05
    assert np.allclose(apart.sum(axis=1), 1) and np.allclose(together.sum(axis=1), 1)


@pytest.mark.slow
def test_among_thousands_the_neighbours_help():
    generator = np.random.default_rng(0)
    right = np.arange(6000) % 6
    centres = 2.2 * np.eye(6, 24)
    vectors = (generator.normal(size=(6000, 24)) + centres[right]).astype(np.float32)
    said = right.copy()
    wrong = generator.choice(6000, 500, replace=False)
    said[wrong] = (said[wrong] + generator.integers(1, 6, 500)) % 6
    ranked = rank_label_issues(vectors, said, [str(n) for n in range(6000)], seed=0)
    assert (said != right)[np.argsort(-ranked.severity)[:60]].mean() >= 0.9
