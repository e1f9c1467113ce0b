"""Whether the intervals hold what they say: ``gate.py`` prints the rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from report import make_row

from visionloop.core.entities import Detections
from visionloop.core.progress import track
from visionloop.evaluation.classification import ClassificationMetrics
from visionloop.evaluation.coco_metrics import Truth
from visionloop.evaluation.detection import DetectionMetrics
from visionloop.evaluation.intervals import draw_weights, interval

__all__ = ["coverage_rows"]

CLASSES = ("functional", "defective")
TRIALS = 200
POPULATIONS = 8


def coverage_rows() -> list[dict[str, Any]]:
    """Share of intervals that hold the population's value, metric by metric."""
    wanted = {
        "balanced_accuracy": draw_classes,
        "accuracy": draw_classes,
        "macro_f1": draw_classes,
        "auroc": draw_classes,
        "recall/defective": draw_classes,
        "map50": draw_boxes,
        "map50_95": draw_boxes,
        "recall/defective of boxes": draw_boxes,
    }
    rows = []
    for draw in (draw_classes, draw_boxes):
        names = [name for name, made_by in wanted.items() if made_by is draw]
        for name, share in coverage(draw, names).items():
            claim = f"95 % intervals that hold the true {name}, {TRIALS} test sets"
            rows.append(make_row(claim, share, target=0.93))
    return rows


Draw = Callable[[np.random.Generator, int], tuple[Any, list[str]]]


def coverage(draw: Draw, names: list[str]) -> dict[str, float]:
    """Share of the trials whose interval holds the value of a large population."""
    keys = {name: name.removesuffix(" of boxes") for name in names}
    truth = true_values(draw, list(keys.values()))
    held = dict.fromkeys(names, 0)
    for trial in track(range(TRIALS), f"coverage, {draw.__name__}", total=TRIALS):
        made, groups = draw(np.random.default_rng([trial, 5]), 120)
        weights = draw_weights(groups, draws=400, seed=trial)
        drawn = made.resampled(weights)
        values = made.resampled(np.ones((1, len(made))))
        for name, key in keys.items():
            low, high = interval(float(values[key][0]), drawn[key], groups=len(set(groups)))
            held[name] += int(low <= truth[key] <= high)
    return {name: count / TRIALS for name, count in held.items()}


def true_values(draw: Draw, keys: list[str]) -> dict[str, float]:
    """Mean over large populations: the error of one would be a fifth of an interval's."""
    found = []
    for number in range(POPULATIONS):
        made, _ = draw(np.random.default_rng([99, number]), 4000)
        values = made.resampled(np.ones((1, len(made))))
        found.append([float(values[key][0]) for key in keys])
    return dict(zip(keys, np.mean(found, axis=0).tolist(), strict=True))


def draw_classes(
    generator: np.random.Generator, groups: int
) -> tuple[ClassificationMetrics, list[str]]:
    """Groups of one to four samples that share half of their difficulty."""
    sizes = generator.integers(1, 5, groups)
    group = np.repeat(np.arange(groups), sizes)
    truth = np.repeat(generator.integers(0, 2, groups), sizes)
    noise = generator.normal(size=groups)[group] + generator.normal(size=len(group))
    logit = (2 * truth - 1) * 1.1 + noise
    probability = 1 / (1 + np.exp(-1.5 * logit))
    rows: NDArray[np.float64] = np.stack([1 - probability, probability], axis=1)
    return ClassificationMetrics(truth, rows, CLASSES), [str(one) for one in group]


def draw_boxes(generator: np.random.Generator, images: int) -> tuple[DetectionMetrics, list[str]]:
    """Images with up to five boxes: found with shifts, missed more often in hard images."""
    truths, answers = [], []
    for _ in range(images):
        count = int(generator.integers(0, 6))
        corner = generator.uniform(0, 400, (count, 2))
        xyxy = np.hstack([corner, corner + generator.uniform(15, 80, (count, 2))])
        class_id = generator.integers(0, 2, count)
        truths.append(Truth(class_id, xyxy.astype(np.float32)))
        kept = generator.random(count) < generator.uniform(0.6, 1.0)
        moved = xyxy[kept] + generator.normal(0, 2.5, (int(kept.sum()), 4))
        extra = int(generator.integers(0, 3))
        corner = generator.uniform(0, 400, (extra, 2))
        invented = np.hstack([corner, corner + generator.uniform(15, 80, (extra, 2))])
        confidence = np.concatenate([generator.beta(5, 2, len(moved)), generator.beta(1, 4, extra)])
        said = np.concatenate([class_id[kept], generator.integers(0, 2, extra)])
        answers.append(Detections(np.vstack([moved, invented]), said, confidence))
    made = DetectionMetrics(truths, answers, CLASSES, dict.fromkeys(CLASSES, 0.5))
    return made, [str(number) for number in range(images)]
