"""The verb ``freeze``: everything that is annotated now becomes a dataset version."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from visionloop.core.errors import DataError
from visionloop.core.files import read_json
from visionloop.core.tables import read_table
from visionloop.core.workspace import Workspace
from visionloop.data.annotated import merge_annotations
from visionloop.data.params import load_params
from visionloop.data.raw import read_samples
from visionloop.data.splits.split import SPLITS
from visionloop.data.versions.version import fingerprint_of, save_version

if TYPE_CHECKING:
    import pandas

    from visionloop.core.entities import Annotation

__all__ = ["FreezeReport", "freeze"]


@dataclass(frozen=True)
class FreezeReport:
    """The dataset version that was frozen.

    Attributes
    ----------
    name, fingerprint, parent : str
        ``parent`` is the fingerprint of the version it grew from, or empty.
    samples, annotations : int
    splits : dict of str to int
    unchanged : bool
        The version was there already, with this very content.
    """

    name: str
    fingerprint: str
    parent: str
    samples: int
    annotations: int
    splits: dict[str, int]
    unchanged: bool


def freeze(*, workspace: Workspace, replace: bool = False) -> FreezeReport:
    """Freeze the annotated samples of train, val and test as ``data/versions/<data.version>``.

    Parameters
    ----------
    workspace : Workspace
    replace : bool
        Write even if a version of this name with other content is there.

    Raises
    ------
    DataError
        If the name is taken by other content, nothing is annotated, or annotated
        samples have no split (then run ``split``).
    """
    project, data = load_params(workspace)
    merged = merge_annotations(workspace)
    samples = _annotated_samples(workspace, merged.annotations)
    inside = set(samples["sample_id"])
    annotations = [row for row in merged.annotations if row.sample_id in inside]
    classes = tuple(project.classes)
    folder = workspace.version(data.version)
    fingerprint = fingerprint_of(project.vision_task, classes, samples, annotations)
    unchanged = _is_there(folder, fingerprint, replace)
    if not unchanged:
        save_version(
            folder,
            vision_task=project.vision_task,
            classes=classes,
            samples=samples,
            annotations=annotations,
            parent=_parent(workspace, data.version),
            notes={"dataset": data.dataset, "second_look": merged.replaced},
        )
    manifest = read_json(folder / "manifest.json")
    return FreezeReport(
        name=data.version,
        fingerprint=fingerprint,
        parent=str(manifest["parent"]),
        samples=len(samples),
        annotations=len(annotations),
        splits=manifest["splits"],
        unchanged=unchanged,
    )


def _is_there(folder: Path, fingerprint: str, replace: bool) -> bool:
    """Whether this very content is frozen already; other content of that name is refused."""
    if not (folder / "manifest.json").exists():
        return False
    there = str(read_json(folder / "manifest.json")["fingerprint"])
    if there != fingerprint and not replace:
        raise DataError(
            f"dataset version {folder.name}",
            f"is frozen with other content ({there[:12]}, now {fingerprint[:12]})",
            "choose a new name in data.version, or freeze with --replace",
        )
    return there == fingerprint


def _annotated_samples(workspace: Workspace, annotations: list[Annotation]) -> pandas.DataFrame:
    samples = read_samples(workspace)
    splits = read_table(workspace.root / "data" / "splits.parquet", SPLITS)
    annotated = {row.sample_id for row in annotations}
    samples = samples[samples["sample_id"].isin(annotated)]
    if samples.empty:
        raise DataError("freeze", "not one sample is annotated", "import or annotate first")
    without = set(samples["sample_id"]) - set(splits["sample_id"])
    if without:
        raise DataError(
            "freeze",
            f"{len(without)} annotated samples have no split, first {min(without)[:12]}",
            "run: visionloop data split",
        )
    samples = samples.merge(splits[["sample_id", "group", "split"]], on="sample_id")
    samples = samples[samples["split"] != "excluded"]
    return samples.sort_values("sample_id").reset_index(drop=True)


def _parent(workspace: Workspace, name: str) -> str:
    """Fingerprint of the newest other version, by the number of ancestors it has."""
    manifests = [
        read_json(path)
        for path in sorted(workspace.versions.glob("*/manifest.json"))
        if path.parent.name != name
    ]
    parents = {row["fingerprint"]: row["parent"] for row in manifests}

    def depth(fingerprint: str) -> int:
        seen: set[str] = set()
        while fingerprint in parents and fingerprint not in seen:
            seen.add(fingerprint)
            fingerprint = parents[fingerprint]
        return len(seen)

    newest = max(manifests, key=lambda row: (depth(row["fingerprint"]), row["name"]), default=None)
    return str(newest["fingerprint"]) if newest else ""
