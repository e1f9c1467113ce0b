"""From one edge record to one row of a window."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from visionloop.core.config import ProjectParams
from visionloop.core.errors import DataError
from visionloop.core.workspace import Workspace
from visionloop.monitoring.windows import BOXES_PREFIX, PROBABILITY_PREFIX, WINDOW

if TYPE_CHECKING:
    from visionloop.serving.edge.record.records import FrameRecord

__all__ = ["frame_row", "prediction_columns", "row_key"]


def frame_row(record: FrameRecord, workspace: Workspace, project: ProjectParams) -> dict[str, Any]:
    """The columns of ``WINDOW``, predictions by class, image statistics and attributes.

    An attribute that has the name of another column is called ``attribute_<name>``.

    Raises
    ------
    DataError
        If the model answered with a class that the project does not have.
    """
    row: dict[str, Any] = {
        "sample_id": record.sample_id,
        "camera": record.camera,
        "site": record.site,
        "source": record.source,
        "captured_at": record.captured_at,
        "sequence": int(record.sequence),
        "package": record.package,
        "embedding": None,
        "embedding_package": "",
        "image": _picture_place(record.image, workspace),
        **_prediction(record, project),
        **{name: float(value) for name, value in record.statistics.items()},
    }
    if record.embedding is not None:
        row["embedding"] = np.asarray(record.embedding, np.float32)
        row["embedding_package"] = record.package
    for name, value in record.attributes.items():
        row[f"attribute_{name}" if name in row or name in WINDOW.columns else name] = value
    return row


def row_key(row: dict[str, Any]) -> tuple[str, str]:
    """What makes a row one of its kind in a window: picture and package."""
    return str(row["sample_id"]), str(row["package"])


def prediction_columns(project: ProjectParams) -> list[str]:
    """Names of the columns that hold predictions by class."""
    prefix = BOXES_PREFIX if project.vision_task == "detection" else PROBABILITY_PREFIX
    return [prefix + name for name in project.classes]


def _prediction(record: FrameRecord, project: ProjectParams) -> dict[str, Any]:
    names = prediction_columns(project)
    if project.vision_task == "detection":
        return _box_prediction(record, project, names)
    return _class_prediction(record, project, names)


def _class_prediction(
    record: FrameRecord, project: ProjectParams, names: list[str]
) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(names, np.nan)
    row |= {"confidence": np.nan, "predicted_class": "", "boxes": -1}
    if record.probabilities is None:
        return row
    values = np.asarray(record.probabilities, np.float64).reshape(-1)
    if len(values) != len(names):
        raise _foreign(record, f"has {len(values)} probabilities, not {len(names)}")
    row |= {name: float(value) for name, value in zip(names, values, strict=True)}
    row["confidence"] = float(values.max())
    row["predicted_class"] = project.classes[int(values.argmax())]
    return row


def _box_prediction(
    record: FrameRecord, project: ProjectParams, names: list[str]
) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(names, np.nan)
    row |= {"confidence": np.nan, "predicted_class": "", "boxes": -1}
    found = record.detections
    if found is None:
        return row
    if len(found) and int(found.class_id.max()) >= len(names):
        raise _foreign(record, f"has class {int(found.class_id.max())}, beyond {len(names) - 1}")
    counts = np.bincount(found.class_id, minlength=len(names))
    row |= {name: float(count) for name, count in zip(names, counts, strict=True)}
    row["boxes"] = len(found)
    row["confidence"] = float(found.confidence.mean()) if len(found) else np.nan
    return row


def _foreign(record: FrameRecord, problem: str) -> DataError:
    return DataError(
        f"frame {record.sequence} of camera {record.camera}",
        f"{problem} as project.classes says",
        "params.yaml and the released package do not belong together",
    )


def _picture_place(image: Path | str | None, workspace: Workspace) -> str:
    """Where the kept picture is, below the project folder where possible."""
    if not image:
        return ""
    path = Path(image)
    path = path if path.is_absolute() else workspace.edge / path
    return (
        path.relative_to(workspace.root).as_posix()
        if (path.is_relative_to(workspace.root))
        else str(path)
    )
