"""The verb ``freeze``: everything that is annotated now becomes a dataset version."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from visionloop.core.errors import DataError
from visionloop.core.failpoints import failpoint
from visionloop.core.files import read_json
from visionloop.core.tables import read_table
from visionloop.core.workspace import Workspace
from visionloop.data.annotated import merge_annotations
from visionloop.data.params import load_params
from visionloop.data.quality.exclusions import read_exclusions
from visionloop.data.raw import read_samples
from visionloop.data.splits.split import SPLITS
from visionloop.data.versions.listing import read_base, version_folders, write_base
from visionloop.data.versions.version import fingerprint_of, save_version

if TYPE_CHECKING:
    import pandas

    from visionloop.core.entities import Annotation

__all__ = ["FreezeReport", "Work", "freeze", "read_work"]


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


@dataclass(frozen=True, eq=False)
class Work:
    """The working data as ``freeze`` sees it.

    Attributes
    ----------
    samples : DataFrame
        The annotated ones of train, val and test, with ``group`` and ``split``.
    annotations : list of Annotation
        Theirs.
    replaced : int
        Samples whose expert annotations gave way to newer ones.
    fingerprint : str
        Of the version that a freeze would make now.
    """

    samples: pandas.DataFrame
    annotations: list[Annotation]
    replaced: int
    fingerprint: str


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
    work = read_work(workspace)
    folder = workspace.version(data.version)
    unchanged = _is_there(folder, work.fingerprint, replace)
    if not unchanged:
        save_version(
            folder,
            vision_task=project.vision_task,
            classes=tuple(project.classes),
            samples=work.samples,
            annotations=work.annotations,
            parent=_parent(workspace, data.version, work.fingerprint),
            notes={"dataset": data.dataset, "second_look": work.replaced},
        )
    _clear_leftovers(folder)
    failpoint("freeze.before_base")
    manifest = read_json(folder / "manifest.json")
    write_base(workspace, manifest)
    return FreezeReport(
        name=data.version,
        fingerprint=work.fingerprint,
        parent=str(manifest["parent"]),
        samples=len(work.samples),
        annotations=len(work.annotations),
        splits=manifest["splits"],
        unchanged=unchanged,
    )


def read_work(workspace: Workspace) -> Work:
    """What a freeze would freeze now.

    Raises
    ------
    DataError
        If nothing is annotated, or annotated samples have no split.
    """
    project, _ = load_params(workspace)
    merged = merge_annotations(workspace)
    samples = _annotated_samples(workspace, merged.annotations)
    inside = set(samples["sample_id"])
    annotations = [row for row in merged.annotations if row.sample_id in inside]
    classes = tuple(project.classes)
    fingerprint = fingerprint_of(project.vision_task, classes, samples, annotations)
    return Work(samples, annotations, merged.replaced, fingerprint)


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
    annotated = {row.sample_id for row in annotations} - set(read_exclusions(workspace))
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


def _parent(workspace: Workspace, name: str, fingerprint: str) -> str:
    """Fingerprint of the version that the working data grew from.

    That is the one frozen or checked out last. Where that is not known (a fresh clone), it is
    the newest other version by the number of its ancestors, but none that descends from this
    very content: DVC removes the output of a stage before it runs the stage again.
    """
    base = read_base(workspace)
    manifests = [
        read_json(path / "manifest.json")
        for path in version_folders(workspace)
        if path.name != name
    ]
    parents = {str(row["fingerprint"]): str(row["parent"]) for row in manifests}

    def ancestors(one: str) -> list[str]:
        line: list[str] = []
        while one in parents and one not in line:
            line.append(one)
            one = parents[one]
        return [*line, one]

    if base.get("name") == name:
        return base["parent"]
    if base:
        return base["fingerprint"]
    others = [row for row in manifests if fingerprint not in ancestors(row["fingerprint"])]
    newest = max(
        others, key=lambda row: (len(ancestors(row["fingerprint"])), row["name"]), default=None
    )
    return str(newest["fingerprint"]) if newest else ""


def _clear_leftovers(folder: Path) -> None:
    """Remove what freezes of this name that were killed left beside it."""
    for pattern in (f".{folder.name}.*.tmp", f".{folder.name}.*.old"):
        for path in folder.parent.glob(pattern):
            if path.name.count(".") != folder.name.count(".") + 3:
                continue  # of another version, whose name begins like this one
            shutil.rmtree(path, ignore_errors=True)
    for path in folder.parent.glob(".base.json.*.tmp"):
        path.unlink()
