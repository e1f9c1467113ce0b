"""The verb ``checkout``: a dataset version becomes the current one, and work goes on from it.

As with git: the working data (annotations and splits) become those of the version, samples
that came later stay in ``data/raw`` but out of the splits until ``split`` runs again, and work
that no version holds is not thrown away unless that is asked for.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from visionloop.core.errors import DataError, RefusedError
from visionloop.core.failpoints import failpoint
from visionloop.core.files import read_json, sha256_of_bytes, write_json, write_text
from visionloop.core.tables import read_table, write_table
from visionloop.core.workspace import Workspace
from visionloop.data.annotated import merge_annotations
from visionloop.data.formats import coco
from visionloop.data.params import load_params
from visionloop.data.raw import RawStore, read_samples
from visionloop.data.splits.split import SPLITS
from visionloop.data.versions.freeze import read_work
from visionloop.data.versions.listing import elsewhere, open_version, version_folders, write_base
from visionloop.data.versions.stored import bring_folder, bring_images
from visionloop.data.versions.version import DatasetVersion

if TYPE_CHECKING:
    import pandas

__all__ = ["CheckoutReport", "checkout", "set_version"]


@dataclass(frozen=True)
class CheckoutReport:
    """What a checkout did.

    Attributes
    ----------
    name, fingerprint : str
    samples : int
    images_brought : int
        From shards, DVC's cache or its remote.
    later : int
        Samples of ``data/raw`` that the version does not have.
    kept_aside : Path or None
        Folder with the annotations and splits that were replaced; None where they were those
        of a version.
    """

    name: str
    fingerprint: str
    samples: int
    images_brought: int
    later: int
    kept_aside: Path | None


def checkout(name: str, *, workspace: Workspace, force: bool = False) -> CheckoutReport:
    """Make a version the current one.

    ``data.version`` in ``params.yaml`` names it (comments stay), ``data/splits.parquet`` and
    ``data/annotations/studio.json`` are such that a freeze gives this very version, images
    that are missing are brought. ``data/raw/annotations.json`` is not touched: where the
    version says otherwise, ``studio.json`` does too, and that one counts.

    Parameters
    ----------
    name : str
        A version here, or one that git's history knows.
    force : bool
        Replace annotations and splits that no version holds; they are kept aside.

    Raises
    ------
    DataError
        If there is no such version, images of it are lost, or ``params.yaml`` has other
        classes; nothing was changed.
    RefusedError
        If the working data hold what no version has.
    """
    version = _open(name, workspace)
    _refuse_other_project(version, workspace)
    marker = workspace.versions / ".checkout.json"
    is_resumed = marker.exists() and read_json(marker) == {"name": name}
    unsaved = None if is_resumed else _unsaved(workspace, version)
    if unsaved and not force:
        raise RefusedError("working data", unsaved, _FIRST_FREEZE)
    brought = bring_images(version.samples["file_name"], workspace=workspace)
    aside = _keep_aside(workspace) if unsaved else None
    write_json(marker, {"name": name})
    later = _write_work(version, workspace)
    set_version(workspace.params, name)
    failpoint("checkout.params_written")
    write_base(workspace, version.manifest)
    marker.unlink()
    return CheckoutReport(name, version.fingerprint, len(version.samples), brought, later, aside)


_FIRST_FREEZE = (
    "freeze them first (another name in data.version, then visionloop data freeze), or let "
    "them go with --force (they are kept under reports/checkout)"
)


def _open(name: str, workspace: Workspace) -> DatasetVersion:
    """The version; brought out of git's history and DVC if it is not here."""
    if name not in {folder.name for folder in version_folders(workspace)}:
        away = elsewhere(workspace)
        if name in away:
            bring_folder(away[name], workspace.version(name), workspace=workspace)
    return open_version(name, workspace=workspace)


def _refuse_other_project(version: DatasetVersion, workspace: Workspace) -> None:
    project, _ = load_params(workspace)
    problems = [
        f"has {what} {theirs}, and params.yaml says {ours}"
        for what, theirs, ours in (
            ("vision task", version.vision_task, project.vision_task),
            ("classes", ", ".join(version.classes), ", ".join(project.classes)),
        )
        if theirs != ours
    ]
    if problems:
        next_step = "set them in the project block of params.yaml first; nothing was changed"
        raise DataError(f"dataset version {version.name}", problems, next_step)


def _unsaved(workspace: Workspace, version: DatasetVersion) -> str:
    """What the working data hold that no version has; empty for nothing."""
    try:
        now = read_work(workspace).fingerprint
    except DataError as error:
        if not merge_annotations(workspace).annotations or not _splits(workspace).exists():
            return ""  # nothing annotated, or a fresh clone before its first split
        return f"cannot be frozen as they are: {error.problems[0]}"
    manifests = [read_json(folder / "manifest.json") for folder in version_folders(workspace)]
    known = {version.fingerprint, *(str(row["fingerprint"]) for row in manifests)}
    if now in known:
        return ""
    return f"hold annotations or splits that no dataset version has ({now[:12]})"


def _keep_aside(workspace: Workspace) -> Path:
    """Copy what will be replaced."""
    there = [path for path in (workspace.studio_annotations, _splits(workspace)) if path.exists()]
    name = sha256_of_bytes(b"".join(path.read_bytes() for path in there))[:12]
    folder = workspace.reports / "checkout" / f"replaced-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    for path in there:
        shutil.copy2(path, folder / path.name)
    return folder


def _write_work(version: DatasetVersion, workspace: Workspace) -> int:
    """Annotations and splits of the version; returns the number of later samples."""
    _restore_rows(version, workspace)
    path = workspace.raw / "annotations.json"
    expert = coco.load(path)[1] if path.exists() else []
    said: dict[str, list[object]] = {}
    for row in expert:
        said.setdefault(row.sample_id, []).append(row)
    differing = [
        one
        for one in version.samples["sample_id"]
        if sorted(map(str, version.annotations_of(one))) != sorted(map(str, said.get(one, [])))
    ]
    known = version.samples.set_index("sample_id")
    images = [
        coco.CocoImage(
            one,
            str(known.loc[one, "file_name"]),
            int(known.loc[one, "width"]),
            int(known.loc[one, "height"]),
        )
        for one in differing
    ]
    rows = [row for one in differing for row in version.annotations_of(one)]
    coco.save(workspace.studio_annotations, images, rows, version.classes)
    failpoint("checkout.annotations_written")
    splits = _splits_with(version, read_samples(workspace), _splits(workspace), set(said))
    write_table(_splits(workspace), SPLITS, splits)
    failpoint("checkout.splits_written")
    found = read_work(workspace).fingerprint
    if found != version.fingerprint:
        raise DataError(
            f"dataset version {version.name}",
            f"the working data would freeze as {found[:12]}, not as {version.fingerprint[:12]}",
            "please report this; the version itself is untouched",
        )
    return len(splits) - len(version.samples)


def _restore_rows(version: DatasetVersion, workspace: Workspace) -> None:
    """Samples of the version that ``data/raw`` does not know any more."""
    store = RawStore.load(workspace)
    lost = version.samples[~version.samples["sample_id"].isin(store.known)]
    if len(lost):
        rows = lost.drop(columns=["group", "split"]).to_dict("records")
        store.save(rows, [], list(version.classes))


def _splits_with(
    version: DatasetVersion, samples: pandas.DataFrame, path: Path, by_experts: set[str]
) -> pandas.DataFrame:
    """The version's splits, and for all other samples such that a freeze leaves them out.

    A sample that nobody annotated keeps its split, unless its group is on another side in
    the version; one that experts annotated is excluded until ``split`` runs again.
    """
    import pandas

    own = version.samples[["sample_id", "group", "split"]]
    others = samples.loc[~samples["sample_id"].isin(own["sample_id"]), ["sample_id"]]
    earlier = read_table(path, SPLITS) if path.exists() else own.iloc[:0]
    others = others.merge(earlier[["sample_id", "group", "split"]], on="sample_id", how="left")
    others["group"] = others["group"].fillna(others["sample_id"])
    sides = dict(zip(own["group"], own["split"], strict=True))
    others["split"] = [
        "excluded" if one in by_experts else sides.get(group, before)
        for one, group, before in zip(
            others["sample_id"], others["group"], others["split"].fillna("excluded"), strict=True
        )
    ]
    frame = pandas.concat([own, others], ignore_index=True)
    return frame.sort_values("sample_id").reset_index(drop=True)


def _splits(workspace: Workspace) -> Path:
    return workspace.root / "data" / "splits.parquet"


def set_version(params: Path, name: str) -> None:
    """Write ``data.version`` into ``params.yaml`` and leave every other byte as it is.

    Raises
    ------
    DataError
        If the file has no ``data.version``.
    """
    text = params.read_text(encoding="utf-8")
    node = _find(yaml.compose(text, Loader=yaml.SafeLoader), ("data", "version"))
    if node is None:
        raise DataError(str(params), "has no data.version", "visionloop init makes one")
    is_plain = re.fullmatch(r"[A-Za-z0-9._-]+", name) and yaml.safe_load(name) == name
    value = name if is_plain else json.dumps(name)
    changed = text[: node.start_mark.index] + value + text[node.end_mark.index :]
    if changed != text:
        write_text(params, changed)


def _find(node: yaml.Node | None, keys: tuple[str, ...]) -> yaml.Node | None:
    for key in keys:
        if not isinstance(node, yaml.MappingNode):
            return None
        node = next((value for name, value in node.value if name.value == key), None)
    return node
