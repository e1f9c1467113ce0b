"""The verb ``check``: samples and annotations against the data contract.

Everything found is one row with a reason. Few kinds are *breaches*, which stop the ring;
the others are warnings for a person to look at. Limits: :mod:`visionloop.data.quality.params`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from visionloop.core.config import ProjectParams
from visionloop.core.entities import Annotation
from visionloop.core.files import read_json, write_json
from visionloop.core.tables import FINDINGS, read_table
from visionloop.core.workspace import Workspace
from visionloop.data.annotated import merge_annotations
from visionloop.data.datasets.oddity import Facts
from visionloop.data.params import DataParams, load_params
from visionloop.data.quality import findings as kinds
from visionloop.data.quality.change import find_change
from visionloop.data.quality.check_page import write_page
from visionloop.data.quality.exclusions import read_exclusions
from visionloop.data.quality.finding import MEANING, Finding
from visionloop.data.quality.params import CheckParams, load_contract
from visionloop.data.quality.parts import find_classes_missing_in_parts
from visionloop.data.quality.pictures import find_odd_pictures
from visionloop.data.quality.twins import find_foreign, find_twins
from visionloop.data.raw import read_samples
from visionloop.data.splits.groups import Tie, find_ties
from visionloop.data.splits.leaks import find_leaks
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
        Breaches first, then the worst.
    """

    is_passed: bool
    breaches: tuple[str, ...]
    warnings: tuple[str, ...]
    counts: dict[str, int]
    class_counts: dict[str, int]
    findings: tuple[Finding, ...]


def check(*, workspace: Workspace) -> CheckReport:
    """Check ``data/raw`` and write ``reports/check/check.json`` and ``index.html``.

    Samples of ``data/exclusions.json`` are left out. Never refuses by itself: the verdict is
    ``is_passed``, also in ``check.json``.

    Raises
    ------
    ConfigError
        If ``data/contract.yaml`` is wrong.
    DataError
        If nothing was imported, a table or annotation file is damaged, or the version to
        compare with is not here.
    """
    project, data = load_params(workspace)
    limits = load_contract(workspace, data.check)
    excluded = set(read_exclusions(workspace))
    samples = read_samples(workspace)
    samples = samples[~samples["sample_id"].isin(list(excluded))].reset_index(drop=True)
    annotations = [
        row for row in merge_annotations(workspace).annotations if row.sample_id not in excluded
    ]
    found = _find_all(workspace, project, data, limits, samples, annotations)
    counted = kinds.count_classes(annotations, project.classes)
    found += kinds.find_class_faults(counted, limits)
    annotated = len({row.sample_id for row in annotations})
    report = _judge(found, samples, annotated, counted, limits, len(excluded))
    _write(workspace, report, samples, limits)
    return report


def _find_all(
    workspace: Workspace,
    project: ProjectParams,
    data: DataParams,
    limits: CheckParams,
    samples: pandas.DataFrame,
    annotations: list[Annotation],
) -> list[Finding]:
    said: dict[str, list[Annotation]] = defaultdict(list)
    for row in annotations:
        said[row.sample_id].append(row)
    found = kinds.find_schema_faults(samples, limits)
    facts, unreadable = kinds.read_and_hash(samples, workspace.images, said)
    found += unreadable + _rejected_at_import(workspace)
    found += kinds.find_image_faults(samples, limits)
    if limits.picture_checks:
        told = {(row.kind, row.sample_id) for row in found}
        odd = find_odd_pictures(samples, workspace.images, [row.sample_id for row in facts])
        found += [row for row in odd if (row.kind, row.sample_id) not in told]
    found += _pair_findings(workspace, data, samples, facts, said)
    found += find_foreign(facts)
    found += kinds.find_conflicts(annotations, project.vision_task)
    found += kinds.find_box_faults(annotations, samples, limits)
    found += find_classes_missing_in_parts(samples, said, limits)
    found += find_change(workspace, samples, annotations, limits)
    return found + _doubtful_annotations(workspace, set(samples["sample_id"]))


def _pair_findings(
    workspace: Workspace,
    data: DataParams,
    samples: pandas.DataFrame,
    facts: Sequence[Facts],
    said: dict[str, list[Annotation]],
) -> list[Finding]:
    """Twins, and samples of test whose group is in training."""
    near = find_near_duplicates(
        [row.image_hash for row in facts], max_distance=data.split.near_duplicate_distance
    )
    pairs = [(first, second) for first, second, _ in near]
    splits = _splits(workspace, samples)
    found = find_twins(pairs, facts, said, splits)
    place = {one: row for row, one in enumerate(samples["sample_id"])}
    ties = find_ties(samples, None, data.split)
    for pair in pairs:
        first, second = sorted(place[facts[number].sample_id] for number in pair)
        ties.append(Tie(first, second, "near-duplicate"))
    sides = [splits.get(one, "") for one in samples["sample_id"]]
    learned = ["train" if side == "val" else side for side in sides]  # val is learned from, too
    for leak in find_leaks(samples, learned, ties).leaks:
        reason = (
            f"{leak.sample_id[:12]} is in test, {leak.train_sample_id[:12]} of its group in "
            f"training (tied by: {leak.reason})"
        )
        found.append(Finding("leak", leak.sample_id, reason, 1.0))
    return found


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


def _doubtful_annotations(workspace: Workspace, known: set[str]) -> list[Finding]:
    """What ``visionloop data label-issues`` found last, if it ran."""
    path = workspace.root / "data" / "findings.parquet"
    if not path.is_file():
        return []
    return [
        Finding(
            kind=str(row["kind"]),
            sample_id=str(row["sample_id"]),
            reason=str(row["reason"]),
            severity=float(row["severity"]),
            suggestion=str(row["suggestion"] or ""),
            xyxy=_box(row["xyxy"]),
        )
        for row in read_table(path, FINDINGS).to_dict("records")
        if row["kind"] in MEANING and row["sample_id"] in known
    ]


def _box(values: object) -> tuple[float, float, float, float] | None:
    if values is None or not hasattr(values, "__len__") or len(values) != 4:
        return None
    x1, y1, x2, y2 = (float(value) for value in values)  # type: ignore[attr-defined]
    return x1, y1, x2, y2


def _judge(
    found: list[Finding],
    samples: pandas.DataFrame,
    annotated: int,
    class_counts: dict[str, int],
    limits: CheckParams,
    excluded: int,
) -> CheckReport:
    found.sort(key=lambda row: (not row.is_breach, -row.severity, row.kind, row.sample_id))
    by_kind = Counter(row.kind for row in found)
    breaches = [row.reason for row in found if row.is_breach]
    breaches += _breaches_of_limits(found, by_kind, len(samples), limits)
    warnings = [f"{count} × {MEANING[kind]}" for kind, count in sorted(by_kind.items())]
    counts = {"samples": len(samples), "annotated": annotated}
    if excluded:
        counts["excluded"] = excluded
    return CheckReport(
        is_passed=not breaches,
        breaches=tuple(breaches),
        warnings=tuple(warnings),
        counts={**counts, **dict(sorted(by_kind.items()))},
        class_counts=class_counts,
        findings=tuple(found),
    )


def _breaches_of_limits(
    found: Sequence[Finding], by_kind: Counter[str], samples: int, limits: CheckParams
) -> list[str]:
    breaches = []
    broken = by_kind["corrupt"]
    seen = samples + sum(row.kind == "corrupt" and not row.sample_id for row in found)
    if broken > limits.max_corrupt_fraction * max(seen, 1):
        breaches.append(
            f"{broken} of {seen} images cannot be read, more than "
            f"{limits.max_corrupt_fraction:.1%} (max_corrupt_fraction)"
        )
    if by_kind["leak"] and limits.refuse_leaks:
        breaches.append(
            f"{by_kind['leak']} samples of test have near-duplicates or others of their group in "
            "training: split again"
        )
    for kind, share in sorted(limits.max_share.items()):
        concerned = len({row.sample_id or row.reason for row in found if row.kind == kind})
        if concerned > share * max(samples, 1):
            meaning = MEANING.get(kind, kind)
            breaches.append(
                f"{concerned} of {samples} samples: {meaning}, more than {share:.1%} "
                f"(max_share.{kind})"
            )
    return breaches


def _write(
    workspace: Workspace, report: CheckReport, samples: pandas.DataFrame, limits: CheckParams
) -> None:
    folder = workspace.reports / "check"
    content = {
        "verdict": "passed" if report.is_passed else "refused",
        "breaches": list(report.breaches),
        "warnings": list(report.warnings),
        "counts": report.counts,
        "class_counts": report.class_counts,
        "limits": limits.model_dump(),
        "findings": [{"finding_id": row.finding_id, **asdict(row)} for row in report.findings],
    }
    write_json(folder / "check.json", content)
    names = dict(zip(samples["sample_id"], samples["file_name"], strict=True))
    write_page(folder / "index.html", report, workspace.images, names)
