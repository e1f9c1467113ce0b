"""``gate``: judge a measured package by ``targets.yaml`` and sign the verdict."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from visionloop.core.errors import DataError, PackageError, RefusedError
from visionloop.core.files import read_json, replace_folder, sha256_of_file, write_json
from visionloop.core.targets import Targets, load_targets
from visionloop.core.workspace import Workspace
from visionloop.evaluation import checks, operation_checks
from visionloop.evaluation.gate_report import GATE_NAME, GATE_SIGNATURE, Check, GateReport
from visionloop.evaluation.measurements import (
    Evaluation,
    ExportParity,
    Robustness,
    load_device_latencies,
    load_evaluation,
    load_parity,
    load_robustness,
)
from visionloop.evaluation.params import load_params
from visionloop.evaluation.waivers import apply_waivers, earliest_end, load_waivers
from visionloop.serving.package import ModelPackage, load_package
from visionloop.serving.signing import sign_folder, signing_key, trusted_keys, verify_folder

__all__ = ["gate", "read_gate_report", "report_hash", "verify_gate_report"]


def gate(*, workspace: Workspace) -> GateReport:
    """Judge ``artifacts/package`` by its reports and write the signed ``reports/gate``.

    The report is written for a refused package too. What cannot be judged (no worst
    case, no parity, too few samples of a guarded slice) refuses it. Genuine waivers turn
    a refusal into "waived"; the report then expires with the first of them.

    Raises
    ------
    DataError
        If there is no evaluation, or it is of another package.
    ConfigError
        If ``targets.yaml`` does not fit the evaluation.
    InputError
        If there is no signing key, or no trusted key to verify waivers by.
    UnreachableError
        If MLflow does not answer, so that the champion cannot be compared with.
    """
    key = signing_key()
    targets = load_targets(workspace.targets)
    package = load_package(workspace.package)
    evaluation = load_evaluation(workspace.reports / "evaluation")
    if evaluation.package != package.sha256:
        raise DataError(
            str(workspace.reports / "evaluation"),
            f"is of package {evaluation.package[:12]}, not of {package.sha256[:12]}",
            "visionloop evaluate evaluate measures this one",
        )
    asked, champion = _all_checks(workspace, targets, package, evaluation)
    now = datetime.now(timezone.utc)
    genuine, problems = load_waivers(workspace, trusted_keys=trusted_keys())
    found, waivers = apply_waivers(asked, genuine, problems, package=package.sha256, now=now)
    valid_for = timedelta(days=load_params(workspace)[2].gate.valid_days)
    reasons = [f"{check.name}: {check.why}" for check in found if check.refuses]
    first = next((check for check in found if check.refuses), found[0])
    report = GateReport(
        verdict="refused" if reasons else "passed",
        reasons=reasons,
        short_reason=first.short,
        package_sha256=package.sha256,
        package_name=package.manifest.name,
        dataset_version=evaluation.data.version,
        dataset_fingerprint=evaluation.data.fingerprint,
        champion=champion,
        judged_at=now.isoformat(timespec="seconds"),
        expires_at=earliest_end(waivers, now + valid_for).isoformat(timespec="seconds"),
        waivers=waivers,
        checks=found,
        targets=targets.model_dump(mode="json"),
    )
    _write(workspace.reports / "gate", report, key)
    return report


def verify_gate_report(
    folder: Path,
    *,
    package_sha256: str,
    trusted_keys: Sequence[Path],
    may_be_expired: bool = False,
) -> GateReport:
    """Read a gate report that may be relied on.

    Parameters
    ----------
    may_be_expired : bool
        For a package that was released while its report was valid: going back to it must
        not wait for a new judgement.

    Raises
    ------
    PackageError
        If it is missing, unsigned, edited, or signed by somebody else.
    RefusedError
        If it judged another package, refused this one, or has expired.
    """
    report = read_gate_report(folder, trusted_keys=trusted_keys)
    if report.package_sha256 != package_sha256:
        raise RefusedError(
            f"package {package_sha256[:12]}",
            f"the gate report {folder} judged another package, {report.package_sha256[:12]}",
            "visionloop evaluate gate judges this one",
        )
    if report.verdict != "passed":
        raise RefusedError(
            f"package {package_sha256[:12]}",
            report.reasons,
            "the gate refused it: train a better one, or change targets.yaml",
        )
    if not may_be_expired and _is_over(report.expires_at):
        raise RefusedError(
            f"package {package_sha256[:12]}",
            f"its gate report expired on {report.expires_at[:10]}",
            "visionloop evaluate gate judges it again, by today's targets and champion",
        )
    return report


def read_gate_report(folder: Path, *, trusted_keys: Sequence[Path]) -> GateReport:
    """Read a gate report whose signature fits, whatever it says.

    Raises
    ------
    PackageError
        If it is missing, unsigned, edited, or signed by somebody else.
    """
    if not (folder / GATE_NAME).is_file():
        raise PackageError(
            str(folder), "there is no gate report", "visionloop evaluate gate writes one"
        )
    verify_folder(folder, keys=trusted_keys, signature_name=GATE_SIGNATURE)
    try:
        return GateReport.model_validate_json((folder / GATE_NAME).read_bytes())
    except ValidationError as error:
        raise PackageError(
            str(folder / GATE_NAME), f"is no gate report of this version: {error}"
        ) from None


def report_hash(folder: Path) -> str:
    """Start of the SHA-256 of a gate report: what a version's tag says of it."""
    return sha256_of_file(folder / GATE_NAME)[:12]


def _all_checks(
    workspace: Workspace, targets: Targets, package: ModelPackage, evaluation: Evaluation
) -> tuple[list[Check], str]:
    from visionloop.evaluation.regression import check_champion

    _, _, params = load_params(workspace)
    robustness, why_no_worst_case = _robustness_of(workspace, evaluation)
    parity, why_no_parity = _parity_of(workspace, package)
    contract = _contract_of(workspace)
    devices = load_device_latencies(workspace.reports / "latency")
    with tempfile.TemporaryDirectory() as folder:
        regression, champion = check_champion(workspace, evaluation, targets, Path(folder))
    found = [
        *checks.check_quality(evaluation, targets),
        *checks.check_calibration(evaluation, targets),
        *checks.check_worst_case(robustness, targets.worst_case, why_no_worst_case),
        *operation_checks.check_parity(parity, targets.parity, why_no_parity),
        *operation_checks.check_latency(evaluation, targets.latency),
        *operation_checks.check_devices(devices, targets.latency, package.sha256),
        *operation_checks.check_cost(evaluation, targets.cost),
        *regression,
        *operation_checks.check_data(
            evaluation, contract, is_required=params.gate.require_data_contract
        ),
    ]
    return found, champion


def _is_over(moment: str) -> bool:
    """Reports from before there was an end have none."""
    return bool(moment) and datetime.now(timezone.utc) >= datetime.fromisoformat(moment)


def _contract_of(workspace: Workspace) -> dict[str, Any] | None:
    """What ``data check`` said; a variant shares the data of its project."""
    for reports in (workspace.reports, Workspace(workspace.root).reports):
        path = reports / "check" / "check.json"
        if path.is_file():
            return dict(read_json(path))
    return None


def _robustness_of(workspace: Workspace, evaluation: Evaluation) -> tuple[Robustness | None, str]:
    folder = workspace.reports / "robustness"
    try:
        measured = load_robustness(folder)
    except DataError as error:
        return None, f"the worst case was not measured: {error.problems[0]}"
    if measured.package != evaluation.package:
        return None, f"the worst case was measured of package {measured.package[:12]}"
    if measured.fingerprint != evaluation.data.fingerprint:
        return None, "the worst case was measured on another dataset version"
    if not measured.is_full:
        return None, "the worst case was measured on a budget"
    if measured.metric != evaluation.metric:
        return None, f"the worst case was measured with {measured.metric}"
    return measured, ""


def _parity_of(workspace: Workspace, package: ModelPackage) -> tuple[ExportParity | None, str]:
    try:
        parity = load_parity(workspace.reports / "export")
    except DataError as error:
        return None, f"parity with the checkpoint is not known: {error.problems[0]}"
    if parity.package != package.sha256:
        return None, f"parity was measured of package {parity.package[:12]}"
    return parity, ""


def _write(folder: Path, report: GateReport, key: Path) -> None:
    from visionloop.evaluation.pages import render_page

    with replace_folder(folder) as staging:
        write_json(staging / GATE_NAME, report.model_dump(mode="json"))
        render_page(staging / "gate.html", "gate.html.j2", report=report)
        sign_folder(staging, key=key, signature_name=GATE_SIGNATURE)
