"""Samples that people took out: ``data/exclusions.json``, which Git keeps.

An excluded sample stays in ``data/raw`` with its annotations, but no check counts it and no
dataset version holds it, until somebody takes it back in.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from visionloop.core.errors import DataError
from visionloop.core.files import read_json, write_json
from visionloop.core.tables import FINDINGS, read_table, write_table
from visionloop.core.workspace import Workspace
from visionloop.data.quality.finding import ANNOTATION_KINDS
from visionloop.data.raw import read_samples

__all__ = [
    "ExclusionReport",
    "RelabelReport",
    "exclude",
    "read_exclusions",
    "relabel",
    "take_back",
]


@dataclass(frozen=True)
class ExclusionReport:
    """Samples that were excluded (or taken back) now, and how many are excluded in all."""

    changed: int
    total: int


@dataclass(frozen=True)
class RelabelReport:
    """Findings that go back to people now, and the length of the whole list."""

    added: int
    total: int


def read_exclusions(workspace: Workspace) -> dict[str, str]:
    """Excluded sample id to the reason; empty where nobody excluded anything."""
    path = workspace.root / "data" / "exclusions.json"
    if not path.is_file():
        return {}
    content = read_json(path)
    try:
        return {str(one): str(row["reason"]) for one, row in content["excluded"].items()}
    except (KeyError, TypeError, AttributeError):
        raise DataError(str(path), "is no list of exclusions", "restore it with git") from None


def exclude(
    *, workspace: Workspace, names: Sequence[str] = (), kinds: Collection[str] = (), reason: str
) -> ExclusionReport:
    """Take samples out of every check and of the versions that are frozen from now on.

    Parameters
    ----------
    workspace : Workspace
    names : sequence of str
        Findings of the last check (their ids) or samples (at least 8 digits of their id).
    kinds : collection of str
        All findings of these kinds.
    reason : str
        Why; empty takes the finding's own.

    Raises
    ------
    DataError
        Naming every name that fits no finding and not exactly one sample.
    """
    chosen = _choose(workspace, names, kinds)
    rows = _stored(workspace)
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    changed = 0
    for one, row in chosen.items():
        if one not in rows:
            rows[one] = {
                "reason": reason or row["reason"],
                "kind": row["kind"],
                "excluded_on": today,
            }
            changed += 1
    _store(workspace, rows)
    return ExclusionReport(changed, len(rows))


def take_back(*, workspace: Workspace, names: Sequence[str]) -> ExclusionReport:
    """Take samples back in, by at least 8 digits of their id.

    Raises
    ------
    DataError
        Naming every name that fits not exactly one excluded sample.
    """
    rows = _stored(workspace)
    found, problems = _complete(names, list(rows))
    if problems:
        raise DataError("exclusions", problems, "nothing was changed")
    kept = {one: row for one, row in rows.items() if one not in found}
    _store(workspace, kept)
    return ExclusionReport(len(rows) - len(kept), len(kept))


def relabel(
    *, workspace: Workspace, names: Sequence[str] = (), kinds: Collection[str] = ()
) -> RelabelReport:
    """Put findings of the last check on the list that ``visionloop label issues`` sends to people.

    Names and kinds as in :func:`exclude`. Kinds that doubt an annotation keep their kind, others
    go as ``label_issue``: the whole sample is looked at again.
    """
    import pandas

    chosen = _choose(workspace, names, kinds)
    path = workspace.root / "data" / "findings.parquet"
    columns = list(FINDINGS.columns)
    there = read_table(path, FINDINGS) if path.is_file() else pandas.DataFrame(columns=columns)
    known = set(zip(there["sample_id"], there["reason"], strict=True))
    added = [
        {
            "sample_id": one,
            "kind": row["kind"] if row["kind"] in ANNOTATION_KINDS else "label_issue",
            "reason": row["reason"],
            "severity": float(row["severity"]),
            "suggestion": row["suggestion"] if row["kind"] in ANNOTATION_KINDS else "",
            "xyxy": row["xyxy"] if row["kind"] in ANNOTATION_KINDS else None,
        }
        for one, row in chosen.items()
        if (one, row["reason"]) not in known
    ]
    rows = [*there.to_dict("records"), *added]
    rows.sort(key=lambda row: (-row["severity"], row["sample_id"]))
    write_table(path, FINDINGS, pandas.DataFrame(rows, columns=columns))
    return RelabelReport(len(added), len(rows))


def _choose(
    workspace: Workspace, names: Sequence[str], kinds: Collection[str]
) -> dict[str, dict[str, Any]]:
    """Sample id to its (worst) chosen finding."""
    path = workspace.reports / "check" / "check.json"
    findings = read_json(path)["findings"] if path.is_file() else []
    by_id = {row["finding_id"]: row for row in findings if row["sample_id"]}
    chosen: dict[str, dict[str, Any]] = {}
    for row in findings:
        if row["sample_id"] and row["kind"] in kinds:
            chosen.setdefault(row["sample_id"], row)
    others = [name for name in names if name not in by_id]
    for name in names:
        if name in by_id:
            chosen.setdefault(by_id[name]["sample_id"], by_id[name])
    samples, problems = _complete(others, list(read_samples(workspace)["sample_id"]))
    problems += [
        f"the last check has no finding of kind '{kind}' on a sample"
        for kind in kinds
        if not any(row["kind"] == kind and row["sample_id"] for row in findings)
    ]
    if not names and not kinds:
        problems.append("name findings, samples or kinds")
    if problems:
        raise DataError("findings", problems, f"look at {path}; nothing was changed")
    for one in samples:
        chosen.setdefault(one, {**_PLAIN, "sample_id": one})
    return chosen


_PLAIN: dict[str, Any] = {
    "kind": "label_issue",
    "reason": "somebody asked for it",
    "severity": 1.0,
    "suggestion": "",
    "xyxy": None,
}


def _complete(names: Sequence[str], ids: Sequence[str]) -> tuple[list[str], list[str]]:
    """The ids that begin like the names, and what is wrong with the others."""
    found, problems = [], []
    for name in names:
        fitting = [one for one in ids if one.startswith(name)] if len(name) >= 8 else []
        if len(fitting) == 1:
            found.append(fitting[0])
        else:
            what = f"fits {len(fitting)} samples" if fitting else "fits no finding and no sample"
            problems.append(f"'{name}' {what}")
    return found, problems


def _stored(workspace: Workspace) -> dict[str, dict[str, object]]:
    if not read_exclusions(workspace):
        return {}
    content = read_json(workspace.root / "data" / "exclusions.json")
    return dict(content["excluded"])


def _store(workspace: Workspace, rows: dict[str, dict[str, object]]) -> None:
    path = workspace.root / "data" / "exclusions.json"
    write_json(path, {"excluded": dict(sorted(rows.items()))})
