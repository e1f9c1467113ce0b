"""The verb ``check``: samples and annotations against the data contract of ``data.check``.

Everything found is one row with a reason. Few kinds are *breaches*, which stop the ring;
the others are warnings for a person to look at.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from visionloop.core.files import read_json, write_json
from visionloop.core.workspace import Workspace
from visionloop.data.annotated import merge_annotations
from visionloop.data.params import CheckParams, load_params
from visionloop.data.quality import findings as kinds
from visionloop.data.quality.check_page import write_page
from visionloop.data.quality.findings import Finding
from visionloop.data.raw import read_samples
from visionloop.data.splits.near_duplicates import find_near_duplicates
from visionloop.data.splits.split import read_splits

if TYPE_CHECKING:
    import pandas

__all__ = ["CheckReport", "check"]


@dataclass(frozen=True)
class CheckReport:
    """The verdict of the data contract.

    Attributes
    ----------
    is_passed : bool
    breaches, warnings : tuple of str
        One sentence each.
    counts : dict of str to int
        Samples, annotated samples, findings by kind.
    class_counts : dict of str to int
        Annotated samples (classification) or boxes (detection) of each class.
    findings : tuple of Finding
    """

    is_passed: bool
    breaches: tuple[str, ...]
    warnings: tuple[str, ...]
    counts: dict[str, int]
    class_counts: dict[str, int]
    findings: tuple[Finding, ...]


def check(*, workspace: Workspace) -> CheckReport:
    """Check ``data/raw`` and write ``reports/check/check.json`` and ``index.html``.

    Never refuses by itself: the verdict is ``is_passed``, also in ``check.json``.

    Raises
    ------
    DataError
        If nothing was imported, or a table or annotation file is damaged.
    """
    project, data = load_params(workspace)
    samples = read_samples(workspace)
    annotations = merge_annotations(workspace).annotations
    found = kinds.find_schema_faults(samples)
    hashes, unreadable = kinds.read_and_hash(samples, workspace.images)
    found += unreadable + _rejected_at_import(workspace)
    order = [one for one in samples["sample_id"] if one in hashes]
    pairs = find_near_duplicates(
        [hashes[one] for one in order], max_distance=data.split.near_duplicate_distance
    )
    twins = [(order[first], order[second]) for first, second, _ in pairs]
    splits = _splits(workspace, samples)
    found += kinds.find_image_faults(samples, data.check)
    found += kinds.find_duplicates(twins, annotations, splits)
    found += kinds.find_conflicts(annotations, project.vision_task)
    found += kinds.find_box_faults(annotations, samples, data.check)
    counted = kinds.count_classes(annotations, project.classes)
    found += kinds.find_class_faults(counted, data.check)
    report = _judge(
        found, samples, len({row.sample_id for row in annotations}), counted, data.check
    )
    _write(workspace, report, samples)
    return report


def _judge(
    found: list[Finding],
    samples: pandas.DataFrame,
    annotated: int,
    class_counts: dict[str, int],
    limits: CheckParams,
) -> CheckReport:
    found.sort(key=lambda row: (not row.is_breach, -row.severity, row.kind, row.sample_id))
    by_kind = Counter(row.kind for row in found)
    broken = by_kind["corrupt"]
    seen = len(samples) + sum(row.kind == "corrupt" and not row.sample_id for row in found)
    breaches = [row.reason for row in found if row.is_breach]
    if broken > limits.max_corrupt_fraction * max(seen, 1):
        breaches.append(
            f"{broken} of {seen} images cannot be read, more than "
            f"{limits.max_corrupt_fraction:.1%} (data.check.max_corrupt_fraction)"
        )
    if by_kind["leak"] and limits.refuse_leaks:
        breaches.append(
            f"{by_kind['leak']} near-duplicate pairs cross from training into test: split again"
        )
    warnings = [f"{count} × {kinds.MEANING[kind]}" for kind, count in sorted(by_kind.items())]
    return CheckReport(
        is_passed=not breaches,
        breaches=tuple(breaches),
        warnings=tuple(warnings),
        counts={"samples": len(samples), "annotated": annotated, **dict(sorted(by_kind.items()))},
        class_counts=class_counts,
        findings=tuple(found),
    )


def _splits(workspace: Workspace, samples: pandas.DataFrame) -> dict[str, str]:
    """Sample id to split; before the first split, to "reserved" where test is reserved."""
    splits = read_splits(workspace)
    if not splits and "official_split" in samples:
        reserved = samples["official_split"] == "test"
        return dict.fromkeys(samples.loc[reserved, "sample_id"], "reserved")
    return splits


def _rejected_at_import(workspace: Workspace) -> list[Finding]:
    path = workspace.reports / "import" / "rejected.json"
    if not path.exists():
        return []
    return [
        Finding("corrupt", "", f"left out at import: {row['reason']}", 1.0)
        for row in read_json(path)["files"]
    ]


def _write(workspace: Workspace, report: CheckReport, samples: pandas.DataFrame) -> None:
    folder = workspace.reports / "check"
    content = {
        "verdict": "passed" if report.is_passed else "refused",
        "breaches": list(report.breaches),
        "warnings": list(report.warnings),
        "counts": report.counts,
        "class_counts": report.class_counts,
        "findings": [asdict(row) for row in report.findings],
    }
    write_json(folder / "check.json", content)
    names = dict(zip(samples["sample_id"], samples["file_name"], strict=True))
    write_page(folder / "index.html", report, workspace.images, names)
