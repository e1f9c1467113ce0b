"""Is the candidate worse than the champion, on the same samples?"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from visionloop.core.errors import DataError
from visionloop.core.targets import Targets
from visionloop.core.workspace import Workspace
from visionloop.evaluation.champion import fetch_champion_evaluation
from visionloop.evaluation.compare import ComparisonRow, compare_part, pair_answers, read_answers
from visionloop.evaluation.gate_report import Check
from visionloop.evaluation.measurements import Evaluation, load_evaluation
from visionloop.evaluation.params import load_params
from visionloop.evaluation.slices import with_derived

__all__ = ["check_champion"]

NAME = "champion"


def check_champion(
    workspace: Workspace, evaluation: Evaluation, targets: Targets, scratch: Path
) -> tuple[list[Check], str]:
    """Compare with what holds the alias ``champion``, on every guarded slice.

    A slice is guarded if its limit binds for the candidate or did for the champion, so
    that a candidate cannot lose a slice by not being trained on it. A loss refuses the
    package if it is larger than ``quality.max_loss_against_champion`` and its paired
    interval excludes zero. With several slices each interval is wider (Bonferroni), so
    that chance refuses an equal candidate as rarely as with one. What the champion was
    judged on and cannot be compared on any more refuses too.

    Returns
    -------
    checks, version
        The MLflow version compared with, or empty.
    """
    _, _, params = load_params(workspace)
    found = fetch_champion_evaluation(workspace=workspace, into=scratch)
    if found is None:
        return [_note("pass", "no champion yet")], ""
    version, folder = found
    champion = load_evaluation(folder)
    if champion.package == evaluation.package:
        return [_note("pass", f"this package is the champion, version {version}")], version
    current = read_answers(workspace.reports / "evaluation", evaluation)
    try:
        first, second = pair_answers(read_answers(folder, champion), current)
    except DataError as error:
        why = f"version {version} cannot be compared with: {error.problems[0]}"
        return [_note("not enough data", why, is_required=True)], version
    names = _guarded_names(evaluation, champion, targets)
    level = 1 - (1 - params.intervals.level) / max(len(names), 1)
    intervals = params.intervals.model_copy(update={"level": level})
    checks = []
    for name in names:
        column, _, value = name.partition("=")
        known = with_derived(second.samples, [column])
        texts = known[column].astype(str) if value else [""] * len(known)
        chosen = np.flatnonzero(np.array([text == value for text in texts], bool))
        row = compare_part(
            f"{NAME}, {name}", first, second, chosen, targets.quality.metric, intervals, seed=0
        )
        check = _judge(row, targets.quality.max_loss_against_champion, version)
        where = {
            "question": NAME,
            "slice": name if value else "",
            "required": _was_judged(champion, name),
        }
        checks.append(check.model_copy(update=where))
    return checks, version


def _guarded_names(evaluation: Evaluation, champion: Evaluation, targets: Targets) -> list[str]:
    names = [f"{one.column}={one.value}" for one in targets.quality.slices]
    if not names:
        return ["all samples"]
    return [
        name
        for name in names
        if any(
            name in one.slices and one.slices[name].status == "guarded"
            for one in (evaluation, champion)
        )
    ]


def _was_judged(champion: Evaluation, name: str) -> bool:
    """Whether the champion was held to this slice, with enough data."""
    part = champion.slices.get(name)
    return champion.guarded.enough if part is None else part.enough and part.status == "guarded"


def _judge(row: ComparisonRow, max_loss: float, version: str) -> Check:
    if row.difference is None:
        return Check(name=row.name, verdict="not enough data", why=row.why)
    is_sure = row.high is not None and row.high < 0
    is_large = row.difference < -max_loss
    why = f"against version {version}: {row.why}"
    if is_large and not is_sure:
        why += "; the loss may be chance"
    return Check(
        name=row.name,
        verdict="refuse" if is_large and is_sure else "pass",
        why=why,
        value=row.difference,
        limit=-max_loss,
        direction="at least",
        low=row.low,
        high=row.high,
    )


def _note(verdict: str, why: str, *, is_required: bool = False) -> Check:
    row = {"name": NAME, "verdict": verdict, "why": why, "required": is_required}
    return Check.model_validate(row)
