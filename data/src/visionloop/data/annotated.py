"""Which annotation of a sample counts: experts' and Label Studio's, merged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from visionloop.core.entities import Annotation
from visionloop.core.workspace import Workspace
from visionloop.data.formats import coco

__all__ = ["MergedAnnotations", "merge_annotations"]


@dataclass(frozen=True)
class MergedAnnotations:
    """The annotations that count.

    Attributes
    ----------
    annotations : list of Annotation
    replaced : int
        Samples whose expert annotations gave way to newer ones from Label Studio.
    """

    annotations: list[Annotation]
    replaced: int


def merge_annotations(workspace: Workspace) -> MergedAnnotations:
    """Merge ``data/raw/annotations.json`` with ``data/annotations/studio.json``.

    A sample that was looked at in Label Studio carries that verdict, which is newer than
    the expert's; ``studio.json`` itself holds only the latest verdict of each sample.
    """
    expert = _load(workspace.raw / "annotations.json")
    studio = _load(workspace.studio_annotations)
    again = _ids(studio)
    kept = [row for row in expert if row.sample_id not in again]
    return MergedAnnotations(kept + studio, len(again & _ids(expert)))


def _load(path: object) -> list[Annotation]:
    from pathlib import Path

    place = Path(str(path))
    return coco.load(place)[1] if place.exists() else []


def _ids(rows: Iterable[Annotation]) -> set[str]:
    return {row.sample_id for row in rows}
