"""The verb ``export``: checkpoint to signed package, compared with the checkpoint first."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visionloop.core.config import ProjectParams, load_blocks
from visionloop.core.errors import ConfigError, DataError, RefusedError
from visionloop.core.files import write_bytes, write_json
from visionloop.core.progress import say_step
from visionloop.core.targets import ParityTargets, load_targets
from visionloop.core.workspace import Workspace
from visionloop.data.versions.version import DatasetVersion, load_version
from visionloop.serving.images import read_image
from visionloop.serving.manifest import CalibrationFacts, Lineage, Manifest, ModelOutputs
from visionloop.serving.package import ModelPackage, load_package, write_package
from visionloop.serving.signing import signing_key
from visionloop.serving.variants.parity import Parity
from visionloop.serving.variants.reference import REFERENCE_NAME, save_reference
from visionloop.training.calibration.calibrate import Calibration, calibrate
from visionloop.training.calibration.report import write_calibration
from visionloop.training.checkpoint import Checkpoint, CheckpointFacts, load_checkpoint
from visionloop.training.families.table import load_family
from visionloop.training.onnx_files import fix_batch
from visionloop.training.params import ExportParams, TrainingParams
from visionloop.training.parity import compare_package, parity_problems
from visionloop.training.reference import make_reference

__all__ = ["ExportReport", "candidate_package", "export"]

ANOMALY_THRESHOLD = 0.5
"""Anomaly families answer one half at the limit that their asked false-alarm rate gave."""


@dataclass(frozen=True)
class ExportReport:
    """What an export made.

    Attributes
    ----------
    package : Path
    package_sha256 : str
    model_sha256 : str
        Of ``model.onnx``: the same for the same checkpoint.
    parity : Parity
    calibration : Calibration
    """

    package: Path
    package_sha256: str
    model_sha256: str
    parity: Parity
    calibration: Calibration

    @property
    def parity_summary(self) -> str:
        """One line for people."""
        found = self.parity
        boxes = f", {found.boxes} boxes, smallest IoU {found.minimum_iou:.4f}"
        return (
            f"{found.images} images, largest difference {found.max_difference:.2g}"
            f"{boxes if found.boxes else ''}"
        )

    @property
    def calibration_summary(self) -> str:
        """One line for people."""
        fit = self.calibration.fit
        if fit.why_not:
            return f"temperature 1 ({fit.why_not})"
        return (
            f"temperature {fit.temperature:g} from {fit.samples} statements of the val split, "
            f"calibration error {fit.error_before:.3f} -> {fit.error_after:.3f}"
        )


def export(*, workspace: Workspace) -> ExportReport:
    """Calibrate and export the checkpoint to ``artifacts/package``; write ``reports/export``.

    Raises
    ------
    ConfigError
        If ``class_miss_costs`` names a class that the checkpoint does not have.
    DataError
        If checkpoint, dataset version or images are missing or damaged.
    InputError
        If there is no signing key.
    RefusedError
        If package and checkpoint differ by more than ``targets.yaml`` allows; a package
        exported earlier is left as it is.
    """
    blocks = load_blocks(workspace.params, {"project": ProjectParams, "training": TrainingParams})
    params: ExportParams = blocks["training"].export
    targets = load_targets(workspace.targets)
    limits, metric = targets.parity, targets.quality.metric
    signing_key()  # a missing key is said before the minutes of work, not after
    checkpoint = load_checkpoint(workspace.checkpoint)
    version = _load_version(workspace, checkpoint.facts)
    _refuse_unknown_classes(workspace, checkpoint.facts, params)
    images = _parity_images(version, params.parity_samples)
    family = load_family(checkpoint.facts.family, workspace.root, checkpoint.facts.vision_task)
    network = family.build(checkpoint)
    # A network may answer otherwise than its family usually does: it says so itself.
    outputs: ModelOutputs = getattr(network, "outputs", family.outputs)
    kind = outputs.kind
    calibration = calibrate(
        network, facts=checkpoint.facts, kind=kind, version=version, params=params
    )
    network = calibration.apply(network, kind)
    workspace.package.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=workspace.package.parent, prefix=".export.") as folder:
        model = Path(folder) / "model.onnx"
        say_step(f"exporting {checkpoint.facts.family} to ONNX")
        family.export(network, checkpoint, model)
        if params.batch:
            fix_batch(model, params.batch)
        manifest = _manifest(checkpoint.facts, outputs, params, calibration)
        with candidate_package(Path(folder) / "package", model, manifest) as candidate:
            say_step(f"comparing package and checkpoint on {len(images)} images")
            parity = compare_package(network, candidate, images)
        problems = parity_problems(parity, limits)
        _write_parity(workspace, parity, problems, limits, candidate, checkpoint)
        write_calibration(workspace.reports / "export", calibration)
        save_reference(
            workspace.reports / "export" / REFERENCE_NAME, make_reference(version, metric)
        )
        if problems:
            raise RefusedError(
                f"package of {checkpoint.facts.name}",
                problems,
                f"see {workspace.reports / 'export' / 'parity.json'}",
            )
        sha256 = write_package(workspace.package, model=model, manifest=manifest)
    model_sha256 = candidate.manifest.files["model.onnx"]
    return ExportReport(workspace.package, sha256, model_sha256, parity, calibration)


@contextmanager
def candidate_package(folder: Path, model: Path, manifest: Manifest) -> Iterator[ModelPackage]:
    """A signed package beside the real one, loaded as a device loads it."""
    write_package(folder, model=model, manifest=manifest)
    public = folder.with_name("candidate.pub.pem")
    write_bytes(public, _public_key(signing_key()))
    yield load_package(folder, trusted_keys=[public])


def _public_key(private_key: Path) -> bytes:
    """PEM of the public half, so that whoever signs needs no list of trusted keys."""
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(private_key.read_bytes(), password=None)
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _load_version(workspace: Workspace, facts: CheckpointFacts) -> DatasetVersion:
    """The dataset version that the checkpoint was trained on."""
    version = load_version(workspace.version(facts.dataset_version), workspace.images)
    if version.fingerprint != facts.dataset_fingerprint:
        raise DataError(
            f"dataset version {facts.dataset_version}",
            f"is {version.fingerprint[:12]}, the checkpoint was trained on "
            f"{facts.dataset_fingerprint[:12]}",
            "visionloop train train",
        )
    return version


def _refuse_unknown_classes(
    workspace: Workspace, facts: CheckpointFacts, params: ExportParams
) -> None:
    unknown = sorted(set(params.calibration.class_miss_costs) - set(facts.classes))
    if unknown:
        raise ConfigError(
            f"{workspace.params}, training.export.calibration.class_miss_costs",
            f"names unknown classes: {', '.join(unknown)}",
            f"the checkpoint has: {', '.join(facts.classes)}",
        )


def _parity_images(version: DatasetVersion, count: int) -> list[NDArray[np.uint8]]:
    """Images of the val split (train where there is none), spread over it."""
    rows = version.split("val")
    rows = version.split("train") if rows.empty else rows
    places = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int))
    return [read_image(version.images / rows["file_name"].iloc[place]) for place in places]


def _thresholds(
    facts: CheckpointFacts, params: ExportParams, calibration: Calibration
) -> dict[str, float]:
    """Smallest confidences by class: chosen ones, else those of the vision task."""
    if calibration.thresholds:
        return {name: one.threshold for name, one in calibration.thresholds.items()}
    if facts.vision_task == "detection":
        return dict.fromkeys(facts.classes, params.min_confidence)
    if facts.vision_task == "anomaly":
        return {facts.classes[1]: ANOMALY_THRESHOLD}
    return {}


def _manifest(
    facts: CheckpointFacts, outputs: ModelOutputs, params: ExportParams, calibration: Calibration
) -> Manifest:
    fit = calibration.fit
    return Manifest(
        name=facts.name,
        vision_task=facts.vision_task,
        family=facts.family,
        classes=facts.classes,
        input=facts.input,
        outputs=outputs,
        thresholds=_thresholds(facts, params, calibration),
        calibration=CalibrationFacts(
            temperature=fit.temperature,
            samples=fit.samples,
            error_before=round(fit.error_before, 6),
            error_after=round(fit.error_after, 6),
            why_not=fit.why_not,
        ),
        max_iou=params.max_iou,
        lineage=Lineage(
            dataset_fingerprint=facts.dataset_fingerprint,
            run_id=facts.run_id,
            git_commit=facts.git_commit,
            weights=facts.weights,
        ),
        train_mix=facts.train_mix,
        licence=facts.licence,
    )


def _write_parity(
    workspace: Workspace,
    parity: Parity,
    problems: list[str],
    limits: ParityTargets,
    candidate: ModelPackage,
    checkpoint: Checkpoint,
) -> None:
    content = {
        "samples": parity.images,
        "boxes": parity.boxes,
        "max_difference": parity.max_difference,
        "minimum_iou": parity.minimum_iou,
        "agreement": parity.agreement,
        "problems": problems,
        "passed": not problems,
        "limits": {"max_difference": limits.max_difference, "minimum_iou": limits.minimum_iou},
        "backend": "onnxruntime",
        "package": candidate.sha256,
        "model_sha256": candidate.manifest.files["model.onnx"],
        "checkpoint_sha256": checkpoint.facts.model_sha256,
        "planted_fault": checkpoint.facts.planted_fault,
    }
    write_json(workspace.reports / "export" / "parity.json", content)
