"""Dataset versions: frozen, fingerprinted, referring to images by content hash.

A version is a folder ``data/versions/<name>/`` with

- ``samples.parquet``: its samples (all annotated), with ``group`` and ``split``;
- ``annotations.json``: their annotations (COCO);
- ``manifest.json``: fingerprint, counts, sources, annotators, parent.

Images stay in ``data/raw/images/<sha256>.<suffix>``: two versions share them, and
the fingerprint covers their content because it covers their names.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Annotation
from visionloop.core.errors import DataError
from visionloop.core.files import (
    canonical_json,
    read_json,
    replace_folder,
    sha256_of_bytes,
    write_json,
)
from visionloop.core.tables import SAMPLES, read_table, write_table
from visionloop.data.formats import coco
from visionloop.data.synthesis.mark import describe_synthetic, refuse_measured_on_synthetic

if TYPE_CHECKING:
    import pandas

__all__ = ["DatasetVersion", "fingerprint_of", "load_version", "save_version"]


@dataclass(frozen=True, eq=False)
class DatasetVersion:
    """A frozen dataset version.

    Attributes
    ----------
    name, fingerprint : str
    images : Path
        Folder of the image files.
    vision_task : str
    classes : tuple of str
        In the order of the model's outputs.
    samples : DataFrame
        Columns of ``SAMPLES``, ``group``, ``split`` ("train", "val", "test") and
        further metadata; ordered by ``sample_id``.
    annotations : tuple of Annotation
    manifest : dict
    """

    name: str
    fingerprint: str
    images: Path
    vision_task: str
    classes: tuple[str, ...]
    samples: pandas.DataFrame
    annotations: tuple[Annotation, ...]
    manifest: dict[str, Any]
    _by_sample: dict[str, list[Annotation]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for annotation in self.annotations:
            self._by_sample.setdefault(annotation.sample_id, []).append(annotation)

    def split(self, name: str) -> pandas.DataFrame:
        """The samples of one split ("train", "val" or "test")."""
        return self.samples[self.samples["split"] == name].reset_index(drop=True)

    def image_path(self, sample_id: str) -> Path:
        """The image file of a sample."""
        names = self.samples.loc[self.samples["sample_id"] == sample_id, "file_name"]
        if names.empty:
            raise DataError(f"sample {sample_id[:12]}", f"is not in dataset version {self.name}")
        return self.images / str(names.iloc[0])

    def annotations_of(self, sample_id: str) -> list[Annotation]:
        """All annotations of a sample."""
        return self._by_sample.get(sample_id, [])

    def class_ids(self, sample_ids: Any) -> NDArray[np.int64]:
        """Class index of each sample (classification, anomaly), shape (N,)."""
        index = {name: number for number, name in enumerate(self.classes)}
        return np.array([index[self._by_sample[one][0].class_name] for one in sample_ids], np.int64)

    def attributes(self, sample_ids: Any) -> NDArray[np.bool_]:
        """Which classes each sample was given (scene), shape (N, C)."""
        index = {name: number for number, name in enumerate(self.classes)}
        rows = list(sample_ids)
        given = np.zeros((len(rows), len(self.classes)), np.bool_)
        for place, sample_id in enumerate(rows):
            for annotation in self.annotations_of(sample_id):
                if annotation.class_name:
                    given[place, index[annotation.class_name]] = True
        return given

    def boxes(self, sample_id: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Boxes of a sample (detection): xyxy float32 (N, 4) in pixels, class_id int64 (N,)."""
        index = {name: number for number, name in enumerate(self.classes)}
        rows = [row for row in self.annotations_of(sample_id) if row.xyxy is not None]
        xyxy = np.array([row.xyxy for row in rows], np.float32).reshape(-1, 4)
        return xyxy, np.array([index[row.class_name] for row in rows], np.int64)


def save_version(
    folder: Path,
    *,
    vision_task: str,
    classes: tuple[str, ...],
    samples: pandas.DataFrame,
    annotations: list[Annotation],
    parent: str = "",
    notes: dict[str, Any] | None = None,
) -> str:
    """Write a version folder atomically and return its fingerprint.

    Parameters
    ----------
    folder : Path
        ``data/versions/<name>``.
    samples : DataFrame
        With ``group`` and ``split``; every row must be annotated.
    parent, notes
        Fingerprint of the version it grew from; further facts for the manifest.

    Raises
    ------
    DataError
        If a sample has no annotation, a group crosses splits, or an annotation has
        no sample.
    RefusedError
        If a made sample is in val or test.
    """
    samples = samples.sort_values("sample_id").reset_index(drop=True)
    _refuse_inconsistency(folder.name, samples, annotations)
    refuse_measured_on_synthetic(f"dataset version {folder.name}", samples)
    fingerprint = fingerprint_of(vision_task, classes, samples, annotations)
    manifest = {
        "name": folder.name,
        "fingerprint": fingerprint,
        "parent": parent,
        "vision_task": vision_task,
        "classes": list(classes),
        "samples": len(samples),
        "annotations": len(annotations),
        "splits": dict(sorted(Counter(samples["split"]).items())),
        "classes_count": dict(sorted(Counter(row.class_name for row in annotations).items())),
        "sources": dict(sorted(Counter(row.source for row in annotations).items())),
        "annotators": dict(sorted(Counter(row.annotator for row in annotations).items())),
        "synthetic": describe_synthetic(samples),
        **(notes or {}),
    }
    images = [
        coco.CocoImage(row.sample_id, row.file_name, int(row.width), int(row.height))
        for row in samples.itertuples()
    ]
    with replace_folder(folder) as staging:
        write_table(staging / "samples.parquet", SAMPLES, samples)
        coco.save(staging / "annotations.json", images, annotations, classes)
        write_json(staging / "manifest.json", manifest)
    return fingerprint


def load_version(folder: Path, images: Path) -> DatasetVersion:
    """Read a version folder.

    Raises
    ------
    DataError
        If it is missing, damaged, or its content does not match its fingerprint.
    """
    manifest = read_json(folder / "manifest.json")
    samples = read_table(folder / "samples.parquet", SAMPLES)
    _, annotations, classes = coco.load(folder / "annotations.json")
    found = fingerprint_of(manifest["vision_task"], tuple(classes), samples, annotations)
    if found != manifest["fingerprint"]:
        raise DataError(
            f"dataset version {folder}",
            f"content {found[:12]} does not match its fingerprint {manifest['fingerprint'][:12]}",
            "it was changed after it was frozen: restore it with 'dvc checkout'",
        )
    return DatasetVersion(
        name=manifest["name"],
        fingerprint=found,
        images=images,
        vision_task=manifest["vision_task"],
        classes=tuple(classes),
        samples=samples,
        annotations=tuple(annotations),
        manifest=manifest,
    )


def fingerprint_of(
    vision_task: str,
    classes: tuple[str, ...],
    samples: pandas.DataFrame,
    annotations: Any,
) -> str:
    """SHA-256 over content, free of order: images, splits, groups and annotations."""
    columns = ["sample_id", "split", "group"]
    rows = sorted(samples[columns].astype(str).itertuples(index=False, name=None))
    truths = sorted(_truth_of(row) for row in annotations)
    content = [vision_task, list(classes), [list(row) for row in rows], truths]
    return sha256_of_bytes(canonical_json(content))


def _truth_of(row: Annotation) -> list[Any]:
    """What the fingerprint covers of an annotation; what is empty leaves no trace."""
    truth: list[Any] = [row.sample_id, row.class_name, [round(one, 3) for one in row.xyxy or ()]]
    if row.polygon or row.probabilities:
        truth.append([[round(one, 3) for one in ring] for ring in row.polygon])
        truth.append(sorted([name, round(share, 6)] for name, share in row.probabilities))
    return truth


def _refuse_inconsistency(
    name: str, samples: pandas.DataFrame, annotations: list[Annotation]
) -> None:
    annotated = {row.sample_id for row in annotations}
    known = set(samples["sample_id"])
    problems = []
    if without := known - annotated:
        problems.append(f"{len(without)} samples have no annotation, first {min(without)[:12]}")
    if orphans := annotated - known:
        problems.append(f"{len(orphans)} annotations have no sample, first {min(orphans)[:12]}")
    crossing = samples.groupby("group")["split"].nunique()
    if len(crossing := crossing[crossing > 1]):
        problems.append(f"{len(crossing)} groups cross splits, first '{crossing.index[0]}'")
    if problems:
        raise DataError(f"dataset version {name}", problems, "nothing was written")
