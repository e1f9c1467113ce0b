"""``compare``: two packages on the same samples, by paired bootstrap.

Both are resampled with the same draws, so what the samples have in common cancels
and the interval is that of the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from visionloop.core.config import StrictModel
from visionloop.core.entities import Answer, Detections
from visionloop.core.errors import DataError
from visionloop.core.files import write_json
from visionloop.core.targets import load_targets
from visionloop.core.workspace import Workspace
from visionloop.evaluation.answers import AnsweredSamples, load_answers
from visionloop.evaluation.intervals import draw_weights, interval_of_difference
from visionloop.evaluation.measurements import Evaluation, load_evaluation
from visionloop.evaluation.params import IntervalParams, load_params
from visionloop.evaluation.parts import why_not_enough
from visionloop.evaluation.slices import DERIVED, find_slices

__all__ = [
    "Comparison",
    "ComparisonReport",
    "ComparisonRow",
    "compare",
    "compare_part",
    "pair_answers",
    "read_answers",
]

RowVerdict = Literal["better", "worse", "no clear difference", "not enough data"]


class ComparisonRow(StrictModel):
    """The same part of the samples, seen by two packages."""

    name: str
    samples: int
    first: float | None = None
    second: float | None = None
    difference: float | None = Field(default=None, description="second minus first")
    low: float | None = None
    high: float | None = None
    verdict: RowVerdict
    why: str


class Comparison(StrictModel):
    """The whole of ``comparison.json``."""

    metric: str
    first_package: str
    second_package: str
    common_samples: int
    verdict: Literal["better", "worse", "no clear difference"] = Field(
        description="of the second; worse if any part is significantly worse"
    )
    regressions: list[str] = Field(
        default_factory=list, description="parts of which the second is significantly worse"
    )
    rows: list[ComparisonRow]


@dataclass(frozen=True)
class ComparisonReport:
    """What ``compare`` made: ``reports/compare/comparison.json``."""

    path: Path
    comparison: Comparison


def compare(*, workspace: Workspace, first: Path, second: Path) -> ComparisonReport:
    """Compare two evaluation folders on the samples that both hold.

    The truth is that of the second; the metric is that of ``targets.yaml``.

    Raises
    ------
    DataError
        If a folder is damaged, the classes differ, or there is no common sample.
    """
    project, _, params = load_params(workspace)
    targets = load_targets(workspace.targets).quality
    evaluations = [load_evaluation(folder) for folder in (first, second)]
    answers = [
        read_answers(folder, evaluation)
        for folder, evaluation in zip((first, second), evaluations, strict=True)
    ]
    one, other = pair_answers(*answers)
    columns = [
        name for name in params.evaluate.slice_columns if name in other.samples or name in DERIVED
    ]
    slices = find_slices(other.samples, columns, targets.slices, {})
    parts: list[tuple[str, NDArray[np.int64]]] = [
        ("all common samples", np.arange(len(other.samples)))
    ]
    parts += [(part.name, part.rows) for part in slices]
    rows = [
        compare_part(name, one, other, chosen, targets.metric, params.intervals, seed=project.seed)
        for name, chosen in parts
    ]
    comparison = Comparison(
        metric=targets.metric,
        first_package=evaluations[0].package,
        second_package=evaluations[1].package,
        common_samples=len(other.samples),
        verdict=_verdict_of_all(rows),
        regressions=[row.name for row in rows if row.verdict == "worse"],
        rows=rows,
    )
    path = workspace.reports / "compare" / "comparison.json"
    write_json(path, comparison.model_dump(mode="json"))
    return ComparisonReport(path, comparison)


def read_answers(folder: Path, evaluation: Evaluation) -> AnsweredSamples:
    """The answers of an evaluation folder."""
    return load_answers(
        folder,
        vision_task=evaluation.vision_task,
        classes=evaluation.classes,
        thresholds=evaluation.thresholds,
    )


def pair_answers(
    first: AnsweredSamples, second: AnsweredSamples
) -> tuple[AnsweredSamples, AnsweredSamples]:
    """The common samples of both, in one order, with the truth and classes of the second.

    Raises
    ------
    DataError
        If they differ in vision task or in the set of classes, or have no sample in
        common.
    """
    subject = "comparison"
    if first.vision_task != second.vision_task or set(first.classes) != set(second.classes):
        raise DataError(
            subject,
            f"{first.vision_task} of {first.classes} and {second.vision_task} of "
            f"{second.classes} cannot be compared",
        )
    places = {name: row for row, name in enumerate(first.samples["sample_id"])}
    shared = [row for row, name in enumerate(second.samples["sample_id"]) if name in places]
    if not shared:
        raise DataError(subject, "the two evaluations have no sample in common")
    kept = second.samples.iloc[shared].reset_index(drop=True)
    truths = [second.truths[row] for row in shared]
    order = [places[name] for name in kept["sample_id"]]
    moved = [_reorder(first.answers[row], first.classes, second.classes) for row in order]
    task, classes = second.vision_task, second.classes
    return (
        AnsweredSamples(kept, truths, moved, task, classes, first.thresholds),  # type: ignore[arg-type]
        AnsweredSamples(
            kept,
            truths,
            [second.answers[row] for row in shared],  # type: ignore[arg-type]
            task,
            classes,
            second.thresholds,
        ),
    )


def compare_part(
    name: str,
    first: AnsweredSamples,
    second: AnsweredSamples,
    rows: NDArray[np.int64],
    metric: str,
    intervals: IntervalParams,
    *,
    seed: int,
) -> ComparisonRow:
    """Compare on some of the samples of :func:`pair_answers`."""
    one, other = first.metrics().take(rows), second.metrics().take(rows)
    groups = [second.groups()[row] for row in rows]
    why = why_not_enough(other, groups, intervals)
    if why:
        return ComparisonRow(name=name, samples=len(rows), verdict="not enough data", why=why)
    before, after = one.values()[metric], other.values()[metric]
    weights = draw_weights(groups, draws=intervals.draws, seed=seed)
    drawn = other.resampled(weights)[metric] - one.resampled(weights)[metric]
    low, high = interval_of_difference(
        after - before, drawn, groups=len(set(groups)), level=intervals.level
    )
    verdict: RowVerdict = "better" if low > 0 else "worse" if high < 0 else "no clear difference"
    return ComparisonRow(
        name=name,
        samples=len(rows),
        first=before,
        second=after,
        difference=after - before,
        low=low if np.isfinite(low) else None,
        high=high if np.isfinite(high) else None,
        verdict=verdict,
        why=f"{metric} {before:.3f} → {after:.3f}, difference {after - before:+.3f} "
        f"({low:+.3f} to {high:+.3f}) on {len(rows)} samples",
    )


def _reorder(answer: Answer, classes: Sequence[str], wanted: Sequence[str]) -> Answer:
    """Put an answer into another order of the same classes."""
    if list(classes) == list(wanted):
        return answer
    if not isinstance(answer, Detections):
        order = [list(classes).index(name) for name in wanted]
        return type(answer)(answer.probabilities[order])
    numbers = np.array([list(wanted).index(name) for name in classes], np.int64)
    return Detections(answer.xyxy, numbers[answer.class_id], answer.confidence)


def _verdict_of_all(
    rows: Sequence[ComparisonRow],
) -> Literal["better", "worse", "no clear difference"]:
    if any(row.verdict == "worse" for row in rows):
        return "worse"
    return "better" if rows[0].verdict == "better" else "no clear difference"
