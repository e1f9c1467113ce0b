"""The worst case in numbers: which samples, which conditions, means, intervals, budgets.

mPC, the mean of the metric over conditions and severities, and rPC, its share of the clean
metric, are from Michaelis et al., "Benchmarking Robustness in Object Detection", 2019
(arXiv 1907.07484: mean and relative performance under corruption).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from visionloop.core.files import sha256_of_bytes
from visionloop.evaluation.answers import AnsweredSamples, truth_of
from visionloop.evaluation.inputs import EvaluationInputs
from visionloop.evaluation.intervals import draw_weights, interval
from visionloop.evaluation.measurements import (
    ConditionResult,
    ConditionSummary,
    Estimate,
    Robustness,
    SubsetError,
)
from visionloop.evaluation.parts import why_not_enough
from visionloop.evaluation.slices import guarded_rows, with_derived

if TYPE_CHECKING:
    import pandas

__all__ = [
    "CLEAN",
    "Measured",
    "choose_samples",
    "conditions_of",
    "measure_condition",
    "stratified_subset",
    "subset_errors",
    "summarise",
]

CLEAN = ("clean", 0)
SUBSET_SHARES = (0.1, 0.25, 0.5)
SUBSET_DRAWS = 40


@dataclass(frozen=True, eq=False)
class Measured:
    """The answers under one condition at one severity, and the metric of their resamplings.

    Attributes
    ----------
    condition : str
    severity : int
    answered : AnsweredSamples
    estimate : Estimate
    drawn : float64 array (draws,)
        With the same draws for every condition.
    """

    condition: str
    severity: int
    answered: AnsweredSamples
    estimate: Estimate
    drawn: NDArray[np.float64]


def measure_condition(
    inputs: EvaluationInputs, answered: AnsweredSamples, condition: str, severity: int
) -> Measured:
    """The metric of ``targets.yaml`` with its interval."""
    metrics, name = answered.metrics(), inputs.targets.quality.metric
    groups, wanted = answered.groups(), inputs.params.intervals
    weights = draw_weights(groups, draws=wanted.draws, seed=inputs.project.seed)
    value, drawn = metrics.values()[name], metrics.resampled(weights)[name]
    ends = interval(value, drawn, groups=len(set(groups)), level=wanted.level)
    enough = not why_not_enough(metrics, groups, wanted)
    estimate = Estimate.of(value, ends, n=len(metrics), enough=enough)
    return Measured(condition, severity, answered, estimate, drawn)


def subset_errors(measured: Sequence[Measured], metric: str) -> list[SubsetError]:
    """How far mPC of fewer samples is from that of all: measured on the answers that are there.

    Each share draws 40 parts without replacement, by class where there is one; the errors
    are those of the mean over all conditions and severities.
    """
    conditions = [one.answered.metrics() for one in measured[1:]]
    if not conditions or len(conditions[0]) < 20:
        return []
    count = len(conditions[0])
    strata = [
        "+".join(str(one) for one in sorted(set(truth.class_id.tolist())))
        for truth in measured[0].answered.truths
    ]
    whole = float(np.nanmean([one.resampled(np.ones((1, count)))[metric][0] for one in conditions]))
    found = []
    for share in SUBSET_SHARES:
        size = max(2, round(share * count))
        weights = np.zeros((SUBSET_DRAWS, count))
        names = [str(number) for number in range(count)]
        for row in range(SUBSET_DRAWS):
            weights[row, stratified_subset(strata, names, size=size, seed=row)] = 1
        drawn = np.nanmean([one.resampled(weights)[metric] for one in conditions], axis=0)
        errors = np.abs(drawn - whole)
        found.append(
            SubsetError(
                samples=size,
                mean=float(np.nanmean(errors)),
                high=float(np.nanquantile(errors, 0.95)),
            )
        )
    return found


def stratified_subset(
    strata: Sequence[str], sample_ids: Sequence[str], *, size: int, seed: int
) -> NDArray[np.int64]:
    """Positions of a fixed subset that keeps the shares of the strata.

    Parameters
    ----------
    strata : sequence of str
        The stratum of each sample.
    sample_ids : sequence of str
        The order within a stratum follows a hash of the id and the seed, so that a
        sample's membership hardly depends on which other samples there are.
    size : int
        At most so many; each stratum keeps at least one sample where there is room.

    Returns
    -------
    int64 array, ascending
    """
    if len(sample_ids) <= size:
        return np.arange(len(sample_ids))
    ranks = [sha256_of_bytes(f"{seed}:{one}".encode()) for one in sample_ids]
    order = sorted(range(len(ranks)), key=lambda row: ranks[row])
    totals = Counter(strata)
    counts: Counter[str] = Counter()
    # The k-th sample of a stratum of n asks for place (k + 0.5) / n: the smallest places win.
    places = np.empty(len(order))
    for row in order:
        name = strata[row]
        places[row] = 0.0 if counts[name] == 0 else (counts[name] + 0.5) / totals[name]
        counts[name] += 1
    return np.sort(np.argsort(places, kind="stable")[:size])


def summarise(
    inputs: EvaluationInputs, count: int, measured: Sequence[Measured], *, is_full: bool = True
) -> Robustness:
    """Mean and worst at the severity of ``targets.yaml``, mPC and rPC over all severities.

    Every condition was resampled with the same draws, so the intervals of the means are
    those of the same samples under every condition.
    """
    nothing = Estimate(value=None, n=0, enough=False)
    clean = measured[0].estimate if measured else nothing
    results = [(one.condition, one.severity, one.estimate) for one in measured[1:]]
    limit = inputs.targets.worst_case.severity
    at_limit = {
        one.condition: one.estimate.value
        for one in measured[1:]
        if one.severity == limit and one.estimate.value is not None
    }
    mean_ends = _interval_of_mean(inputs, [one for one in measured[1:] if one.severity == limit])
    overall_ends = _interval_of_mean(inputs, list(measured[1:]))
    worst_condition = min(at_limit, key=lambda name: at_limit[name]) if at_limit else ""
    values = [estimate.value for _, _, estimate in results if estimate.value is not None]
    overall = float(np.mean(values)) if values else None
    return Robustness(
        metric=inputs.targets.quality.metric,
        package=inputs.package.sha256,
        fingerprint=inputs.version.fingerprint,
        samples=count,
        clean=clean,
        results=[
            ConditionResult(condition=condition, severity=severity, metric=estimate)
            for condition, severity, estimate in results
        ],
        severity=limit,
        mean=float(np.mean(list(at_limit.values()))) if at_limit else None,
        mean_low=mean_ends[0],
        mean_high=mean_ends[1],
        worst=at_limit.get(worst_condition),
        worst_condition=worst_condition,
        mean_under_conditions=overall,
        mean_under_conditions_low=overall_ends[0],
        mean_under_conditions_high=overall_ends[1],
        is_full=is_full,
        retained=_share(overall, clean.value),
        conditions=_by_condition(results, clean.value),
    )


def _by_condition(
    results: Sequence[tuple[str, int, Estimate]], clean: float | None
) -> dict[str, ConditionSummary]:
    """mPC and rPC of each condition, over its severities."""
    found = {}
    for name in dict.fromkeys(condition for condition, _, _ in results):
        values = [one.value for condition, _, one in results if condition == name]
        known = [value for value in values if value is not None]
        mean = float(np.mean(known)) if known else None
        found[name] = ConditionSummary(mean=mean, retained=_share(mean, clean))
    return found


def _interval_of_mean(
    inputs: EvaluationInputs, rows: Sequence[Measured]
) -> tuple[float | None, float | None]:
    known = [one for one in rows if one.estimate.value is not None]
    if not known:
        return None, None
    value = float(np.mean([one.estimate.value for one in known]))
    drawn = np.mean([one.drawn for one in known], axis=0)
    groups = len(set(known[0].answered.groups()))
    ends = interval(value, drawn, groups=groups, level=inputs.params.intervals.level)
    return tuple(float(end) if np.isfinite(end) else None for end in ends)  # type: ignore[return-value]


def _share(value: float | None, clean: float | None) -> float | None:
    return value / clean if value is not None and clean else None


def choose_samples(inputs: EvaluationInputs, *, most: int | None = None) -> pandas.DataFrame:
    """The guarded test samples, or a fixed part of them with the same mix of classes.

    Parameters
    ----------
    most : int or None
        Fewer than ``evaluation.robustness.max_samples``, for a budget.
    """
    test, wanted = inputs.version.split("test"), inputs.params.robustness.max_samples
    slices = inputs.targets.quality.slices
    guarded = guarded_rows(test, slices, inputs.package.manifest.train_mix)
    test = test.iloc[guarded].reset_index(drop=True)
    names = list(dict.fromkeys(slice_.column for slice_ in slices))
    test = with_derived(test, names)
    columns = [test[one] for one in names]
    classes = [
        "+".join(str(one) for one in sorted(set(truth_of(inputs.version, str(name)).class_id)))
        for name in test["sample_id"]
    ]
    strata = ["|".join(map(str, row)) for row in zip(classes, *columns, strict=True)]
    chosen = stratified_subset(
        strata,
        [str(one) for one in test["sample_id"]],
        size=min(wanted, max(1, most)) if most is not None else wanted,
        seed=inputs.project.seed,
    )
    return test.iloc[chosen].reset_index(drop=True)


def conditions_of(inputs: EvaluationInputs) -> list[tuple[str, int]]:
    """Every condition at every severity; an unknown name is refused before the first image."""
    from visionloop.data.synthesis.conditions.table import check_condition

    wanted = inputs.params.robustness
    severities = sorted({*wanted.severities, inputs.targets.worst_case.severity})
    names = list(dict.fromkeys(wanted.conditions))
    for name in names:
        check_condition(name)
    return [(name, severity) for name in names for severity in severities]
