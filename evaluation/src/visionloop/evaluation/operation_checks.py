"""The gate's questions about operation: export parity, latency, cost, and the data behind it all.

Each compares a measurement with a limit of ``targets.yaml``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visionloop.core.targets import CostTargets, LatencyTargets, ParityTargets
from visionloop.evaluation.checks import missing
from visionloop.evaluation.gate_report import Check
from visionloop.evaluation.measurements import DeviceLatency, Evaluation, ExportParity, Latency

__all__ = ["check_cost", "check_data", "check_devices", "check_latency", "check_parity"]


def check_parity(
    parity: ExportParity | None, limits: ParityTargets, why_missing: str
) -> list[Check]:
    """The package against the checkpoint it was exported from (``parity.json``)."""
    if parity is None:
        return [missing("export parity", limits.max_difference, why_missing, "at most")]
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
    return _latency_of(evaluation.latency, limits.per_frame_ms, limits.cameras_per_device, limits)


def check_devices(
    measured: Mapping[str, DeviceLatency], limits: LatencyTargets, package: str
) -> list[Check]:
    """The same for each device profile of ``latency.devices``, by what was measured there.

    Parameters
    ----------
    measured : mapping of device profile to DeviceLatency
        Of ``reports/latency``.
    package : str
        SHA-256 of the package that is judged.
    """
    checks: list[Check] = []
    for device, limit in limits.devices.items():
        found = measured.get(device)
        if found is None or found.package != package:
            why = (
                f"measured of package {found.package[:12]}"
                if found is not None
                else f"not measured (visionloop evaluate latency --device {device}, there)"
            )
            checks.append(missing(f"latency on {device}", limit.per_frame_ms, why, "at most"))
            continue
        rows = _latency_of(found.latency, limit.per_frame_ms, limit.cameras_per_device, limits)
        checks += [row.model_copy(update={"name": f"{row.name} on {device}"}) for row in rows]
    return checks


def check_cost(evaluation: Evaluation, limits: CostTargets) -> list[Check]:
    """What 1,000 inferences cost on rented cores, at the mean time of one; 0 asks nothing."""
    if not limits.per_1000_inferences:
        return []
    latency = evaluation.latency
    # Milliseconds of one inference are seconds of a thousand.
    value, low, high = (
        None if seconds is None else seconds * latency.threads / 3600 * limits.per_core_hour
        for seconds in (latency.mean_ms, latency.mean_low, latency.mean_high)
    )
    assert value is not None
    is_kept = value <= limits.per_1000_inferences
    return [
        Check(
            name="cost per 1,000 inferences",
            verdict="pass" if is_kept else "refuse",
            why=f"{latency.mean_ms:.1f} ms on {latency.threads} core at {limits.per_core_hour:g} "
            f"an hour: {value:.2g}",
            value=value,
            limit=limits.per_1000_inferences,
            direction="at most",
            low=low,
            high=high,
        )
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


def _latency_of(
    latency: Latency, per_frame_ms: float, cameras: int, limits: LatencyTargets
) -> list[Check]:
    load = cameras * limits.frames_per_second / 1000
    busy, low, high = (
        None if mean is None else mean * load
        for mean in (latency.mean_ms, latency.mean_low, latency.mean_high)
    )
    assert busy is not None
    return [
        Check(
            name="latency",
            verdict="pass" if latency.p95_ms <= per_frame_ms else "refuse",
            why=f"p95 {latency.p95_ms:.1f} ms a frame on {latency.threads} thread "
            f"({latency.backend}, {latency.machine})",
            value=latency.p95_ms,
            limit=per_frame_ms,
            direction="at most",
            low=latency.p95_low,
            high=latency.p95_high,
        ),
        Check(
            name="cameras per device",
            verdict="pass" if busy <= 1 else "refuse",
            why=f"at {cameras} × {limits.frames_per_second:g} frames a second "
            f"the device is busy {100 * busy:.0f} % of the time",
            value=busy,
            limit=1.0,
            direction="at most",
            low=low,
            high=high,
        ),
    ]
