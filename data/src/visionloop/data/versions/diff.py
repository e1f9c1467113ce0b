"""The verb ``diff``: what changed between two dataset versions, in words, numbers and pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from visionloop.core.files import write_json
from visionloop.core.workspace import Workspace
from visionloop.data.versions.box_changes import (
    KINDS,
    BoxChange,
    find_box_changes,
    find_class_change,
)
from visionloop.data.versions.listing import open_version
from visionloop.data.versions.version import DatasetVersion

__all__ = ["DiffReport", "SampleChange", "compare_versions", "diff", "render_diff"]

MAX_PICTURES = 120
NOTHING = "(nothing there)"


@dataclass(frozen=True)
class SampleChange:
    """A sample of both versions whose annotations differ.

    Attributes
    ----------
    sample_id, file_name : str
    classes_before, classes_after : tuple of str
        Classes of the whole image; equal where only boxes changed.
    boxes : tuple of BoxChange
        Worst first.
    severity : float
        Sum over the changes; the page begins with the largest.
    """

    sample_id: str
    file_name: str
    classes_before: tuple[str, ...]
    classes_after: tuple[str, ...]
    boxes: tuple[BoxChange, ...]
    severity: float


@dataclass(frozen=True)
class DiffReport:
    """Differences from the first version to the second.

    Attributes
    ----------
    first, second : str
        Names and fingerprints, ``v1 (0123456789ab)``.
    added, removed : tuple of str
        Samples that only one version has.
    annotations_added, annotations_removed : int
        Their annotations.
    split_moves : dict of "train → val" to int
        Samples of both versions whose split differs.
    boxes : dict of kind (see ``BoxChange``) to int
        In samples of both versions.
    class_moves : dict of "open → short" to int
        Relabelled boxes, and whole images of another class.
    classes : dict of class to dict
        ``before`` and ``after`` count all annotations; ``added``, ``removed``, ``moved``,
        ``reshaped``, ``relabelled_from``, ``relabelled_to`` what changed in samples of both.
    changes : tuple of SampleChange
        Worst first.
    """

    first: str
    second: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    annotations_added: int
    annotations_removed: int
    split_moves: dict[str, int]
    boxes: dict[str, int]
    class_moves: dict[str, int]
    classes: dict[str, dict[str, int]]
    changes: tuple[SampleChange, ...]

    @property
    def is_empty(self) -> bool:
        """Whether the versions say the same."""
        return not (self.added or self.removed or self.split_moves or self.changes)


def diff(
    first: str, second: str, *, workspace: Workspace, pictures: int = MAX_PICTURES
) -> tuple[DiffReport, Path]:
    """Compare two dataset versions.

    Writes ``reports/diff/<first>-<second>.json`` with every change and
    ``<first>-<second>.html`` with the worst ``pictures`` of them drawn.

    Raises
    ------
    DataError
        If one is missing (the known ones are named) or damaged.
    """
    from visionloop.data.versions.diff_page import write_pages

    before, after = (open_version(name, workspace=workspace) for name in (first, second))
    report = compare_versions(before, after)
    place = workspace.reports / "diff" / f"{first}-{second}"
    write_json(place.with_name(f"{place.name}.json"), asdict(report))
    page = write_pages(place, report, before, after, pictures=pictures)
    return report, page


def compare_versions(before: DatasetVersion, after: DatasetVersion) -> DiffReport:
    """See :func:`diff`."""
    splits = [
        dict(zip(one.samples["sample_id"], one.samples["split"], strict=True))
        for one in (before, after)
    ]
    names = dict(zip(after.samples["sample_id"], after.samples["file_name"], strict=True))
    both = sorted(splits[0].keys() & splits[1].keys())
    added, removed = (
        tuple(sorted(splits[a].keys() - splits[b].keys())) for a, b in ((1, 0), (0, 1))
    )
    moves = (_sample_change(one, names[one], before, after) for one in both)
    changes = sorted((one for one in moves if one), key=lambda one: (-one.severity, one.sample_id))
    boxes = [change for one in changes for change in one.boxes]
    split_moves = Counter(
        f"{splits[0][one]} → {splits[1][one]}" for one in both if splits[0][one] != splits[1][one]
    )
    return DiffReport(
        first=f"{before.name} ({before.fingerprint[:12]})",
        second=f"{after.name} ({after.fingerprint[:12]})",
        added=added,
        removed=removed,
        annotations_added=sum(len(after.annotations_of(one)) for one in added),
        annotations_removed=sum(len(before.annotations_of(one)) for one in removed),
        split_moves=dict(split_moves.most_common()),
        boxes={kind: sum(change.kind == kind for change in boxes) for kind in KINDS},
        class_moves=dict(_class_moves(changes).most_common()),
        classes=_class_table(before, after, boxes),
        changes=tuple(changes),
    )


def render_diff(report: DiffReport) -> str:
    """The report as tables for a terminal."""
    rows = [
        ("samples added", len(report.added)),
        ("samples removed", len(report.removed)),
        ("samples changed", len(report.changes)),
        *((f"boxes {kind}", count) for kind, count in report.boxes.items()),
        ("split changed", sum(report.split_moves.values())),
    ]
    lines = [f"{report.first} → {report.second}"]
    lines += [f"  {name:<26}{value:>8}" for name, value in rows]
    for title, counts in (("class", report.class_moves), ("split", report.split_moves)):
        lines += [f"  {f'{title}: {name}':<26}{count:>8}" for name, count in counts.items()]
    lines.append(f"  {'annotations of class':<26}{'before':>8}{'after':>8}{'change':>8}")
    for name, row in report.classes.items():
        before, after = row["before"], row["after"]
        lines.append(f"  {name:<26}{before:>8}{after:>8}{after - before:>+8}")
    return "\n".join(lines)


def _sample_change(
    sample_id: str, file_name: str, before: DatasetVersion, after: DatasetVersion
) -> SampleChange | None:
    old, new = before.annotations_of(sample_id), after.annotations_of(sample_id)
    classes = find_class_change(old, new)
    boxes = find_box_changes(old, new)
    if classes is None and not boxes:
        return None
    said = classes or ([], [])
    severity = sum(change.severity for change in boxes) + 3.0 * (classes is not None)
    return SampleChange(
        sample_id, file_name, tuple(said[0]), tuple(said[1]), tuple(boxes), round(severity, 4)
    )


def _class_moves(changes: Iterable[SampleChange]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for one in changes:
        if one.classes_before != one.classes_after:
            said = (
                ", ".join(names) or NOTHING for names in (one.classes_before, one.classes_after)
            )
            counted[" → ".join(said)] += 1
        for change in one.boxes:
            if change.kind == "relabelled":
                counted[f"{change.class_before} → {change.class_after}"] += 1
    return counted


def _class_table(
    before: DatasetVersion, after: DatasetVersion, boxes: list[BoxChange]
) -> dict[str, dict[str, int]]:
    counted = [Counter(row.class_name for row in one.annotations) for one in (before, after)]
    names = list(dict.fromkeys([*before.classes, *after.classes, *sorted(counted[0] | counted[1])]))
    changed = Counter(
        (name, kind)
        for change in boxes
        for name, kind in (
            ((change.class_before, "relabelled_from"), (change.class_after, "relabelled_to"))
            if change.kind == "relabelled"
            else ((change.class_before or change.class_after, change.kind),)
        )
    )
    kinds = ("added", "removed", "moved", "reshaped", "relabelled_from", "relabelled_to")
    return {
        name or NOTHING: {
            "before": counted[0][name],
            "after": counted[1][name],
            **{kind: changed[name, kind] for kind in kinds},
        }
        for name in names
    }
