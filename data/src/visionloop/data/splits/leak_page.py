"""The page of ``split`` and ``leaks``: the proof, or the pairs that cross with their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionloop.core.workspace import Workspace
from visionloop.data.pages import picture_of, write_page

if TYPE_CHECKING:
    import pandas

    from visionloop.data.splits.leaks import Leak, LeakReport

__all__ = ["write_leak_page"]

TEMPLATE = Path(__file__).parent / "templates" / "leaks.html.j2"
MAX_PICTURES = 24
MAX_ROWS = 200
SIDES = ("train", "val", "test", "excluded")


def write_leak_page(
    path: Path,
    report: LeakReport,
    workspace: Workspace,
    samples: pandas.DataFrame,
    sides: Sequence[str],
) -> Path:
    """Write the page of a leak report.

    Parameters
    ----------
    path : Path
    report : LeakReport
    workspace : Workspace
    samples : DataFrame
    sides : sequence of str
        Split of each sample.
    """
    names = dict(zip(samples["sample_id"], samples["file_name"], strict=True))
    pictures = [_pair(leak, workspace, names) for leak in _spread(report.leaks)]
    return write_page(
        path,
        TEMPLATE,
        report=report,
        pictures=pictures,
        rows=report.leaks[:MAX_ROWS],
        classes=_class_table(workspace, samples, sides),
        order=[side for side in SIDES if side in report.counts],
    )


def _spread(leaks: Sequence[Leak]) -> list[Leak]:
    """So many leaks that every reason is among those that are shown."""
    by_reason: dict[tuple[str, str], list[Leak]] = {}
    for leak in leaks:
        by_reason.setdefault((leak.side, leak.reason), []).append(leak)
    each = MAX_PICTURES // max(1, len(by_reason))
    return [leak for found in by_reason.values() for leak in found[: max(1, each)]]


def _pair(leak: Leak, workspace: Workspace, names: dict[str, str]) -> dict[str, Any]:
    return {
        "leak": leak,
        "held": picture_of(workspace.images / names[leak.sample_id]),
        "train": picture_of(workspace.images / names[leak.train_sample_id]),
    }


def _class_table(
    workspace: Workspace, samples: pandas.DataFrame, sides: Sequence[str]
) -> list[dict[str, Any]]:
    """Of each class, the samples on every side."""
    from visionloop.data.annotated import merge_annotations

    side_of = dict(zip(samples["sample_id"], sides, strict=True))
    found: dict[str, dict[str, set[str]]] = {}
    for row in merge_annotations(workspace).annotations:
        if row.class_name and side_of.get(row.sample_id):
            by_side = found.setdefault(row.class_name, {})
            by_side.setdefault(side_of[row.sample_id], set()).add(row.sample_id)
    return [
        {
            "name": name,
            "total": sum(map(len, by_side.values())),
            "counts": {side: len(by_side.get(side, ())) for side in SIDES},
        }
        for name, by_side in sorted(found.items())
    ]
