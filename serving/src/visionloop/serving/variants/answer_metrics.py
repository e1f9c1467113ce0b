"""Metrics of ``targets.yaml`` on annotated samples: what precision variants are judged by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import (
    AttributeProbabilities,
    ClassProbabilities,
    Detections,
    Prediction,
)
from visionloop.core.quality import (
    accuracy_by_class,
    average_precision,
    mean_average_precision,
    separation,
)
from visionloop.serving.variants.reference import ReferenceSample

__all__ = ["measure_metric", "probabilities_of"]


def measure_metric(
    metric: str, answers: Sequence[Prediction], samples: Sequence[ReferenceSample], classes: int
) -> float:
    """A metric of ``targets.yaml`` on annotated samples; NaN where it is not defined.

    Parameters
    ----------
    metric : str
        ``accuracy``, ``balanced_accuracy``, ``auroc`` (two classes: the second one's),
        ``macro_average_precision``, ``macro_f1``, ``map50`` or ``map50_95``.
    answers, samples : sequences, one an image
    classes : int
    """
    if metric.startswith("map"):
        boxes = [one.boxes() for one in samples]
        found = [one.answer for one in answers if isinstance(one.answer, Detections)]
        steps = [0.5] if metric == "map50" else np.linspace(0.5, 0.95, 10).tolist()
        areas = [mean_average_precision(found, boxes, classes, min_iou=step) for step in steps]
        return float(np.mean(areas))
    rows = np.array([probabilities_of(one) for one in answers], np.float64)
    if metric.startswith("macro"):
        holds = np.zeros((len(samples), classes), np.bool_)
        for place, sample in enumerate(samples):
            holds[place, sample.attributes or []] = True
        occurring = np.flatnonzero(holds.any(axis=0))
        if not len(occurring):
            return float("nan")
        if metric == "macro_f1":
            said = rows >= 0.5
            sums = (said.sum(axis=0) + holds.sum(axis=0))[occurring]
            return float((2 * (said & holds).sum(axis=0)[occurring] / sums).mean())
        return float(np.mean([average_precision(rows[:, n], holds[:, n]) for n in occurring]))
    truth = np.array([one.class_id for one in samples], np.int64)
    if metric == "auroc":
        areas = [separation(rows[:, n], truth == n) for n in range(classes)]
        return areas[1] if classes == 2 else float(np.mean(areas))
    chosen = rows.argmax(axis=1)
    if metric == "balanced_accuracy":
        return accuracy_by_class(chosen, truth)
    return float((chosen == truth).mean())


def probabilities_of(prediction: Prediction) -> NDArray[np.float32]:
    """Probabilities of the whole picture, of classes or attributes: float32 (C,).

    Raises
    ------
    ValueError
        If the prediction is of boxes.
    """
    answer = prediction.answer
    if not isinstance(answer, ClassProbabilities | AttributeProbabilities):
        raise ValueError("boxes have no probabilities of the whole picture")
    return answer.probabilities
