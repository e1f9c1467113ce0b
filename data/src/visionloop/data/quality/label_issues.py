"""The verb ``label-issues``: which annotations deserve a second look.

The ranking itself stands in :mod:`visionloop.data.quality.class_issues` (whole-image classes) and
:mod:`visionloop.data.quality.box_issues` (boxes); this module gathers what they need and writes
``data/findings.parquet``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from visionloop.core.config import ONE_CLASS_TASKS, ProjectParams
from visionloop.core.entities import Annotation
from visionloop.core.errors import DataError
from visionloop.core.tables import FINDINGS, read_table, write_table
from visionloop.core.workspace import Workspace
from visionloop.data.annotated import merge_annotations
from visionloop.data.params import DataParams, load_params
from visionloop.data.quality.class_issues import rank_label_issues
from visionloop.data.splits.split import SPLITS

if TYPE_CHECKING:
    import pandas

__all__ = ["LabelIssueReport", "find"]

TRAINING = ("train", "val")
"""Test is left out: what the model is judged by is not used to change what it learns from."""


@dataclass(frozen=True)
class LabelIssueReport:
    """How many samples were suspects, and what was found.

    Attributes
    ----------
    suspects, findings : int
    kinds : dict of str to int
    """

    suspects: int
    findings: int
    kinds: dict[str, int]


def find(*, workspace: Workspace) -> LabelIssueReport:
    """Rank annotations of train and val by doubt and write ``data/findings.parquet``.

    Only annotations of Label Studio are suspects unless ``data.label_issues.suspects`` is
    "all"; the others serve as the measure.

    Raises
    ------
    DataError
        If splits or embeddings (detection: a package or predictions) are missing, or a
        class has too few samples.
    """
    project, data = load_params(workspace)
    groups = _training_groups(workspace)
    rows = [row for row in merge_annotations(workspace).annotations if row.sample_id in groups]
    suspects = {row.sample_id for row in rows if _is_suspect(row, data)}
    if not rows:
        raise DataError("label issues", "no sample of train and val is annotated")
    if project.vision_task in ONE_CLASS_TASKS:
        found = _class_findings(workspace, rows, suspects, groups, project, data)
    else:
        from visionloop.data.quality.box_issues import find_box_issues

        found = find_box_issues(workspace, rows, suspects, project.classes)
    found.sort(key=lambda row: (-row["severity"], row["sample_id"]))
    found = found[: data.label_issues.max_findings]
    _write(workspace, found)
    kinds = sorted({row["kind"] for row in found})
    return LabelIssueReport(
        suspects=len(suspects),
        findings=len(found),
        kinds={kind: sum(row["kind"] == kind for row in found) for kind in kinds},
    )


def _is_suspect(row: Annotation, data: DataParams) -> bool:
    return data.label_issues.suspects == "all" or row.source == "studio"


def _training_groups(workspace: Workspace) -> dict[str, str]:
    """Sample id to group, of train and val."""
    frame = read_table(workspace.root / "data" / "splits.parquet", SPLITS)
    frame = frame[frame["split"].isin(TRAINING)]
    return dict(zip(frame["sample_id"], frame["group"], strict=True))


def _class_findings(
    workspace: Workspace,
    rows: list[Annotation],
    suspects: set[str],
    groups: dict[str, str],
    project: ProjectParams,
    data: DataParams,
) -> list[dict[str, Any]]:
    from visionloop.data.embeddings import load_embeddings

    classes = project.classes
    said = {row.sample_id: row.class_name for row in rows}
    ids = sorted(said)
    index = {name: number for number, name in enumerate(classes)}
    ranked = rank_label_issues(
        load_embeddings(workspace.embeddings).of(ids),
        np.array([index[said[one]] for one in ids], np.int64),
        [groups[one] for one in ids],
        seed=project.seed,
        folds=data.label_issues.folds,
        classes=len(classes),
    )
    found = []
    for number, one in enumerate(ids):
        if one not in suspects:
            continue
        better = int(ranked.probabilities[number].argmax())
        share = float(ranked.probabilities[number, better])
        agrees = better == index[said[one]]
        like = (
            f"and images like it say so only weakly ({share:.0%})."
            if agrees
            else f"but images like it are '{classes[better]}' ({share:.0%})."
        )
        reason = f"Annotated '{said[one]}', {like}"
        found.append(
            {
                "sample_id": one,
                "kind": "label_issue",
                "reason": reason,
                "severity": float(ranked.severity[number]),
                "suggestion": "" if agrees else classes[better],
                "xyxy": None,
            }
        )
    return found


def _write(workspace: Workspace, found: Iterable[dict[str, Any]]) -> pandas.DataFrame:
    import pandas

    columns = [*FINDINGS.columns, "suggested_xyxy"]  # where a shifted box seems to belong
    frame = pandas.DataFrame(list(found), columns=columns)
    write_table(workspace.root / "data" / "findings.parquet", FINDINGS, frame)
    return frame
