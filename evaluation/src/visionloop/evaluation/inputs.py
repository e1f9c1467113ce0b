"""What every measurement starts from: parameters, targets, dataset version, package."""

from __future__ import annotations

from dataclasses import dataclass

from visionloop.core.config import ProjectParams
from visionloop.core.errors import DataError
from visionloop.core.files import read_json
from visionloop.core.targets import Targets, load_targets
from visionloop.core.workspace import Workspace
from visionloop.data.versions.version import DatasetVersion, load_version
from visionloop.evaluation.measurements import DataLineage
from visionloop.evaluation.params import EvaluationParams, load_params
from visionloop.serving.package import ModelPackage, load_package

__all__ = ["EvaluationInputs", "load_inputs"]


@dataclass(frozen=True, eq=False)
class EvaluationInputs:
    """Checked against each other: the same vision task, the same classes in the same order."""

    project: ProjectParams
    params: EvaluationParams
    targets: Targets
    version: DatasetVersion
    package: ModelPackage

    def lineage(self, workspace: Workspace) -> DataLineage:
        """Which data judges the package and which made it."""
        test = set(self.version.split("test")["sample_id"])
        trained_on = self.package.manifest.lineage.dataset_fingerprint
        return DataLineage(
            version=self.version.name,
            fingerprint=self.version.fingerprint,
            trained_on=trained_on,
            test_samples=len(test),
            seen_in_training=_count_seen(workspace, self.version, trained_on, test),
        )


def load_inputs(workspace: Workspace) -> EvaluationInputs:
    """Read and verify everything that an evaluation needs.

    Raises
    ------
    ConfigError
        If ``params.yaml`` or ``targets.yaml`` is wrong.
    PackageError
        If the package is unsigned or damaged.
    DataError
        If package, dataset version and targets do not fit together, or there is no
        test sample.
    """
    project, data, params = load_params(workspace)
    targets = load_targets(workspace.targets)
    version = load_version(workspace.version(data.version), workspace.images)
    package = load_package(workspace.package)
    manifest = package.manifest
    problems = [
        f"{what} is for {task}, the package for {manifest.vision_task}"
        for what, task in (
            ("targets.yaml", targets.vision_task),
            ("params.yaml", project.vision_task),
            (f"dataset version {version.name}", version.vision_task),
        )
        if task != manifest.vision_task
    ]
    if list(version.classes) != manifest.classes:
        problems.append(
            f"its classes {manifest.classes} are not those of dataset version {version.name}, "
            f"{list(version.classes)}, in that order"
        )
    if not len(version.split("test")):
        problems.append(f"dataset version {version.name} has no test sample")
    if problems:
        raise DataError(
            f"package {package.path}", problems, "train and export with this dataset version"
        )
    return EvaluationInputs(project, params, targets, version, package)


def _count_seen(
    workspace: Workspace, version: DatasetVersion, trained_on: str, test: set[str]
) -> int | None:
    """Test samples in the train split of the version that the package names; None: not here."""
    if trained_on == version.fingerprint:
        return len(test & set(version.split("train")["sample_id"]))
    for manifest in sorted(workspace.versions.glob("*/manifest.json")):
        if trained_on and read_json(manifest).get("fingerprint") == trained_on:
            other = load_version(manifest.parent, workspace.images)
            return len(test & set(other.split("train")["sample_id"]))
    return None
