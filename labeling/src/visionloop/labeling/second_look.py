"""The verb ``issues``: doubtful annotations go back to people, with the reason and a suggestion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from visionloop.core.entities import Annotation
from visionloop.core.errors import DataError
from visionloop.core.files import canonical_json, sha256_of_bytes
from visionloop.core.tables import FINDINGS, read_table
from visionloop.core.workspace import Workspace
from visionloop.labeling.client import connect
from visionloop.labeling.params import load_params
from visionloop.labeling.project import find_project
from visionloop.labeling.push import show_drafts_of
from visionloop.labeling.regions import XYXY, Region
from visionloop.labeling.state import only_one
from visionloop.labeling.tasks import Draft, build_task, list_looks, reconcile

__all__ = ["ANNOTATION_KINDS", "IssuesReport", "issues"]

ANNOTATION_KINDS = ("label_issue", "missing", "spurious", "shifted", "swapped")
"""Kinds of findings that doubt an annotation; others doubt the image."""

Finding = Mapping[str, Any]


@dataclass(frozen=True)
class IssuesReport:
    """How many samples were sent now, how many waited or were done before, and where."""

    sent: int
    already: int
    url: str


def issues(*, workspace: Workspace, limit: int | None = None) -> IssuesReport:
    """Send the worst rows of ``data/findings.parquet`` to the tab Second look.

    A sample gets one second look: once somebody looked, the finding is settled. Running
    this again with the same findings sends nothing new.

    Parameters
    ----------
    workspace : Workspace
    limit : int or None
        Samples of one list of findings; None takes ``labeling.second_look``.

    Raises
    ------
    UnreachableError
        If Label Studio does not answer; the same command goes on later.
    DataError
        If there are no findings, or the project was not set up.
    """

    project, params = load_params(workspace)
    findings = _findings_by_sample(workspace)
    fingerprint = _fingerprint(findings)
    with only_one(workspace, "push"):
        client = connect(workspace)
        found = find_project(client, project)
        reconcile(workspace, client, found["id"])
        seconds = [look for look in list_looks(client, found["id"]) if look.look == "second"]
        already = sum(look.findings == fingerprint for look in seconds)
        looked_at = {look.sample_id for look in seconds}
        left = max(0, (limit or params.second_look) - already)
        todo = {one: rows for one, rows in findings.items() if one not in looked_at}
        todo = dict(list(todo.items())[:left])
        version = found["model_version"] or f"{project.model}@second-look"
        tasks = _tasks(workspace, todo, already, fingerprint, version)
        for start in range(0, len(tasks), params.batch):
            client.post(f"/api/projects/{found['id']}/import", tasks[start : start + params.batch])
        show_drafts_of(client, found["id"], version)
        reconcile(workspace, client, found["id"])
    return IssuesReport(len(tasks), already, f"{client.url}/projects/{found['id']}/data")


def _tasks(
    workspace: Workspace,
    findings: Mapping[str, list[Finding]],
    already: int,
    fingerprint: str,
    version: str,
) -> list[dict[str, Any]]:
    from visionloop.data.annotated import merge_annotations
    from visionloop.data.raw import read_samples

    samples = {row["sample_id"]: row for row in read_samples(workspace).to_dict("records")}
    if unknown := [one for one in findings if one not in samples]:
        raise DataError(
            "data/findings.parquet",
            f"{len(unknown)} samples are not in data/raw, first {unknown[0][:12]}",
            "look for doubtful annotations again: visionloop data label-issues",
        )
    current: dict[str, list[Annotation]] = {}
    for row in merge_annotations(workspace).annotations:
        current.setdefault(row.sample_id, []).append(row)
    return [
        build_task(
            samples[one],
            look="second",
            reason=" ".join(str(row["reason"]).strip() for row in rows),
            rank=rank,
            draft=_suggestion(rows, current.get(one, []), rank, version),
            findings=fingerprint,
        )
        for rank, (one, rows) in enumerate(findings.items(), start=already + 1)
    ]


def _findings_by_sample(workspace: Workspace) -> dict[str, list[Finding]]:
    """Sample id to its findings; samples and findings with the worst first."""
    frame = read_table(workspace.root / "data" / "findings.parquet", FINDINGS)
    frame = frame[frame["kind"].isin(ANNOTATION_KINDS)]
    frame = frame.sort_values("severity", ascending=False, kind="stable")
    grouped: dict[str, list[Finding]] = {}
    for row in frame.to_dict("records"):
        grouped.setdefault(row["sample_id"], []).append(row)
    return grouped


def _fingerprint(findings: Mapping[str, Iterable[Finding]]) -> str:
    rows = [[one, *(row["kind"] for row in rows)] for one, rows in findings.items()]
    return sha256_of_bytes(canonical_json(rows))[:12]


def _suggestion(
    findings: list[Finding], current: list[Annotation], rank: int, version: str
) -> Draft:
    """The present annotation with the suggestions of the findings carried out."""
    regions = [
        Region(row.class_name, row.xyxy, "class" if row.xyxy is None else f"now{number}")
        for number, row in enumerate(current)
        if row.class_name
    ]
    for number, finding in enumerate(findings):
        name = str(finding["suggestion"] or "")
        xyxy = _box(finding["xyxy"])
        if xyxy is None:
            regions = [Region(name, None, "class")] if name else regions
        elif finding["kind"] == "missing" and name:
            regions.append(Region(name, xyxy, f"missing{number}"))
        elif finding["kind"] == "swapped" and name:
            regions = [_swap(region, xyxy, name) for region in regions]
    return Draft(regions, 1 - 1 / (rank + 1), version)


def _swap(region: Region, xyxy: XYXY, name: str) -> Region:
    is_it = (
        region.xyxy is not None
        and max(abs(a - b) for a, b in zip(region.xyxy, xyxy, strict=True)) < 1
    )
    return Region(name, region.xyxy, region.key) if is_it else region


def _box(values: Any) -> XYXY | None:
    if values is None or not hasattr(values, "__len__") or len(values) != 4:
        return None
    x1, y1, x2, y2 = (float(value) for value in values)
    return x1, y1, x2, y2
