"""The verb ``import SOURCE``: a folder or an archive of any known format into ``data/raw``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from visionloop.core.config import load_project
from visionloop.core.errors import ConfigError, DataError
from visionloop.core.files import write_text
from visionloop.core.workspace import Workspace
from visionloop.data.datasets.archive_dataset import to_sample
from visionloop.data.datasets.examine import (
    Examined,
    Plan,
    examine,
    keep_classes,
    plan_import,
    read_plan,
)
from visionloop.data.datasets.import_page import Outcome, write_report
from visionloop.data.datasets.imports import import_raw_samples
from visionloop.data.datasets.table import RawSample
from visionloop.data.formats.pictures import Fault
from visionloop.data.raw import RawStore

__all__ = ["SourceReport", "import_source"]

FROM_SOURCE = "from-source"
SHOWN = 12
"""Faults that an error message lists; the report lists them all."""


@dataclass(frozen=True)
class SourceReport:
    """What an import brought in.

    Attributes
    ----------
    source, format, reason : str
        ``reason`` says why this format.
    added, known, duplicates : int
        Samples new in ``data/raw``; there already; files of equal bytes.
    annotations : int
    faults, notes : int
        Rows left out; rows with a word about them.
    oddities : tuple of str
    classes : tuple of str
        ``project.classes`` afterwards.
    page : Path
        The report, HTML; JSON lies beside it.
    """

    source: str
    format: str
    reason: str
    added: int
    known: int
    duplicates: int
    annotations: int
    faults: int
    notes: int
    oddities: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    page: Path = field(default_factory=Path)


def import_source(
    *,
    workspace: Workspace,
    source: Path,
    format_name: str = "",
    classes: str = "",
    camera: str = "",
    site: str = "",
    on_error: Literal["refuse", "skip"] = "refuse",
) -> SourceReport:
    """Bring a folder or archive into ``data/raw``; it is read twice, looked at first.

    Parameters
    ----------
    workspace : Workspace
    source : Path
        A folder, a zip or a tar file.
    format_name : str
        Row of the format table; empty: that of a known archive, else guessed.
    classes : str
        Empty: the source must keep to ``project.classes``. ``from-source``: its classes
        are written into ``params.yaml``.
    camera, site : str
        For samples whose source does not say.
    on_error : {"refuse", "skip"}
        With a wrong row: take in nothing, or everything else.

    Raises
    ------
    DataError
        If rows are wrong and nothing may be left out; classes or vision task are not those
        of the project; the source cannot be read. Nothing was taken in, the report says all.
    """
    project = load_project(workspace.params)
    plan = plan_import(source, format_name=format_name, vision_task=project.vision_task)
    known_classes = None if classes else list(project.classes)
    if classes not in ("", FROM_SOURCE):
        raise ConfigError("--classes", f"'{classes}' is not known", f"write {FROM_SOURCE}")
    seen = examine(plan, known_classes=known_classes)
    outcome = Outcome(workspace, plan, seen)
    _refuse(outcome, project.vision_task, on_error)
    chosen = project.classes if not classes else _adopt_classes(workspace, plan, seen)
    report = import_raw_samples(
        _samples(plan, known_classes, camera, site),
        workspace=workspace,
        classes=chosen,
        name=source.name,
        source=str(source.name),
    )
    page = write_report(outcome, "imported", taken_in=report)
    return SourceReport(
        source=str(source),
        format=plan.format,
        reason=plan.reason,
        added=report.added,
        known=report.known,
        duplicates=report.duplicates,
        annotations=seen.annotations,
        faults=len(seen.faults),
        notes=len(seen.notes),
        oddities=tuple(row.reason for row in seen.oddities),
        classes=tuple(chosen),
        page=page,
    )


def _samples(
    plan: Plan, known_classes: list[str] | None, camera: str, site: str
) -> Iterator[RawSample]:
    faults: list[Fault] = []  # those of the examination, once more
    for files, picture in read_plan(plan, faults):
        yield to_sample(
            files,
            keep_classes(picture, known_classes, faults),
            camera=str(picture.attributes.get("camera") or camera),
            site=str(picture.attributes.get("site") or site),
        )


def _refuse(outcome: Outcome, vision_task: str, on_error: str) -> None:
    """Write the report and raise if the source may not be taken in."""
    plan, seen = outcome.plan, outcome.seen
    own = "detection" if vision_task == "detection" else "classification"
    other = "classification" if own == "detection" else "detection"
    if seen.task_counts[other] > seen.task_counts[own]:
        page = write_report(outcome, "refused")
        holds = "boxes" if other == "detection" else "classes of whole pictures"
        raise DataError(
            str(plan.source),
            f"holds {holds}, but project.vision_task is {vision_task}",
            f"start a project of a {other} recipe, or set vision_task: {other}; see {page}",
        )
    if seen.faults and (on_error == "refuse" or not seen.samples):
        page = write_report(outcome, "refused")
        problems, next_step = _say_faults(plan, seen.faults)
        raise DataError(str(plan.source), problems, f"{next_step}; all rows are in {page}")
    if not seen.samples:
        write_report(outcome, "refused")
        raise DataError(str(plan.source), f"not one picture in format '{plan.format}' is there")


def _say_faults(plan: Plan, faults: list[Fault]) -> tuple[list[str], str]:
    """The first faults, unknown classes summed up; and what to do."""
    unknown = Counter(fault.reason for fault in faults if fault.kind == "unknown_class")
    problems = [f"{count} rows: {reason}" for reason, count in unknown.most_common()]
    others = [str(fault) for fault in faults if fault.kind != "unknown_class"]
    problems += others[:SHOWN]
    if len(others) > SHOWN:
        problems.append(f"... and {len(others) - SHOWN} more")
    found = set(re.findall(r"class '(.+?)' is not one", "\n".join(unknown)))
    if found:
        names = [*(name for name in plan.classes if name in found), *sorted(found)]
        line = f"classes: {_yaml_list(list(dict.fromkeys(names)))}"
        return problems, f"take them with --classes {FROM_SOURCE}, or write {line} in params.yaml"
    return problems, "nothing was taken in; --on-error skip leaves these rows out"


def _adopt_classes(workspace: Workspace, plan: Plan, seen: Examined) -> list[str]:
    """Write the classes of the source into ``params.yaml``; those in use stay in front."""
    project = load_project(workspace.params)
    used = {row.class_name for row in RawStore.load(workspace).annotations} - {""}
    there = set(seen.class_counts) - {""}
    ordered = [name for name in plan.classes if name in there]
    kept = project.classes if used else [name for name in project.classes if name in there]
    chosen = [*kept, *ordered, *sorted(there - set(ordered))]
    chosen = list(dict.fromkeys(chosen if used else [*ordered, *sorted(there - set(ordered))]))
    if chosen != project.classes:
        text = workspace.params.read_text(encoding="utf-8")
        line = f"  classes: {_yaml_list(chosen)}"
        changed, count = re.subn(
            r"(?m)^  classes:[^\n]*(?:\n  ( *- |[ \t]+- )[^\n]*)*$", line, text, count=1
        )
        if not count:
            raise ConfigError(
                str(workspace.params), "the line project.classes is not found", f"write:{line}"
            )
        write_text(workspace.params, changed)
        if load_project(workspace.params).classes != chosen:
            write_text(workspace.params, text)
            raise ConfigError(
                str(workspace.params), "project.classes cannot be changed", f"write:{line}"
            )
    return chosen


def _yaml_list(names: list[str]) -> str:
    import yaml

    return str(yaml.safe_dump(names, default_flow_style=True, width=10_000)).strip()
