"""The verb ``thresholds``: which boxes of a draft are worth showing, measured per class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Annotation, Detections
from visionloop.core.errors import DataError
from visionloop.core.files import read_json, write_json
from visionloop.core.workspace import Workspace
from visionloop.labeling.answers import PRICES
from visionloop.labeling.drafts import Drafter, load_drafter
from visionloop.labeling.params import load_params
from visionloop.labeling.thresholds import FITTING_IOU, choose_thresholds, seconds_saved

__all__ = ["ThresholdReport", "match_with_truth", "read_thresholds", "thresholds"]

LOOKED_AT = {**PRICES, "delete": PRICES["delete"] + PRICES["verify"]}
"""A wrong box is looked at before it is removed."""

MOST_SAMPLES = 300
FEWEST_BOXES = 40
"""With fewer predicted boxes nothing is chosen."""


@dataclass(frozen=True)
class ThresholdReport:
    """What was chosen.

    Attributes
    ----------
    thresholds : dict of str to float
        Class to smallest confidence shown; empty where there was nothing to choose.
    samples, boxes : int
        That the choice rests on.
    saved : float
        Seconds an image that drafts with these thresholds save, on these samples.
    saved_before : float
        The same with ``labeling.draft_confidence`` for every class.
    path : Path or None
        Where they were written.
    why_not : str
        Why nothing was chosen; empty if something was.
    """

    thresholds: dict[str, float]
    samples: int
    boxes: int
    saved: float
    saved_before: float
    path: Path | None
    why_not: str = ""


@dataclass(frozen=True)
class Matched:
    """Predicted boxes beside the truth: arrays (N,), one row a box."""

    confidence: NDArray[np.float64]
    class_id: NDArray[np.int64]
    iou: NDArray[np.float64]
    is_class_right: NDArray[np.bool_]


def thresholds(*, workspace: Workspace) -> ThresholdReport:
    """Choose the thresholds of the current drafter's package on annotated val samples.

    Val samples were not trained on. What is chosen counts for this package alone, so a new
    release begins with ``labeling.draft_confidence`` until this ran for it.

    Raises
    ------
    DataError
        If there is no model yet.
    """
    project, params = load_params(workspace)
    drafter = load_drafter(workspace, project, params)
    if drafter is None:
        raise DataError(
            "thresholds", "there is no model yet", "export one: visionloop train export"
        )
    if project.vision_task != "detection":
        return _nothing("the draft of a class is always worth showing")
    files, truth = _annotated_val(workspace)
    matched = match_with_truth(drafter, files, truth)
    if len(matched.confidence) < FEWEST_BOXES:
        found = f"{len(matched.confidence)} boxes on {len(files)} annotated val samples"
        return _nothing(f"{found} are too few; {FEWEST_BOXES} boxes are needed", len(files))
    return _choose(
        workspace, drafter, project.classes, matched, len(files), params.draft_confidence
    )


def read_thresholds(workspace: Workspace, package_sha256: str) -> dict[str, float]:
    """What was chosen for a package; empty if nothing was."""
    path = _path(workspace, package_sha256)
    if not path.exists():
        return {}
    return {str(name): float(value) for name, value in read_json(path)["thresholds"].items()}


def match_with_truth(
    drafter: Drafter, files: Mapping[str, Path], truth: Mapping[str, list[Annotation]]
) -> Matched:
    """Predict on samples and match the boxes with their annotations.

    Parameters
    ----------
    drafter : Drafter
    files : mapping of str to Path
        Sample id to image file.
    truth : mapping of str to list of Annotation
        Sample id to what is there.
    """
    classes = drafter.package.manifest.classes
    rows: list[tuple[float, int, float, bool]] = []
    for sample_id, prediction in zip(files, drafter.predict(list(files.values())), strict=True):
        if isinstance(prediction.answer, Detections):
            rows += _match(prediction.answer, truth.get(sample_id, []), classes)
    columns = list(zip(*rows, strict=True)) if rows else [(), (), (), ()]
    return Matched(
        np.array(columns[0], np.float64),
        np.array(columns[1], np.int64),
        np.array(columns[2], np.float64),
        np.array(columns[3], bool),
    )


def _match(
    found: Detections, annotations: list[Annotation], classes: list[str]
) -> list[tuple[float, int, float, bool]]:
    """Surer boxes take their object first, as a person would keep the better of two."""
    from visionloop.core.geometry import box_iou

    there = [row for row in annotations if row.xyxy is not None]
    boxes = np.array([row.xyxy for row in there], np.float32).reshape(-1, 4)
    overlap = box_iou(found.xyxy, boxes)
    taken: set[int] = set()
    rows = []
    for number in np.argsort(-found.confidence, kind="stable"):
        free = [n for n in range(len(there)) if n not in taken]
        best = max(free, key=lambda n: float(overlap[number, n]), default=None)
        iou = 0.0 if best is None else float(overlap[number, best])
        if best is None or iou < FITTING_IOU:
            best, iou = None, 0.0
        else:
            taken.add(best)
        class_id = int(found.class_id[number])
        is_right = best is not None and there[best].class_name == classes[class_id]
        rows.append((float(found.confidence[number]), class_id, iou, is_right))
    return rows


def _annotated_val(workspace: Workspace) -> tuple[dict[str, Path], dict[str, list[Annotation]]]:
    """At most ``MOST_SAMPLES`` of them, evenly by id, which is a hash."""
    from visionloop.data.annotated import merge_annotations
    from visionloop.data.raw import read_samples
    from visionloop.data.splits.split import read_splits

    splits = read_splits(workspace)
    truth: dict[str, list[Annotation]] = {}
    for row in merge_annotations(workspace).annotations:
        if splits.get(row.sample_id) == "val":
            truth.setdefault(row.sample_id, []).append(row)
    samples = read_samples(workspace)
    samples = samples[samples["sample_id"].isin(list(truth))].sort_values("sample_id")
    chosen = samples.head(MOST_SAMPLES)
    names = dict(zip(chosen["sample_id"], chosen["file_name"], strict=True))
    return {one: workspace.images / name for one, name in names.items()}, truth


def _choose(
    workspace: Workspace,
    drafter: Drafter,
    classes: list[str],
    matched: Matched,
    samples: int,
    before: float,
) -> ThresholdReport:
    values = choose_thresholds(
        matched.confidence,
        matched.class_id,
        matched.iou,
        len(classes),
        LOOKED_AT,
        is_class_right=matched.is_class_right,
    )
    seconds = seconds_saved(matched.iou, is_class_right=matched.is_class_right, prices=LOOKED_AT)
    saved = float(seconds[matched.confidence >= values[matched.class_id]].sum()) / samples
    saved_before = float(seconds[matched.confidence >= before].sum()) / samples
    chosen = {name: round(float(value), 4) for name, value in zip(classes, values, strict=True)}
    content = {
        "package_sha256": drafter.package.sha256,
        "samples": samples,
        "boxes": len(seconds),
        "prices": LOOKED_AT,
        "thresholds": chosen,
        "saved": round(saved, 2),
        "saved_before": round(saved_before, 2),
    }
    path = write_json(_path(workspace, drafter.package.sha256), content)
    return ThresholdReport(chosen, samples, len(seconds), saved, saved_before, path)


def _nothing(why_not: str, samples: int = 0) -> ThresholdReport:
    return ThresholdReport({}, samples, 0, 0.0, 0.0, None, why_not)


def _path(workspace: Workspace, package_sha256: str) -> Path:
    return workspace.studio_state / "thresholds" / f"{package_sha256[:12]}.json"
