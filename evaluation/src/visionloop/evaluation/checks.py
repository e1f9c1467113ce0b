"""The gate's questions about quality: clean, by class, by slice, calibrated, in the worst case.

Each compares a measurement with a limit of ``targets.yaml``.
"""

from __future__ import annotations

from typing import Any

from visionloop.core.errors import ConfigError
from visionloop.core.targets import QualityTargets, Targets, WorstCaseTargets
from visionloop.evaluation.gate_report import Check
from visionloop.evaluation.measurements import Estimate, Evaluation, Part, Robustness

__all__ = ["check_calibration", "check_quality", "check_worst_case", "missing"]


def check_quality(evaluation: Evaluation, targets: Targets) -> list[Check]:
    """Overall, of each class and of each slice that ``targets.yaml`` names.

    Raises
    ------
    ConfigError
        If it names an unknown class, or the evaluation was made for other slices.
    """
    quality = targets.quality
    _refuse_unknown(evaluation, quality)
    part = evaluation.guarded
    overall = _at_least(
        quality.metric, part.metrics.get(quality.metric), quality.minimum, part, quality.metric
    )
    checks = [overall]
    kind = "ap50" if evaluation.vision_task == "detection" else "recall"
    for name, minimum in quality.per_class.items():
        estimate = part.classes.get(name, {}).get(kind)
        checks.append(_at_least(f"{kind} of {name}", estimate, minimum, part, kind))
    for target in quality.slices:
        name = f"{target.column}={target.value}"
        measured = evaluation.slices[name]
        estimate = measured.metrics.get(quality.metric)
        check = _at_least(name, estimate, target.minimum, measured, quality.metric)
        check = check.model_copy(update={"question": "slice", "slice": name})
        if measured.status == "not trained for":
            why = (
                f"trained on {measured.train_samples or 0} such samples; the limit binds from "
                f"{target.applies_after_train_samples}"
            )
            update = {"verdict": "not trained for", "why": why, "required": False}
            check = check.model_copy(update=update)
        checks.append(check)
    return checks


def check_calibration(evaluation: Evaluation, targets: Targets) -> list[Check]:
    """Whether a confidence of .8 is right eight times in ten, over the guarded samples."""
    limit = targets.quality.max_calibration_error
    if limit is None:
        return []
    name, part = "calibration", evaluation.guarded
    estimate = part.metrics.get("ece")
    if estimate is None or estimate.value is None or not estimate.enough:
        return [missing(name, limit, part.why or "was not measured", "at most")]
    is_kept = estimate.value <= limit
    return [
        Check(
            name=name,
            verdict="pass" if is_kept else "refuse",
            why=f"expected calibration error on {estimate.n} samples: {estimate.value:.3f}, "
            f"{'at most' if is_kept else 'above'} {limit:g}",
            value=estimate.value,
            limit=limit,
            direction="at most",
            low=estimate.low,
            high=estimate.high,
        )
    ]


def check_worst_case(
    robustness: Robustness | None, limits: WorstCaseTargets, why_missing: str
) -> list[Check]:
    """Mean and worst over the conditions at the severity of ``targets.yaml``."""
    names = (("worst case, mean", limits.minimum_mean), ("worst case, worst", limits.minimum_worst))
    if robustness is None:
        return [missing(name, minimum, why_missing) for name, minimum in names]
    if not robustness.clean.enough or robustness.severity != limits.severity:
        why = (
            f"{robustness.samples} samples are too few"
            if robustness.severity == limits.severity
            else f"severity {robustness.severity} was measured, {limits.severity} is wanted"
        )
        return [missing(name, minimum, why) for name, minimum in names]
    at_limit = [row for row in robustness.results if row.severity == limits.severity]
    worst = next(row for row in at_limit if row.condition == robustness.worst_condition)
    text = f"{robustness.metric} at severity {limits.severity}"
    mean_name, worst_name = (name for name, _ in names)
    return [
        _compare_number(
            mean_name,
            robustness.mean,
            limits.minimum_mean,
            f"{text}, mean of {len(at_limit)} conditions",
            (robustness.mean_low, robustness.mean_high),
        ),
        _compare_number(
            worst_name,
            robustness.worst,
            limits.minimum_worst,
            f"{text} under {robustness.worst_condition}",
            (worst.metric.low, worst.metric.high),
        ),
    ]


def _at_least(
    name: str, estimate: Estimate | None, minimum: float, part: Part, metric: str
) -> Check:
    """Value and interval of a part against a minimum."""
    if estimate is None or estimate.value is None or not estimate.enough:
        why = part.why or f"{estimate.n if estimate else 0} true samples are too few"
        return missing(name, minimum, why)
    text = f"{metric} on {estimate.n} samples"
    return _compare_number(name, estimate.value, minimum, text, (estimate.low, estimate.high))


def _compare_number(
    name: str,
    value: float | None,
    minimum: float,
    text: str,
    ends: tuple[float | None, float | None] = (None, None),
) -> Check:
    if value is None:
        return missing(name, minimum, f"{text} is not defined")
    is_kept = value >= minimum
    why = f"{text}: {value:.3f}, {'at least' if is_kept else 'below'} {minimum:g}"
    return Check(
        name=name,
        verdict="pass" if is_kept else "refuse",
        why=why,
        value=value,
        limit=minimum,
        direction="at least",
        low=ends[0],
        high=ends[1],
    )


def missing(name: str, limit: float, why: str, direction: Any = "at least") -> Check:
    """A question that has a limit and could not be answered."""
    return Check(name=name, verdict="not enough data", why=why, limit=limit, direction=direction)


def _refuse_unknown(evaluation: Evaluation, quality: QualityTargets) -> None:
    problems = [
        f"quality.per_class names '{name}', the package knows {', '.join(evaluation.classes)}"
        for name in quality.per_class
        if name not in evaluation.classes
    ]
    problems += [
        f"the evaluation has no slice {target.column}={target.value}: run it again"
        for target in quality.slices
        if f"{target.column}={target.value}" not in evaluation.slices
    ]
    if evaluation.metric != quality.metric:
        problems.append(f"the evaluation was made for {evaluation.metric}: run it again")
    if problems:
        raise ConfigError("targets.yaml", problems, "correct it, or visionloop evaluate evaluate")
