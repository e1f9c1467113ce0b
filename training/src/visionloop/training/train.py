"""The verb ``train``: dataset version to checkpoint, logged to MLflow, resumable."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

from visionloop.core.config import ProjectParams, load_blocks
from visionloop.core.errors import ConfigError
from visionloop.core.files import canonical_json, sha256_of_bytes
from visionloop.core.progress import say_step
from visionloop.core.workspace import Workspace
from visionloop.data.params import DataParams
from visionloop.data.versions.version import DatasetVersion, load_version
from visionloop.training.checkpoint import CheckpointFacts, save_checkpoint
from visionloop.training.distributed import SilentResumePoint, processes, this_process
from visionloop.training.families.table import Family, TrainedModel, TrainingJob, load_family
from visionloop.training.history import write_history
from visionloop.training.memory import explain_failure
from visionloop.training.params import TrainingParams
from visionloop.training.resume import (
    EpochRow,
    ResumePoint,
    open_resume_point,
    read_resume_point,
)
from visionloop.training.system_metrics import SystemMetrics
from visionloop.training.tracking import TrackedRun, start_run
from visionloop.training.truth import classes_without_truth, count_train_mix
from visionloop.training.weights import FoundWeights, find_weights

__all__ = ["StoppedEarly", "TrainReport", "train"]


class StoppedEarly(Exception):
    """Raised by whoever watches a training to end it: nothing is wrong, it is not worth more."""


@dataclass(frozen=True)
class TrainReport:
    """What a training made.

    Attributes
    ----------
    checkpoint : Path
    run_id : str
        MLflow run; empty if MLflow was never reached.
    metrics : dict of str to float
        Of the chosen epoch.
    weights_source : str
        Where the first weights came from.
    dataset_fingerprint : str
    resumed_from : int
        Epochs that an earlier, interrupted call had finished.
    tracking_problem : str
        Why MLflow was given up, empty if it was not.
    """

    checkpoint: Path
    run_id: str
    metrics: dict[str, float]
    weights_source: str
    dataset_fingerprint: str
    resumed_from: int
    tracking_problem: str


@dataclass(frozen=True, eq=False)
class _Inputs:
    workspace: Workspace
    project: ProjectParams
    params: TrainingParams
    version: DatasetVersion
    weights: FoundWeights
    family: Family
    epochs: int

    @property
    def key(self) -> str:
        """Fingerprint of everything that the result depends on."""
        content = [
            self.project.model_dump(mode="json"),
            self.params.model_dump(mode="json", exclude={"export", "search"}),
            self.version.fingerprint,
            self.weights.lineage,
            self.epochs,
        ]
        return sha256_of_bytes(canonical_json(content))


def train(
    *,
    workspace: Workspace,
    parent_run_id: str = "",
    watch: Callable[[EpochRow], None] | None = None,
) -> TrainReport:
    """Train the family of ``params.yaml`` on its dataset version.

    Writes ``artifacts/checkpoint`` and ``reports/training``. Every epoch leaves a resume
    point: after Ctrl-C or a crash the same call goes on from it.

    Parameters
    ----------
    workspace : Workspace
    parent_run_id : str
        MLflow run that this one is a child of, such as a search.
    watch : callable or None
        Sees each epoch's row once it is durable; it may raise :class:`StoppedEarly` to end
        the training there.

    Raises
    ------
    ConfigError
        If parameters are wrong or contradict the dataset version.
    DataError
        If the dataset version, embeddings or weights are missing or damaged.
    MissingExtraError
        If the family's libraries are not installed.
    VisionloopError
        If the loss is not finite or memory runs out; the MLflow run is then FAILED, with the
        reason, and the last good epoch is kept.
    """
    # Before torch starts its threads: threads that spin while they wait make training several
    # times slower as soon as anything else runs on the machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    inputs = _read_inputs(workspace)
    with processes() as own:
        if own.is_first:
            return _train_first(inputs, parent_run_id, watch)
        return _train_beside(inputs)


def _train_beside(inputs: _Inputs) -> TrainReport:
    """A process that computes along with the first one and writes nothing."""
    folder = inputs.workspace.own / "artifacts" / "training_state"
    resume = read_resume_point(folder, inputs.key)
    started = resume.epoch
    point = SilentResumePoint(folder, inputs.key, resume.run_id, resume.history, resume.files)
    trained = inputs.family.train(_job(inputs, point, lambda row: None))
    return TrainReport(
        checkpoint=inputs.workspace.checkpoint,
        run_id=resume.run_id,
        metrics=trained.metrics,
        weights_source=inputs.weights.source,
        dataset_fingerprint=inputs.version.fingerprint,
        resumed_from=started,
        tracking_problem="",
    )


def _train_first(
    inputs: _Inputs, parent_run_id: str, watch: Callable[[EpochRow], None] | None
) -> TrainReport:
    workspace = inputs.workspace
    resume = open_resume_point(workspace, inputs.key)
    resumed_from = resume.epoch
    if resumed_from:
        say_step(f"going on after epoch {resumed_from} of {inputs.epochs}")
    say_step(f"weights: {inputs.weights.source}")
    run = start_run(
        workspace,
        experiment=inputs.project.model,
        name=f"{inputs.version.name} {workspace.variant}".strip(),
        resumed_run_id=resume.run_id,
        parent_run_id=parent_run_id,
    )
    resume.remember_run(run.run_id)
    try:
        trained, facts = _train_and_log(inputs, resume, run, watch)
    except StoppedEarly as stop:
        run.finish("KILLED", str(stop))
        resume.clear()
        raise
    except KeyboardInterrupt:
        run.finish("KILLED", "interrupted; the same command goes on")
        raise
    except Exception as error:
        known = explain_failure(error)
        run.finish("FAILED", str(known))
        raise known from (None if known is error else error)
    resume.clear()
    return TrainReport(
        checkpoint=workspace.checkpoint,
        run_id=run.run_id,
        metrics=trained.metrics,
        weights_source=inputs.weights.source,
        dataset_fingerprint=facts.dataset_fingerprint,
        resumed_from=resumed_from,
        tracking_problem=run.problem,
    )


def _read_inputs(workspace: Workspace) -> _Inputs:
    blocks = load_blocks(
        workspace.params,
        {"project": ProjectParams, "data": DataParams, "training": TrainingParams},
    )
    project, params = blocks["project"], blocks["training"]
    version = load_version(workspace.version(blocks["data"].version), workspace.images)
    family = load_family(params.family, workspace.root, project.vision_task)
    problems = []
    if version.vision_task != project.vision_task:
        problems.append(
            f"the dataset version is for {version.vision_task}, the project for "
            f"{project.vision_task}"
        )
    if family.vision_task != project.vision_task:
        problems.append(
            f"training.family '{params.family}' is for {family.vision_task}, the project for "
            f"{project.vision_task}"
        )
    if list(version.classes) != project.classes:
        problems.append(
            f"the dataset version has classes {list(version.classes)}, the project "
            f"{project.classes}"
        )
    if this_process().world > 1 and (params.mode != "full" or params.family == "yolo"):
        problems.append(
            f"several processes train mode full of the torch families, not "
            f"'{params.family}' in mode {params.mode}"
        )
    if problems:
        raise ConfigError(str(workspace.params), problems, "make them agree; nothing was started")
    weights = find_weights(params.weights, allow_scratch=params.allow_scratch)
    missing = classes_without_truth(version)
    if missing and project.vision_task != "anomaly":  # which learns from normal pictures alone
        say_step(f"no train sample shows {', '.join(missing)}: the model will never answer it")
    epochs = params.epochs_for(len(version.split("train")))
    return _Inputs(workspace, project, params, version, weights, family, epochs)


def _train_and_log(
    inputs: _Inputs,
    resume: ResumePoint,
    run: TrackedRun,
    watch: Callable[[EpochRow], None] | None,
) -> tuple[TrainedModel, CheckpointFacts]:
    start = time.monotonic()
    commit = _git_commit(inputs.workspace.root)
    if not resume.epoch:
        _log_inputs(inputs, run, commit)
    run.log_missing_epochs(resume.history)
    system = SystemMetrics()

    def on_epoch(row: EpochRow) -> None:
        run.log_epoch({**row, **system.read()})
        shown = ", ".join(f"{name} {value:.4f}" for name, value in row.items() if name != "epoch")
        say_step(f"epoch {int(row['epoch'])}/{inputs.epochs}: {shown}")
        if watch is not None:
            watch(row)

    trained = inputs.family.train(_job(inputs, resume, on_epoch))
    facts = _facts(inputs, trained, run.run_id, commit)
    save_checkpoint(inputs.workspace.checkpoint, trained.tensors, facts)
    report_folder = inputs.workspace.reports / "training"
    counts = {
        "train_samples": len(inputs.version.split("train")),
        "val_samples": len(inputs.version.split("val")),
        "epochs": resume.epoch,
        "weights_source": inputs.weights.source,
        "planted_fault": inputs.params.planted_fault,
    }
    write_history(report_folder, history=resume.history, metrics=trained.metrics, facts=counts)
    run.log_files(report_folder, "training")
    run.set_tags({"seconds": f"{time.monotonic() - start:.1f}"})
    run.finish("FINISHED")
    return trained, facts


def _job(inputs: _Inputs, resume: ResumePoint, on_epoch: Callable[[EpochRow], None]) -> TrainingJob:
    return TrainingJob(
        workspace=inputs.workspace,
        project=inputs.project,
        params=inputs.params,
        version=inputs.version,
        weights=inputs.weights,
        epochs=inputs.epochs,
        resume=resume,
        on_epoch=on_epoch,
    )


def _log_inputs(inputs: _Inputs, run: TrackedRun, commit: str) -> None:
    params = {
        **_flatten("project", inputs.project.model_dump(mode="json")),
        **_flatten("training", inputs.params.model_dump(mode="json")),
        "data.version": inputs.version.name,
    }
    run.log_params(params)
    run.log_dataset(inputs.version.name, inputs.version.fingerprint)
    run.set_tags(
        {
            "dataset_fingerprint": inputs.version.fingerprint,
            "dataset_version": inputs.version.name,
            "weights": inputs.weights.lineage,
            "weights_source": inputs.weights.source,
            "planted_fault": inputs.params.planted_fault,
            "variant": inputs.workspace.variant or "main",
            "git_commit": commit,
            "visionloop": package_version("visionloop"),
        }
    )


def _facts(inputs: _Inputs, trained: TrainedModel, run_id: str, commit: str) -> CheckpointFacts:
    return CheckpointFacts(
        name=inputs.project.model,
        family=inputs.params.family,
        vision_task=inputs.project.vision_task,
        classes=inputs.project.classes,
        architecture=trained.architecture,
        input=trained.input,
        dataset_version=inputs.version.name,
        dataset_fingerprint=inputs.version.fingerprint,
        train_mix=count_train_mix(inputs.version.split("train")),
        weights=inputs.weights.lineage,
        weights_source=inputs.weights.source,
        licence=inputs.weights.row.licence,
        run_id=run_id,
        git_commit=commit,
        planted_fault=inputs.params.planted_fault,
        seed=inputs.project.seed,
        metrics=trained.metrics,
        training=inputs.params.model_dump(mode="json"),
    )


def _flatten(prefix: str, values: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}.{name}"
        flat |= _flatten(key, value) if isinstance(value, dict) else {key: value}
    return flat


def _git_commit(folder: Path) -> str:
    """Commit of the repository around the workspace, empty where there is none."""
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
