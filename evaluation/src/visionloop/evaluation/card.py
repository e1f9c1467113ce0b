"""``card``: the model card, one page with everything that is known about a package.

The idea of the card is from Mitchell et al., "Model Cards for Model Reporting", 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from visionloop.core.config import load_project
from visionloop.core.errors import DataError
from visionloop.core.files import read_json
from visionloop.core.targets import load_targets
from visionloop.core.workspace import Workspace
from visionloop.evaluation.alarm_report import AlarmReport
from visionloop.evaluation.gate_report import GATE_NAME, GateReport
from visionloop.evaluation.measurements import (
    DeviceLatency,
    Evaluation,
    ExportParity,
    Part,
    Robustness,
    load_device_latencies,
    load_evaluation,
    load_parity,
    load_robustness,
)
from visionloop.evaluation.pages import (
    InlinePicture,
    evaluation_pictures,
    inline_picture,
    metric_rows,
    render_page,
)
from visionloop.serving.package import ModelPackage, load_package

__all__ = ["CardReport", "card", "limits_of"]


@dataclass(frozen=True)
class CardReport:
    """What ``card`` made: ``reports/card/index.html``."""

    page: Path


def card(*, workspace: Workspace) -> CardReport:
    """Write the model card of ``artifacts/package`` from the reports that are there.

    The evaluation must be there and be of this package; what else was not measured, or
    was measured of another package, is named as missing.

    Raises
    ------
    PackageError, ConfigError
        If the package, ``params.yaml`` or ``targets.yaml`` is wrong.
    DataError
        If there is no evaluation of this package.
    """
    package = load_package(workspace.package)
    evaluation = load_evaluation(workspace.reports / "evaluation")
    if evaluation.package != package.sha256:
        raise DataError(
            str(workspace.reports / "evaluation"),
            f"is of package {evaluation.package[:12]}, not of {package.sha256[:12]}",
            "visionloop evaluate evaluate measures this one",
        )
    robustness = _robustness_of(workspace, package)
    gate = _gate_of(workspace, package)
    page = render_page(
        workspace.reports / "card" / "index.html",
        "card.html.j2",
        project=load_project(workspace.params),
        package=package,
        manifest=package.manifest,
        evaluation=evaluation,
        robustness=robustness,
        parity=_parity_of(workspace, package),
        gate=gate,
        devices=_devices_of(workspace, package),
        alarms=_alarms_of(workspace, package),
        targets=load_targets(workspace.targets),
        dataset=_dataset_of(workspace, evaluation),
        recipe=_recipe_of(workspace),
        whole=metric_rows(evaluation.guarded),
        limits=limits_of(evaluation, robustness, gate),
        pictures=_pictures(workspace, robustness is not None),
    )
    return CardReport(page)


def limits_of(
    evaluation: Evaluation, robustness: Robustness | None, gate: GateReport | None
) -> list[str]:
    """What a reader must not expect of this package, one sentence each."""
    limits = [
        f"{name}: not trained for ({part.train_samples or 0} samples); "
        f"{_value_text(part, evaluation.metric)} measured, no promise"
        for name, part in evaluation.slices.items()
        if part.status == "not trained for"
    ]
    limits += [
        f"{name}: not enough data to judge ({part.why})"
        for name, part in evaluation.slices.items()
        if not part.enough and part.status == "guarded"
    ]
    if robustness is None:
        limits.append("the worst case was not measured")
    elif robustness.worst is not None:
        limits.append(
            f"{robustness.worst_condition} hurts most: {robustness.metric} "
            f"{robustness.worst:.3f} at severity {robustness.severity}"
        )
    if evaluation.maps is not None and not evaluation.maps.aupro.enough:
        limits.append("too few outlined defects to judge where the maps point")
    if gate is None:
        limits.append("the gate has not judged this package")
    limits.append(
        f"latency was measured on {evaluation.latency.machine} with "
        f"{evaluation.latency.backend}; other devices differ"
    )
    return limits


def _value_text(part: Part, metric: str) -> str:
    estimate = part.metrics.get(metric)
    if estimate is None or estimate.value is None or not part.enough:
        return "not enough data"
    return f"{metric} {estimate.value:.3f}"


def _robustness_of(workspace: Workspace, package: ModelPackage) -> Robustness | None:
    try:
        measured = load_robustness(workspace.reports / "robustness")
    except DataError:
        return None
    return measured if measured.package == package.sha256 and measured.samples else None


def _gate_of(workspace: Workspace, package: ModelPackage) -> GateReport | None:
    path = workspace.reports / "gate" / GATE_NAME
    if not path.is_file():
        return None
    try:
        report = GateReport.model_validate_json(path.read_bytes())
    except ValidationError:
        return None
    return report if report.package_sha256 == package.sha256 else None


def _parity_of(workspace: Workspace, package: ModelPackage) -> ExportParity | None:
    try:
        parity = load_parity(workspace.reports / "export")
    except DataError:
        return None
    return parity if parity.package == package.sha256 else None


def _devices_of(workspace: Workspace, package: ModelPackage) -> list[DeviceLatency]:
    """What was measured of this package on other devices and backends."""
    found = load_device_latencies(workspace.reports / "latency")
    return [one for one in found.values() if one.package == package.sha256]


def _alarms_of(workspace: Workspace, package: ModelPackage) -> AlarmReport | None:
    path = workspace.reports / "alarms" / "alarms.json"
    if not path.is_file():
        return None
    try:
        report = AlarmReport.model_validate_json(path.read_bytes())
    except ValidationError:
        return None
    return report if report.package == package.sha256 else None


def _dataset_of(workspace: Workspace, evaluation: Evaluation) -> dict[str, Any]:
    path = workspace.version(evaluation.data.version) / "manifest.json"
    manifest: dict[str, Any] = read_json(path) if path.is_file() else {}
    return manifest


def _recipe_of(workspace: Workspace) -> str:
    """The training block as it was written, comments aside."""
    block = yaml.safe_load(workspace.params.read_text(encoding="utf-8")).get("training", {})
    return str(yaml.safe_dump(block, sort_keys=False)).strip()


def _pictures(workspace: Workspace, has_robustness: bool) -> dict[str, InlinePicture | None]:
    pictures = evaluation_pictures(workspace.reports / "evaluation")
    curves = workspace.reports / "robustness" / "curves.png"
    return pictures | {"robustness": inline_picture(curves) if has_robustness else None}
