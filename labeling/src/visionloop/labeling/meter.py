"""The verb ``meter``: what annotation costs, from the times that Label Studio measured."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from visionloop.core.errors import DataError
from visionloop.core.files import write_json
from visionloop.core.workspace import Workspace
from visionloop.labeling.decisions import Decision, load_decisions

__all__ = ["LookCost", "MeterReport", "meter"]


@dataclass(frozen=True)
class LookCost:
    """The cost of first or of second looks.

    Attributes
    ----------
    images, objects : int
        Tasks answered; annotations in them (a class of the whole image counts as one).
    seconds : float
        Sum of the lead times.
    seconds_per_image, seconds_per_object : float
        0 where there is nothing to divide by.
    accepted_share : float
        Share of the drafts' regions that were accepted as they were, 0 without drafts.
    actions : dict of str to int
        With ``deleted`` beside the actions of annotations.
    """

    images: int
    objects: int
    seconds: float
    seconds_per_image: float
    seconds_per_object: float
    accepted_share: float
    actions: dict[str, int]


@dataclass(frozen=True)
class MeterReport:
    """Costs of first and second looks, of each annotator, and where they are written."""

    first: LookCost
    second: LookCost
    annotators: dict[str, LookCost]
    path: Path


def meter(*, workspace: Workspace) -> MeterReport:
    """Write ``reports/labeling/meter.json`` from the last pull's decisions.

    Raises
    ------
    DataError
        If nothing was pulled, or nobody has answered a task yet.
    """
    decisions = [row for row in load_decisions(workspace) if not row.is_skipped]
    if not decisions:
        raise DataError("meter", "nobody has answered a task yet")
    looks = {
        look: _cost([row for row in decisions if row.look == look]) for look in ("first", "second")
    }
    people = {
        name: _cost([row for row in decisions if row.annotator == name])
        for name in sorted({row.annotator for row in decisions})
    }
    content = {look: asdict(cost) for look, cost in looks.items()}
    path = workspace.reports / "labeling" / "meter.json"
    write_json(
        path, {**content, "annotators": {name: asdict(cost) for name, cost in people.items()}}
    )
    return MeterReport(looks["first"], looks["second"], people, path)


def _cost(decisions: list[Decision]) -> LookCost:
    actions = Counter(action for row in decisions for action in row.actions)
    actions["deleted"] = sum(row.deleted for row in decisions)
    proposed = actions.total() - actions["added"]
    objects = sum(len(row.actions) for row in decisions)
    seconds = sum(row.lead_time for row in decisions)
    return LookCost(
        images=len(decisions),
        objects=objects,
        seconds=round(seconds, 1),
        seconds_per_image=_ratio(seconds, len(decisions)),
        seconds_per_object=_ratio(seconds, objects),
        accepted_share=_ratio(actions["accepted"], proposed),
        actions={name: count for name, count in sorted(actions.items()) if count},
    )


def _ratio(amount: float, count: int) -> float:
    return round(amount / count, 4) if count else 0.0
