"""The verb ``export``: a dataset version in the format of another tool."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from visionloop.core.entities import Annotation
from visionloop.core.errors import DataError
from visionloop.core.failpoints import failpoint
from visionloop.core.files import replace_folder, write_text
from visionloop.core.progress import track
from visionloop.core.workspace import Workspace
from visionloop.data.annotated import merge_annotations
from visionloop.data.formats.pictures import AnnotationFormat, Picture
from visionloop.data.formats.table import FORMATS, open_format
from visionloop.data.params import load_params
from visionloop.data.raw import read_samples
from visionloop.data.versions.version import load_version

if TYPE_CHECKING:
    import pandas

__all__ = ["ExportReport", "export_version"]

STAMP = "visionloop-export.yaml"
"""Says where an exported folder came from; a folder without it is never replaced."""

LOSSES = {
    "polygon": "outlines are not held by this format: their boxes are written",
    "probabilities": "probabilities are not held by this format: the most probable class is",
}
"""What may be lost with a word; anything else that a format does not hold is refused."""


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes
    ----------
    out : Path
    samples, annotations : int
    notes : tuple of str
        What the format could not hold.
    """

    out: Path
    samples: int
    annotations: int
    notes: tuple[str, ...] = ()


def export_version(
    *,
    workspace: Workspace,
    version: str,
    format_name: str,
    out: Path,
    hardlink: bool = False,
    replace: bool = False,
) -> ExportReport:
    """Write a dataset version, or all of ``data/raw``, as a folder of another format.

    The folder appears whole or not at all. Image files keep their names
    (``<sample id>.<suffix>``), so that an import gives the same samples again.

    Parameters
    ----------
    workspace : Workspace
    version : str
        Name of a dataset version, or ``raw``.
    format_name : str
        Row of the format table.
    out : Path
        A folder that is not there yet, or empty.
    hardlink : bool
        Link image files (copied where links are not possible): a tool that changes them in
        place would change ``data/raw``.
    replace : bool
        Replace a folder that an earlier export wrote.

    Raises
    ------
    ConfigError
        If there is no such format.
    DataError
        If there is no such version, the folder is taken, or the format cannot hold the
        annotations.
    """
    form = open_format(format_name)
    _refuse_place(workspace, out.resolve(), replace)
    classes, samples, annotations, fingerprint = _content(workspace, version)
    notes = _losses(form, format_name, annotations)
    pictures = _pictures(samples, annotations, form)
    with replace_folder(out.resolve()) as staging:
        for picture, source in track(pictures, f"exporting {version}", total=len(pictures)):
            failpoint("export.picture")
            _place(workspace.images / source, staging / picture.file, hardlink)
        form.save(staging, (picture for picture, _ in pictures), classes)
        stamp = {
            "version": version,
            "fingerprint": fingerprint,
            "format": format_name,
            "classes": classes,
            "samples": len(pictures),
            "annotations": len(annotations),
        }
        write_text(staging / STAMP, yaml.safe_dump(stamp, sort_keys=False))
    return ExportReport(out, len(pictures), len(annotations), notes)


def _refuse_place(workspace: Workspace, out: Path, replace: bool) -> None:
    data = (workspace.root / "data").resolve()
    if workspace.root.resolve().is_relative_to(out) or out.is_relative_to(data):
        raise DataError(str(out), "holds the project or its data", "choose another folder")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (replace and (out / STAMP).is_file()):
        why = "is there already" if not replace else "was not written by an export"
        raise DataError(str(out), why, "choose another folder, or --replace an earlier export")


def _content(
    workspace: Workspace, version: str
) -> tuple[list[str], pandas.DataFrame, list[Annotation], str]:
    """Classes, samples (with ``split``), annotations and fingerprint."""
    if version != "raw":
        loaded = load_version(workspace.version(version), workspace.images)
        rows = list(loaded.annotations)
        return list(loaded.classes), loaded.samples, rows, loaded.fingerprint
    project, _ = load_params(workspace)
    samples = read_samples(workspace)
    samples["split"] = samples.get("official_split", "")
    return project.classes, samples, merge_annotations(workspace).annotations, ""


def _losses(
    form: AnnotationFormat, format_name: str, annotations: Iterable[Annotation]
) -> tuple[str, ...]:
    used: set[str] = set()
    for row in annotations:
        if row.class_name:
            used.add("class" if row.xyxy is None else "polygon" if row.polygon else "box")
        if row.probabilities:
            used.add("probabilities")
    missing = used - form.holds
    hopeless = missing - set(LOSSES)
    if "polygon" in missing and "box" not in form.holds:
        hopeless.add("polygon")
    if "probabilities" in missing and "class" not in form.holds:
        hopeless.add("probabilities")
    if hopeless:
        able = [name for name in FORMATS if hopeless <= open_format(name).holds]
        words = {
            "class": "classes of whole pictures",
            "box": "plain boxes",
            "polygon": "outlines",
            "probabilities": "probabilities",
        }
        held = " and ".join(words[one] for one in sorted(hopeless))
        raise DataError(f"format {format_name}", f"holds no {held}", f"choose {', '.join(able)}")
    return tuple(LOSSES[one] for one in sorted(missing))


def _pictures(
    samples: pandas.DataFrame, annotations: list[Annotation], form: AnnotationFormat
) -> list[tuple[Picture, str]]:
    """Each picture at its place in the folder, and its file in ``data/raw/images``."""
    by_sample: dict[str, list[Annotation]] = {}
    for row in annotations:
        by_sample.setdefault(row.sample_id, []).append(row)
    found = []
    for row in samples.itertuples():
        file = str(row.file_name)
        rows = tuple(by_sample.get(str(row.sample_id), ()))
        split = str(row.split) if row.split in ("train", "val", "test") else ""
        size = int(row.width), int(row.height)
        picture = Picture(file, rows, (), *size, split=split)
        found.append((replace(picture, file=form.place_of(picture)), file))
    return found


def _place(source: Path, target: Path, hardlink: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not source.is_file():
        raise DataError(str(source), "is missing", "run: visionloop data verify")
    if hardlink:
        try:
            os.link(source, target)
            return
        except OSError:  # another file system, or one without links
            pass
    shutil.copyfile(source, target)
