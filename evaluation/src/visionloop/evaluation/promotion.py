"""``promote``: take a package whose gate passed into the MLflow registry.

The gate's signed report is verified against the package here, and again by
``visionloop watch`` before anything is released: an alias alone ships nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from visionloop.core.config import ProjectParams
from visionloop.core.errors import RefusedError
from visionloop.core.failpoints import failpoint
from visionloop.core.files import read_json, write_json
from visionloop.core.workspace import Workspace
from visionloop.evaluation import registry
from visionloop.evaluation.card import card
from visionloop.evaluation.gate import read_gate_report, report_hash, verify_gate_report
from visionloop.evaluation.gate_report import GateReport
from visionloop.evaluation.measurements import EVALUATION_NAME
from visionloop.evaluation.params import load_params
from visionloop.serving.package import ModelPackage, load_package
from visionloop.serving.releases.index import locked
from visionloop.serving.signing import trusted_keys

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

__all__ = ["PromotionReport", "describe", "promote", "record_refusal"]

RECORDED_PARTS = ("gate", "evaluation", "card", "robustness", "export")
"""Folders of ``reports/`` that are kept with a registered version."""


@dataclass(frozen=True)
class PromotionReport:
    """What is in the registry now; also ``reports/promotion/promotion.json``.

    Attributes
    ----------
    model, version : str
        Registered model and its version.
    aliases : tuple of str
        Set on this version; empty for a refused package.
    gate : str
        "passed" or "refused".
    why : str
        The gate's reason in a few characters.
    run_id : str
        MLflow run that holds the artifacts.
    package : str
        SHA-256.
    """

    model: str
    version: str
    aliases: tuple[str, ...]
    gate: str
    why: str
    run_id: str
    package: str


def promote(*, workspace: Workspace) -> PromotionReport:
    """Register ``artifacts/package`` and set ``challenger``, then ``champion``.

    The same package gives the same version, however often this runs; an interrupted
    promotion goes on where it was. A refused package is registered too, without alias.

    Raises
    ------
    RefusedError
        If the gate refused this package, or judged another.
    PackageError
        If the package or the gate report is missing, edited or signed by somebody else.
    UnreachableError
        If MLflow does not answer; nothing is lost, run the same command again.
    """
    project, _, params = load_params(workspace)
    keys = trusted_keys()
    package = load_package(workspace.package, trusted_keys=keys)
    report = read_gate_report(workspace.reports / "gate", trusted_keys=keys)
    if report.package_sha256 == package.sha256 and report.verdict == "refused":
        record_refusal(workspace=workspace)
    verify_gate_report(workspace.reports / "gate", package_sha256=package.sha256, trusted_keys=keys)
    _write_card(workspace)
    aliases = (
        ("challenger",) if params.promote.alias == "challenger" else ("challenger", "champion")
    )
    # Two at once would register the same package twice: the second finds what the first made.
    lock = locked(workspace.releases / ".promote.lock")
    client = registry.connect(workspace)
    with lock, registry.reaching(workspace):
        version = _register(client, workspace, project, package, report)
        for alias in aliases:
            failpoint("promotion.alias")
            registry.set_alias(client, project.model, alias, version.version)
    return _write_report(workspace, project, version, report, aliases)


def record_refusal(*, workspace: Workspace) -> PromotionReport:
    """Register a refused package with the gate's reason and without alias.

    Raises
    ------
    RefusedError
        If the gate report is of another package.
    PackageError
        As for :func:`promote`.
    UnreachableError
        If MLflow does not answer.
    """
    project, _, _ = load_params(workspace)
    keys = trusted_keys()
    package = load_package(workspace.package, trusted_keys=keys)
    report = read_gate_report(workspace.reports / "gate", trusted_keys=keys)
    if report.package_sha256 != package.sha256:
        raise RefusedError(
            f"package {package.sha256[:12]}",
            f"the gate report judged another package, {report.package_sha256[:12]}",
            "visionloop evaluate gate judges this one",
        )
    _write_card(workspace)
    client = registry.connect(workspace)
    with registry.reaching(workspace):
        version = _register(client, workspace, project, package, report)
    return _write_report(workspace, project, version, report, ())


def _write_card(workspace: Workspace) -> None:
    """The card with the verdict on it, where the evaluation is here to fill it."""
    if (workspace.reports / "evaluation" / EVALUATION_NAME).is_file():
        card(workspace=workspace)


def _register(
    client: MlflowClient,
    workspace: Workspace,
    project: ProjectParams,
    package: ModelPackage,
    report: GateReport,
) -> Any:
    """The version of this package: found again, or made with its artifacts; tags are set anew."""
    version = registry.find_version(client, project.model, package.sha256)
    run_id = version.run_id if version else _find_or_make_run(client, workspace, project, package)
    _log_parts(client, run_id, workspace, package)
    failpoint("promotion.artifacts")
    if version is None:
        _make_model(client, project.model)
        source = f"runs:/{run_id}/{registry.artifact_root(package.sha256)}/package"
        version = client.create_model_version(
            project.model,
            source,
            run_id=run_id,
            tags={registry.PACKAGE_TAG: package.sha256[:12]},
            description=describe(report),
        )
    else:
        client.update_model_version(project.model, version.version, describe(report))
    tags = {
        "gate": report.verdict,
        registry.REPORT_TAG: report_hash(workspace.reports / "gate"),
        "why": report.short_reason[:80],
        "dataset": f"{report.dataset_version} {report.dataset_fingerprint[:8]}",
    }
    for name, value in tags.items():
        client.set_model_version_tag(project.model, version.version, name, value)
    return version


def describe(report: GateReport) -> str:
    """Markdown of a version: a plain sentence first (the table of versions shows it raw)."""
    first = report.checks[0]
    if report.verdict == "passed":
        opening = f"Passed its gate: {first.why}."
    else:
        more = f" and {len(report.reasons) - 1} more" if len(report.reasons) > 1 else ""
        opening = f"Refused by its gate: {report.reasons[0]}{more}."
    rows = [
        f"| {check.name} | {check.verdict} | {check.why.replace('|', '/')} |"
        for check in report.checks
    ]
    table = "\n".join(["| check | verdict | why |", "|---|---|---|", *rows])
    return (
        f"{opening}\n\n{table}\n\nDataset version {report.dataset_version} "
        f"`{report.dataset_fingerprint}`, package `{report.package_sha256}`. The model card and "
        "the signed gate report are among the run's artifacts."
    )


def _find_or_make_run(
    client: MlflowClient, workspace: Workspace, project: ProjectParams, package: ModelPackage
) -> str:
    """The training run that the package names if this server has it, else a run of its own."""
    from mlflow.exceptions import MlflowException

    named = package.manifest.lineage.run_id
    if named:
        try:
            return str(client.get_run(named).info.run_id)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
    experiment_id = _find_or_make_experiment(client, workspace, project.model)
    name = f"package {package.sha256[:12]}"
    known = client.search_runs([experiment_id], f"attributes.run_name = '{name}'", max_results=1)
    if known:
        return str(known[0].info.run_id)
    run_id = str(client.create_run(experiment_id, run_name=name).info.run_id)
    client.set_terminated(run_id)
    return run_id


def _find_or_make_experiment(client: MlflowClient, workspace: Workspace, model: str) -> str:
    """The experiment of the model; another promotion may make it in the same moment."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(model)
    if found is None:
        is_local = workspace.tracking_uri.startswith("sqlite:///")
        place = (workspace.root / "mlartifacts").as_uri() if is_local else None
        try:
            return str(client.create_experiment(model, artifact_location=place))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(model)
    return str(found.experiment_id)


def _log_parts(
    client: MlflowClient, run_id: str, workspace: Workspace, package: ModelPackage
) -> None:
    """Package and reports as artifacts, the numbers as metrics of the run."""
    root = registry.artifact_root(package.sha256)
    client.log_artifacts(run_id, str(workspace.package), f"{root}/package")
    for part in RECORDED_PARTS:
        folder = workspace.reports / part
        for path in sorted(folder.glob("*")):
            if path.is_file():
                client.log_artifact(run_id, str(path), f"{root}/{part}")
    path = workspace.reports / "evaluation" / "metrics.json"
    numbers = read_json(path) if path.is_file() else {}
    for name, value in numbers.items():
        if isinstance(value, (int, float)):
            client.log_metric(run_id, f"test_{name}", float(value))


def _make_model(client: MlflowClient, model: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _write_report(
    workspace: Workspace,
    project: ProjectParams,
    version: Any,
    report: GateReport,
    aliases: tuple[str, ...],
) -> PromotionReport:
    made = PromotionReport(
        model=project.model,
        version=str(version.version),
        aliases=aliases,
        gate=report.verdict,
        why=report.short_reason,
        run_id=str(version.run_id),
        package=report.package_sha256,
    )
    path = workspace.reports / "promotion" / "promotion.json"
    write_json(path, asdict(made) | {"aliases": list(aliases)})
    return made
