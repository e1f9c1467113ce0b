"""The verb ``diff``: what changed between two dataset versions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from visionloop.core.entities import Annotation
from visionloop.core.files import write_json
from visionloop.core.workspace import Workspace
from visionloop.data.versions.version import DatasetVersion, load_version

__all__ = ["DiffReport", "compare_versions", "diff", "render_diff"]


@dataclass(frozen=True)
class DiffReport:
    """Differences from the first version to the second.

    Attributes
    ----------
    first, second : str
        Names and fingerprints, ``v1 (0123456789ab)``.
    samples_added, samples_removed : int
    split_changed : int
        Samples in both versions whose split differs.
    annotations_added, annotations_removed : int
        Of samples that only one version has.
    annotations_changed : int
        Samples in both versions whose annotations differ.
    changes : list of dict
        Each such sample: ``sample_id``, ``before``, ``after``.
    class_counts : dict of class to [before, after]
    """

    first: str
    second: str
    samples_added: int
    samples_removed: int
    split_changed: int
    annotations_added: int
    annotations_removed: int
    annotations_changed: int
    changes: list[dict[str, Any]]
    class_counts: dict[str, list[int]]


def diff(first: str, second: str, *, workspace: Workspace) -> DiffReport:
    """Compare two dataset versions and write ``reports/diff/<first>-<second>.json``.

    Raises
    ------
    DataError
        If one is missing or damaged.
    """
    before, after = (
        load_version(workspace.version(name), workspace.images) for name in (first, second)
    )
    report = compare_versions(before, after)
    write_json(workspace.reports / "diff" / f"{first}-{second}.json", dict(vars(report)))
    return report


def compare_versions(before: DatasetVersion, after: DatasetVersion) -> DiffReport:
    """See :func:`diff`."""
    splits_before = dict(zip(before.samples["sample_id"], before.samples["split"], strict=True))
    splits_after = dict(zip(after.samples["sample_id"], after.samples["split"], strict=True))
    both = sorted(splits_before.keys() & splits_after.keys())
    added, removed = (
        splits_after.keys() - splits_before.keys(),
        splits_before.keys() - splits_after.keys(),
    )
    changes = [
        {"sample_id": one, "before": said_before, "after": said_after}
        for one in both
        if (said_before := _said(before.annotations_of(one)))
        != (said_after := _said(after.annotations_of(one)))
    ]
    counted = [Counter(row.class_name for row in one.annotations) for one in (before, after)]
    names = sorted(counted[0] | counted[1])
    return DiffReport(
        first=f"{before.name} ({before.fingerprint[:12]})",
        second=f"{after.name} ({after.fingerprint[:12]})",
        samples_added=len(added),
        samples_removed=len(removed),
        split_changed=sum(splits_before[one] != splits_after[one] for one in both),
        annotations_added=sum(len(after.annotations_of(one)) for one in added),
        annotations_removed=sum(len(before.annotations_of(one)) for one in removed),
        annotations_changed=len(changes),
        changes=changes,
        class_counts={name: [counted[0][name], counted[1][name]] for name in names},
    )


def render_diff(report: DiffReport) -> str:
    """The report as a table for a terminal."""
    rows = [
        ("samples added", report.samples_added),
        ("samples removed", report.samples_removed),
        ("split changed", report.split_changed),
        ("annotations added", report.annotations_added),
        ("annotations removed", report.annotations_removed),
        ("annotations changed", report.annotations_changed),
    ]
    lines = [f"{report.first} → {report.second}"]
    lines += [f"  {name:<22}{value:>8}" for name, value in rows]
    lines.append(f"  {'class':<22}{'before':>8}{'after':>8}{'change':>8}")
    for name, (before, after) in report.class_counts.items():
        shown = name or "(nothing there)"
        lines.append(f"  {shown:<22}{before:>8}{after:>8}{after - before:>+8}")
    return "\n".join(lines)


def _said(rows: list[Annotation]) -> list[list[Any]]:
    """What annotations say, free of order and of who said it."""
    return sorted(
        [row.class_name, [round(value, 1) for value in row.xyxy] if row.xyxy else []]
        for row in rows
    )
