"""The verb ``issues``: doubtful annotations go back to people, with the reason and a suggestion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from visionloop.core.entities import Annotation
from visionloop.core.errors import DataError
from visionloop.core.files import canonical_json, sha256_of_bytes
from visionloop.core.tables import FINDINGS, read_table
from visionloop.core.workspace import Workspace
from visionloop.labeling.client import connect
from visionloop.labeling.delivery import Rows, send_tasks
from visionloop.labeling.doubts import (
    Asked,
    Doubt,
    draw,
    regions_before,
    save_asked,
    write_notes,
)
from visionloop.labeling.finder_precision import KindPrecision, choose, update_finder
from visionloop.labeling.interface import interface_of
from visionloop.labeling.ledger import open_ledger
from visionloop.labeling.params import load_params
from visionloop.labeling.project import find_project
from visionloop.labeling.queries import condition
from visionloop.labeling.redraft import show_drafts_of
from visionloop.labeling.state import PATIENCE_SECONDS, only_one
from visionloop.labeling.tasks import build_task, list_looks, sync

__all__ = ["ANNOTATION_KINDS", "IssuesReport", "issues"]

ANNOTATION_KINDS = ("label_issue", "missing", "spurious", "shifted", "swapped")
"""Kinds of findings that doubt an annotation; others doubt the image."""


@dataclass(frozen=True)
class IssuesReport:
    """What was sent for a second look.

    Attributes
    ----------
    sent, already : int
        Samples sent now, and sent before for the same list of findings.
    url : str
    held_back : int
        Findings that stay here, as people rarely confirm their kind.
    precision : list of KindPrecision
        How often people confirmed each kind, as far as answers were pulled.
    """

    sent: int
    already: int
    url: str
    held_back: int = 0
    precision: list[KindPrecision] = field(default_factory=list)


def issues(*, workspace: Workspace, limit: int | None = None) -> IssuesReport:
    """Send the worst rows of ``data/findings.parquet`` to the tab Second look.

    A sample gets one second look: once somebody looked, the finding is settled. Running
    this again with the same findings sends nothing new. Of a kind that people rarely confirm
    only the gravest findings are sent (:mod:`visionloop.labeling.finder_precision`).

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
    doubts = _doubts_by_sample(workspace)
    fingerprint = _fingerprint(doubts)
    with only_one(workspace, "push", wait=PATIENCE_SECONDS), open_ledger(workspace) as ledger:
        client = connect(workspace)
        found = find_project(client, project)
        sync(ledger, client, found["id"])
        is_second = condition("data.look", "equal", "String", "second")
        seconds = list_looks(client, found["id"], is_second)
        now = {look.sample_id for look in seconds if look.findings == fingerprint}
        earlier = {look.sample_id for look in seconds} - now
        # A kind's share is of what this list asks anew, so that a settled finding does not
        # take the place of one that nobody has looked at.
        asking = {one: rows for one, rows in doubts.items() if one not in earlier}
        precision = update_finder(workspace, params.second_look_precision, asking)
        chosen = choose(asking, precision)
        left = max(0, (limit or params.second_look) - len(now))
        todo = dict([one for one in chosen.items() if one[0] not in now][:left])
        version = found["model_version"] or f"{project.model}@second-look"
        interface = interface_of(project, params.interface)
        tasks = _tasks(workspace, interface, todo, len(now), fingerprint, version)

        def missing(rows: Rows) -> Rows:
            there = list_looks(client, found["id"], is_second)
            have = {look.sample_id for look in there if look.findings == fingerprint}
            return [row for row in rows if row["data"]["sample_id"] not in have]

        for start in range(0, len(tasks), params.batch):
            send_tasks(client, found["id"], tasks[start : start + params.batch], missing)
        show_drafts_of(client, found["id"], version)
        sync(ledger, client, found["id"])
    return IssuesReport(
        sent=len(tasks),
        already=len(now),
        url=f"{client.url}/projects/{found['id']}/data",
        held_back=_count(asking) - _count(chosen),
        precision=list(precision.values()),
    )


def _tasks(
    workspace: Workspace,
    interface: str,
    doubts: Mapping[str, list[Doubt]],
    already: int,
    fingerprint: str,
    version: str,
) -> list[dict[str, Any]]:
    """The tasks, after what they ask was written down."""
    from visionloop.data.annotated import merge_annotations
    from visionloop.data.raw import read_samples

    samples = {row["sample_id"]: row for row in read_samples(workspace).to_dict("records")}
    if unknown := [one for one in doubts if one not in samples]:
        raise DataError(
            "data/findings.parquet",
            f"{len(unknown)} samples are not in data/raw, first {unknown[0][:12]}",
            "look for doubtful annotations again: visionloop data label-issues",
        )
    current: dict[str, list[Annotation]] = {}
    for row in merge_annotations(workspace).annotations:
        current.setdefault(row.sample_id, []).append(row)
    asked = {
        one: Asked(fingerprint, regions_before(current.get(one, []), interface), rows)
        for one, rows in doubts.items()
    }
    save_asked(workspace, asked)
    tasks = []
    for rank, (one, question) in enumerate(asked.items(), start=already + 1):
        task = build_task(
            samples[one],
            look="second",
            reason=" ".join(doubt.reason for doubt in question.doubts),
            rank=rank,
            draft=draw(question, rank, version),
            findings=fingerprint,
        )
        write_notes(task, question)
        tasks.append(task)
    return tasks


def _doubts_by_sample(workspace: Workspace) -> dict[str, list[Doubt]]:
    """Sample id to its doubts; samples and doubts with the worst first."""
    frame = read_table(workspace.root / "data" / "findings.parquet", FINDINGS)
    frame = frame[frame["kind"].isin(ANNOTATION_KINDS)]
    frame = frame.sort_values("severity", ascending=False, kind="stable")
    grouped: dict[str, list[Doubt]] = {}
    for row in frame.to_dict("records"):
        grouped.setdefault(row["sample_id"], []).append(Doubt.of(row))
    return grouped


def _fingerprint(doubts: Mapping[str, Iterable[Doubt]]) -> str:
    rows = [[one, *(row.kind for row in rows)] for one, rows in doubts.items()]
    return sha256_of_bytes(canonical_json(rows))[:12]


def _count(doubts: Mapping[str, list[Doubt]]) -> int:
    return sum(len(rows) for rows in doubts.values())
