"""Confidences of two forms of a model side by side: for the plot, and for how noisy a form is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import erfc, sqrt

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import ClassProbabilities, Detections, Prediction
from visionloop.core.geometry import match_boxes
from visionloop.serving.variants.answer_metrics import probabilities_of
from visionloop.serving.variants.parity import ATTRIBUTE_THRESHOLD, SEARCH_CONFIDENCE

__all__ = ["expect_changes", "measure_noise", "pair_confidences", "pair_margins"]

MAX_PAIRS = 400
"""Confidences that the page plots."""


def pair_confidences(
    first: Sequence[Prediction], second: Sequence[Prediction]
) -> tuple[tuple[float, float], ...]:
    """Confidences of the two forms: of the last class, or of the best partner of each box."""
    pairs: list[tuple[float, float]] = []
    for one, other in zip(first, second, strict=True):
        a, b = one.answer, other.answer
        if isinstance(a, Detections) and isinstance(b, Detections):
            pairs += [(x, y) for _, x, y, _ in _box_pairs(a, b)]
        else:
            pairs.append((float(probabilities_of(one)[-1]), float(probabilities_of(other)[-1])))
    step = max(1, len(pairs) // MAX_PAIRS)
    return tuple((round(x, 4), round(y, 4)) for x, y in pairs[::step])


def pair_margins(
    first: Sequence[Prediction], second: Sequence[Prediction], limits: NDArray[np.float32]
) -> NDArray[np.float64]:
    """How far each decision is from falling the other way, in both forms.

    Parameters
    ----------
    first, second : sequences of Prediction
    limits : float32 array (C,)
        Thresholds of boxes by class.

    Returns
    -------
    float64 array (N, 2)
        Of a box its confidence less the threshold, of an attribute its probability less one
        half, of classes what the first form's best leads its runner-up by: above 0 is yes.
    """
    rows: list[tuple[float, float]] = []
    for one, other in zip(first, second, strict=True):
        a, b = one.answer, other.answer
        if isinstance(a, Detections) and isinstance(b, Detections):
            rows += [(x - limits[n], y - limits[n]) for n, x, y, _ in _box_pairs(a, b)]
            continue
        p, q = probabilities_of(one), probabilities_of(other)
        if not isinstance(a, ClassProbabilities):
            rows += zip(p - ATTRIBUTE_THRESHOLD, q - ATTRIBUTE_THRESHOLD, strict=True)
        elif len(p) > 1:
            runner_up, best = np.argsort(p, kind="stable")[-2:]
            rows.append((p[best] - p[runner_up], q[best] - q[runner_up]))
    return np.array(rows, np.float64).reshape(-1, 2)


def measure_noise(first: Sequence[Prediction], second: Sequence[Prediction]) -> float:
    """How much the second form's answers differ: a number that a few images determine well.

    Root mean square of the differences of confidence; of boxes also of what their overlap with
    their partner lacks to 1.
    """
    squares: list[float] = []
    apart: list[float] = []
    for one, other in zip(first, second, strict=True):
        a, b = one.answer, other.answer
        if isinstance(a, Detections) and isinstance(b, Detections):
            for _, x, y, iou in _box_pairs(a, b):
                squares.append((x - y) ** 2)
                apart.append((1 - iou) ** 2)
        else:
            p, q = probabilities_of(one), probabilities_of(other)
            squares.append(float(np.mean((p - q) ** 2)))
    total = float(np.mean(squares)) if squares else 0.0
    return sqrt(total + (float(np.mean(apart)) if apart else 0.0))


def expect_changes(margins: NDArray[np.float64]) -> float:
    """Share of the decisions that differences as large as these change on average.

    The differences are taken to be normal and alike for all decisions. A few images on which by
    chance nothing changed thus do not look as if nothing could.

    Parameters
    ----------
    margins : float64 array (N, 2)
        From :func:`pair_margins`.
    """
    if not len(margins):
        return 0.0
    width = float(np.sqrt(np.mean((margins[:, 1] - margins[:, 0]) ** 2)))
    if width == 0:
        return 0.0
    away = abs(margins[:, 0]) / (width * sqrt(2))
    return float(np.mean([0.5 * erfc(one) for one in away.tolist()]))


def _box_pairs(a: Detections, b: Detections) -> Iterator[tuple[int, float, float, float]]:
    """Class of each box of the first form, its confidence, that of its partner, their overlap.

    Without a partner its confidence is 0, and the overlap one half: the least that pairs have.
    """
    for class_id in np.unique(a.class_id).tolist():
        x = a[(a.class_id == class_id) & (a.confidence >= SEARCH_CONFIDENCE)]
        y = b[b.class_id == class_id]
        matched = {row: (column, iou) for row, column, iou in match_boxes(x.xyxy, y.xyxy)}
        for row, confidence in enumerate(x.confidence.tolist()):
            column, iou = matched.get(row, (-1, 0.5))
            yield class_id, confidence, 0.0 if column < 0 else float(y.confidence[column]), iou
