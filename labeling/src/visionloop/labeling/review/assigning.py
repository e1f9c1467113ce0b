"""Who is asked for a second opinion: somebody who has not answered that sample yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from visionloop.labeling.client import StudioClient
from visionloop.labeling.decisions import Decision
from visionloop.labeling.queries import condition, to_query
from visionloop.labeling.review.plan import draw

__all__ = ["Assigner", "move_open"]

UNANSWERED = to_query(
    condition("data.look", "equal", "String", "review"),
    condition("total_annotations", "equal", "Number", 0),
)
"""Second opinions that nobody has given; some may have been skipped."""


@dataclass
class Assigner:
    """Hands out samples so that everybody gets about as many.

    Attributes
    ----------
    reviewers : list of str
    seed : int
    load : Counter
        Open second opinions of each person.
    """

    reviewers: list[str]
    seed: int
    load: Counter[str] = field(default_factory=Counter)

    def assign(self, sample_id: str, decisions: Iterable[Decision]) -> str:
        """A person who has said nothing of the sample and not skipped it; empty for anybody."""
        known = {row.annotator for row in decisions}
        others = [name for name in self.reviewers if name not in known]
        # Among equals by lot: an order would tell who gave the first answer.
        chosen = min(
            others,
            key=lambda name: (self.load[name], draw(sample_id + name, self.seed)),
            default="",
        )
        self.load[chosen] += 1
        return chosen


def move_open(
    client: StudioClient,
    project_id: int,
    assigner: Assigner,
    by_sample: Mapping[str, Sequence[Decision]],
) -> set[str]:
    """Count the open second opinions, and give those to another person that need one.

    That is where the person named has skipped it or is no reviewer any more. Where nobody
    else is left it stays.

    Returns
    -------
    set of str
        Whom open second opinions are meant for.
    """
    open_tasks = list(client.tasks(project=project_id, include="id,data", query=UNANSWERED))
    staying = [task for task in open_tasks if not _must_move(task, assigner, by_sample)]
    assigner.load.update(task["data"].get("reviewer", "") for task in staying)
    for task in open_tasks:
        if task in staying:
            continue
        data = task["data"]
        chosen = assigner.assign(data["sample_id"], by_sample.get(data["sample_id"], []))
        if chosen and chosen != data.get("reviewer"):
            client.patch(f"/api/tasks/{task['id']}/", {"data": {**data, "reviewer": chosen}})
    return set(assigner.load)


def _must_move(
    task: Mapping[str, Any], assigner: Assigner, by_sample: Mapping[str, Sequence[Decision]]
) -> bool:
    name = task["data"].get("reviewer", "")
    decisions = by_sample.get(task["data"]["sample_id"], [])
    has_skipped = any(row.task == task["id"] and row.annotator == name for row in decisions)
    return has_skipped or name not in assigner.reviewers
