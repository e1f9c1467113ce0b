"""The questions of the gate: each compares a measurement with a limit of ``targets.yaml``."""

from __future__ import annotations

from typing import Any

from visionloop.core.errors import ConfigError
from visionloop.core.targets import (
    LatencyTargets,
    ParityTargets,
    QualityTargets,
    Targets,
    WorstCaseTargets,
)
from visionloop.evaluation.gate_report import Check
from visionloop.evaluation.measurements import (
    Estimate,
    Evaluation,
    ExportParity,
    Part,
    Robustness,
)

__all__ = [
    "check_data",
    "check_latency",
    "check_parity",
    "check_quality",
    "check_worst_case",
]


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
        if measured.status == "not trained for":
            why = (
                f"trained on {measured.train_samples or 0} such samples; the limit binds from "
                f"{target.applies_after_train_samples}"
            )
            update = {"verdict": "not trained for", "why": why, "required": False}
            check = check.model_copy(update=update)
        checks.append(check)
    return checks


def check_worst_case(
    robustness: Robustness | None, limits: WorstCaseTargets, why_missing: str
) -> list[Check]:
    """Mean and worst over the conditions at the severity of ``targets.yaml``."""
    names = (("worst case, mean", limits.minimum_mean), ("worst case, worst", limits.minimum_worst))
    if robustness is None:
        return [_missing(name, minimum, why_missing) for name, minimum in names]
    if not robustness.clean.enough or robustness.severity != limits.severity:
        why = (
            f"{robustness.samples} samples are too few"
            if robustness.severity == limits.severity
            else f"severity {robustness.severity} was measured, {limits.severity} is wanted"
        )
        return [_missing(name, minimum, why) for name, minimum in names]
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
        ),
        _compare_number(
            worst_name,
            robustness.worst,
            limits.minimum_worst,
            f"{text} under {robustness.worst_condition}",
            (worst.metric.low, worst.metric.high),
        ),
    ]


def check_parity(
    parity: ExportParity | None, limits: ParityTargets, why_missing: str
) -> list[Check]:
    """The package against the checkpoint it was exported from (``parity.json``)."""
    if parity is None:
        return [_missing("export parity", limits.max_difference, why_missing, "at most")]
    is_kept = (
        parity.max_difference <= limits.max_difference
        and parity.minimum_iou >= limits.minimum_iou
        and parity.agreement >= 1
    )
    why = f"largest difference {parity.max_difference:.2g} on {parity.samples} real images"
    if parity.boxes:
        why += f", {parity.boxes} boxes, smallest overlap {parity.minimum_iou:.3f}"
    if parity.agreement < 1:
        why += f", only {100 * parity.agreement:.1f} % of the answers agree"
    return [
        Check(
            name="export parity",
            verdict="pass" if is_kept else "refuse",
            why=why,
            value=parity.max_difference,
            limit=limits.max_difference,
            direction="at most",
        )
    ]


def check_latency(evaluation: Evaluation, limits: LatencyTargets) -> list[Check]:
    """p95 of one frame, and whether the cameras of a device fit into a second."""
    latency = evaluation.latency
    busy = latency.mean_ms * limits.cameras_per_device * limits.frames_per_second / 1000
    return [
        Check(
            name="latency",
            verdict="pass" if latency.p95_ms <= limits.per_frame_ms else "refuse",
            why=f"p95 {latency.p95_ms:.1f} ms a frame on {latency.threads} thread "
            f"({latency.backend}, {latency.machine})",
            value=latency.p95_ms,
            limit=limits.per_frame_ms,
            direction="at most",
        ),
        Check(
            name="cameras per device",
            verdict="pass" if busy <= 1 else "refuse",
            why=f"at {limits.cameras_per_device} × {limits.frames_per_second:g} frames a second "
            f"the device is busy {100 * busy:.0f} % of the time",
            value=busy,
            limit=1.0,
            direction="at most",
        ),
    ]


def check_data(
    evaluation: Evaluation, contract: dict[str, Any] | None, *, is_required: bool
) -> list[Check]:
    """No test sample was seen in training; the data contract was kept."""
    seen = evaluation.data.seen_in_training
    if seen is None:
        unseen = Check(
            name="unseen test samples",
            verdict="not enough data",
            why="the dataset version that the package was trained on is not here",
            required=False,
        )
    else:
        unseen = Check(
            name="unseen test samples",
            verdict="refuse" if seen else "pass",
            why=f"{seen} of {evaluation.data.test_samples} test samples were trained on",
            value=float(seen),
            limit=0.0,
            direction="at most",
        )
    return [unseen, _check_contract(contract, is_required)]


def _check_contract(contract: dict[str, Any] | None, is_required: bool) -> Check:
    name = "data contract"
    if contract is None:
        why = "was not checked (visionloop data check)"
        return Check(name=name, verdict="not enough data", why=why, required=is_required)
    breaches = [str(one) for one in contract.get("breaches", [])]
    if breaches or contract.get("verdict") == "refused":
        return Check(name=name, verdict="refuse", why="; ".join(breaches) or "was not kept")
    return Check(name=name, verdict="pass", why="kept")


def _at_least(
    name: str, estimate: Estimate | None, minimum: float, part: Part, metric: str
) -> Check:
    """Value and interval of a part against a minimum."""
    if estimate is None or estimate.value is None or not estimate.enough:
        why = part.why or f"{estimate.n if estimate else 0} true samples are too few"
        return _missing(name, minimum, why)
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
        return _missing(name, minimum, f"{text} is not defined")
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


def _missing(name: str, limit: float, why: str, direction: Any = "at least") -> Check:
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
