"""Metrics of parts of the test samples, each with its interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from visionloop.evaluation.answers import Metrics
from visionloop.evaluation.detection import DetectionMetrics
from visionloop.evaluation.intervals import draw_weights, interval
from visionloop.evaluation.measurements import Estimate, Part, SlicePart
from visionloop.evaluation.params import IntervalParams
from visionloop.evaluation.slices import SampleSlice

__all__ = ["measure_part", "measure_slice", "why_not_enough"]


def measure_part(
    metrics: Metrics,
    groups: Sequence[str],
    rows: NDArray[np.int64],
    params: IntervalParams,
    *,
    seed: int,
) -> Part:
    """All metrics of some of the samples.

    Parameters
    ----------
    metrics : Metrics
        Of all test samples.
    groups : sequence of str
        The group of each test sample.
    rows : int64 array
        Positions of the part's samples; may be empty.
    """
    part = metrics.take(rows)
    names = [groups[row] for row in rows]
    why = why_not_enough(part, names, params)
    support, counts, least = part.support(), part.counts(), params.min_class_samples
    count = len(set(names))
    values = part.values()
    weights = draw_weights(names, draws=params.draws, seed=seed)
    drawn = part.resampled(weights)
    whole: dict[str, Estimate] = {}
    classes: dict[str, dict[str, Estimate]] = {name: {} for name in metrics.classes}
    for name, value in values.items():
        ends = interval(value, drawn[name], groups=count, level=params.level)
        kind, _, class_name = name.partition("/")
        if class_name:
            n = support[class_name]
            estimate = Estimate.of(value, ends, n=n, enough=n >= params.min_class_samples)
            classes[class_name][kind] = estimate
        else:
            n = counts.get(name, least)
            enough = not why and n >= least
            whole[name] = Estimate.of(value, ends, n=counts.get(name, len(rows)), enough=enough)
    return Part(
        samples=len(rows), groups=count, enough=not why, why=why, metrics=whole, classes=classes
    )


def measure_slice(
    metrics: Metrics,
    groups: Sequence[str],
    chosen: SampleSlice,
    params: IntervalParams,
    *,
    seed: int,
) -> SlicePart:
    """As :func:`measure_part`, for a slice."""
    part = measure_part(metrics, groups, chosen.rows, params, seed=seed)
    return SlicePart.model_validate(
        part.model_dump()
        | {
            "column": chosen.column,
            "value": chosen.value,
            "status": chosen.status,
            "train_samples": chosen.train_samples,
        }
    )


def why_not_enough(part: Metrics, groups: Sequence[str], params: IntervalParams) -> str:
    """Why a part is too small to judge by; empty where it is large enough."""
    if len(part) < params.min_samples:
        return f"{len(part)} samples, fewer than {params.min_samples}"
    if len(set(groups)) < 2:
        return "all samples are of one group"
    support = part.support()
    least = params.min_class_samples
    if not isinstance(part, DetectionMetrics):
        rare = [f"{name} has {count}" for name, count in support.items() if count < least]
        return f"{', '.join(rare)} true samples, fewer than {least}" if rare else ""
    boxes = sum(support.values())
    return f"{boxes} true boxes, fewer than {least}" if boxes < least else ""
