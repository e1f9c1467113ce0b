"""Our metrics against the libraries people trust, and intervals against what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from visionloop.core.entities import Detections
from visionloop.evaluation.classification import ClassificationMetrics, confusion_of_classes
from visionloop.evaluation.coco_metrics import Truth, average_precisions
from visionloop.evaluation.detection import DetectionMetrics, confusion_of_boxes
from visionloop.evaluation.intervals import draw_weights, interval


def made_probabilities(count: int, classes: int, seed: int) -> ClassificationMetrics:
    generator = np.random.default_rng(seed)
    truth = generator.choice(classes, count, p=np.array([4, *[1] * (classes - 1)]) / (3 + classes))
    logits = generator.normal(size=(count, classes)) + 1.2 * np.eye(classes)[truth]
    rows = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return ClassificationMetrics(truth, rows.round(2), [f"class {n}" for n in range(classes)])


def made_boxes(images: int, classes: int, seed: int) -> DetectionMetrics:
    """Boxes found, shifted, confused, missed and invented, with ties in confidence."""
    generator = np.random.default_rng(seed)
    truths, answers = [], []
    for _ in range(images):
        count = generator.integers(0, 8)
        corner = generator.uniform(0, 400, (count, 2))
        xyxy = np.hstack([corner, corner + generator.uniform(12, 90, (count, 2))])
        class_id = generator.integers(0, classes, count)
        truths.append(Truth(class_id, xyxy.astype(np.float32)))
        kept = generator.random(count) < 0.8
        moved = xyxy[kept] + generator.normal(0, 2.5, (kept.sum(), 4))
        confused = generator.random(kept.sum()) < 0.1
        said = np.where(confused, generator.integers(0, classes, kept.sum()), class_id[kept])
        extra = generator.integers(0, 10)
        corner = generator.uniform(0, 400, (extra, 2))
        invented = np.hstack([corner, corner + generator.uniform(12, 90, (extra, 2))])
        confidence = np.concatenate(
            [generator.beta(4, 2, len(moved)), generator.beta(1, 5, extra)]
        ).round(2)
        answers.append(
            Detections(
                np.vstack([moved, invented]),
                np.concatenate([said, generator.integers(0, classes, extra)]),
                confidence,
            )
        )
    names = [f"class {number}" for number in range(classes)]
    return DetectionMetrics(truths, answers, names, dict.fromkeys(names, 0.5))


@pytest.mark.parametrize("classes", [2, 4])
def test_classification_equals_scikit_learn(classes) -> None:
    from sklearn import metrics as reference

    made = made_probabilities(300, classes, seed=classes)
    found, answers = made.values(), made.probabilities.argmax(axis=1)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(made.truth, answers))
    assert found["balanced_accuracy"] == pytest.approx(
        reference.balanced_accuracy_score(made.truth, answers)
    )
    areas = [
        reference.roc_auc_score(made.truth == number, made.probabilities[:, number])
        for number in range(classes)
    ]
    assert found["auroc"] == pytest.approx(np.mean(areas))
    recalls = reference.recall_score(made.truth, answers, average=None)
    assert [found[f"recall/{name}"] for name in made.classes] == pytest.approx(recalls)
    f1s = reference.f1_score(made.truth, answers, average=None)
    assert [found[f"f1/{name}"] for name in made.classes] == pytest.approx(f1s)
    assert found["macro_f1"] == pytest.approx(np.mean(f1s))
    table = reference.confusion_matrix(made.truth, answers)
    assert (confusion_of_classes(made) == table).all()


def test_weights_are_the_same_as_repeated_samples() -> None:
    made = made_probabilities(80, 3, seed=5)
    weights = draw_weights([str(one // 2) for one in range(80)], draws=3, seed=1)
    drawn = made.resampled(weights)
    for row in range(3):
        repeated = made.take(np.repeat(np.arange(80), weights[row].astype(int))).values()
        for name, value in repeated.items():
            assert drawn[name][row] == pytest.approx(value), name


def test_calibration_error_of_a_liar_and_of_an_honest_one() -> None:
    truth = np.array([0, 1] * 50)
    liar = np.tile([0.9, 0.1], (100, 1))
    honest = np.tile([0.5, 0.5], (100, 1))
    assert ClassificationMetrics(truth, liar, ["a", "b"]).values()["ece"] == pytest.approx(0.4)
    assert ClassificationMetrics(truth, honest, ["a", "b"]).values()["ece"] == pytest.approx(0.0)


@pytest.mark.parametrize("seed", range(4))
def test_own_average_precision_equals_faster_coco_eval(seed) -> None:
    made = made_boxes(60, 4, seed)
    expected = average_precisions(made.truths, made.detections, made.classes)
    own = made.resampled(np.ones((1, 60)))
    assert 0.2 < expected["map50"] < 0.95
    for name, value in expected.items():
        # Of one size there are few boxes, and ties in confidence count more.
        near = 3e-3 if name in ("map50_small", "map50_medium", "map50_large") else 1e-3
        assert own[name][0] == pytest.approx(value, abs=near, nan_ok=True), name


BY_PYCOCOTOOLS = {
    0: {
        "map50": 0.6770323086701088,
        "map50_95": 0.3896549761198643,
        "map50_small": 0.45792079207920794,
        "map50_medium": 0.679281219685945,
        "map50_large": 0.6933730946916997,
        "ap50/class 0": 0.7083011779220575,
        "ap50/class 1": 0.6628909162054606,
        "ap50/class 2": 0.6599048318828086,
    },
    1: {
        "map50": 0.7029456733825432,
        "map50_95": 0.43072743503491817,
        "map50_small": 0.8074807480748074,
        "map50_medium": 0.7433543029140997,
        "map50_large": 0.661180136111217,
        "ap50/class 0": 0.708003559992914,
        "ap50/class 1": 0.6763155159188821,
        "ap50/class 2": 0.7245179442358337,
    },
}
"""What pycocotools 2.0.11 says of ``scaled(made_boxes(80, 3, seed))``, by seed."""


def scaled(made: DetectionMetrics, factor: float = 1.8) -> DetectionMetrics:
    """The same, larger: boxes of all three sizes."""
    by = np.float32(factor)
    truths = [Truth(one.class_id, one.xyxy * by) for one in made.truths]
    found = [Detections(one.xyxy * by, one.class_id, one.confidence) for one in made.detections]
    return DetectionMetrics(truths, found, made.classes, made.thresholds)


@pytest.mark.parametrize("seed", [0, 1])
def test_average_precision_equals_pycocotools(seed) -> None:
    made = scaled(made_boxes(80, 3, seed))
    found, own = made.values(), made.resampled(np.ones((1, 80)))
    for name, value in BY_PYCOCOTOOLS[seed].items():
        assert found[name] == pytest.approx(value, abs=1e-4), name
        assert own[name][0] == pytest.approx(value, abs=1e-3), name
    assert sum(made.counts().values()) == sum(made.support().values())


def test_boxes_that_know_what_they_are_worth() -> None:
    """Confidence .8 and right in eight of ten: no calibration error; all right: .2."""
    box = np.array([[0, 0, 40, 40]], np.float32)
    truth = Truth(np.array([0]), box)
    away = box + 200
    names, limits = ["a"], {"a": 0.5}

    def error(right: int) -> float:
        found = [
            Detections(box if number < right else away, np.array([0]), np.array([0.8]))
            for number in range(10)
        ]
        return DetectionMetrics([truth] * 10, found, names, limits).values()["ece"]

    assert error(8) == pytest.approx(0.0, abs=1e-6)
    assert error(10) == pytest.approx(0.2, abs=1e-6)


def test_resampled_average_precision_equals_repeated_images() -> None:
    made = made_boxes(40, 3, seed=9)
    weights = draw_weights([str(one) for one in range(40)], draws=3, seed=0)
    drawn = made.resampled(weights)
    for row in range(3):
        repeated = made.take(np.repeat(np.arange(40), weights[row].astype(int))).values()
        assert drawn["map50"][row] == pytest.approx(repeated["map50"], abs=0.01)
        assert drawn["recall/class 0"][row] == pytest.approx(repeated["recall/class 0"])


def test_boxes_without_truth_or_without_answers() -> None:
    nothing = Truth(np.zeros(0, np.int64), np.zeros((0, 4), np.float32))
    one = Truth(np.array([0]), np.array([[0, 0, 10, 10]], np.float32))
    found = Detections(one.xyxy, one.class_id, np.array([0.9], np.float32))
    names, limits = ["a", "b"], {"a": 0.5, "b": 0.5}
    silent = DetectionMetrics([one, nothing], [Detections.empty()] * 2, names, limits).values()
    assert silent["map50"] == 0 and silent["recall/a"] == 0 and np.isnan(silent["ap50/b"])
    empty = DetectionMetrics([nothing], [found], names, limits)
    assert np.isnan(empty.values()["map50"])
    assert confusion_of_boxes(empty).tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 0]]
    both = DetectionMetrics([one], [found], names, limits).values()
    assert both["map50"] == both["map50_95"] == both["precision/a"] == 1


def test_groups_are_drawn_whole() -> None:
    weights = draw_weights(["a", "a", "b", "c", "c", "c"], draws=50, seed=3)
    assert (weights[:, 0] == weights[:, 1]).all() and (weights[:, 3] == weights[:, 5]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()
    assert (weights == draw_weights(["a", "a", "b", "c", "c", "c"], draws=50, seed=3)).all()


def test_interval_of_one_group_and_of_perfection() -> None:
    assert np.isnan(interval(0.5, np.full(100, 0.5), groups=1)).all()
    assert interval(1.0, np.ones(100), groups=60) == (0.95, 1.0)
    assert interval(0.0, np.zeros(100), groups=60) == (0.0, 0.05)


def test_intervals_cover_what_they_promise() -> None:
    """95 % intervals of balanced accuracy hold the true value in at least 90 % of 200 draws."""
    generator = np.random.default_rng(11)
    recalls, covered = np.array([0.9, 0.7]), 0
    for trial in range(200):
        truth = (np.arange(150) % 3 == 0).astype(np.int64)
        is_right = generator.random(150) < recalls[truth]
        answers = np.where(is_right, truth, 1 - truth)
        made = ClassificationMetrics(truth, np.eye(2)[answers], ["a", "b"])
        weights = draw_weights([str(one) for one in range(150)], draws=400, seed=trial)
        value = made.values()["balanced_accuracy"]
        low, high = interval(value, made.resampled(weights)["balanced_accuracy"], groups=150)
        covered += low <= recalls.mean() <= high
    assert 186 <= covered <= 199
