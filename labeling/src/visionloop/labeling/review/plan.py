"""Which first answers another person looks at: a share of all, more where less is known.

Each sample has one fixed random number, so drawing again draws the same, and a larger share
draws the same samples and some more.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from visionloop.labeling.decisions import Decision
from visionloop.labeling.review.pairs import latest
from visionloop.labeling.review.params import ReviewParams

__all__ = ["Planned", "draw", "plan_review"]


@dataclass(frozen=True)
class Planned:
    """A sample that gets a second opinion.

    Attributes
    ----------
    sample_id : str
    draw : float
        Its random number in [0, 1): those with small numbers come first.
    reason : str
        For whoever plans the work, never for the annotator: it names the first answer.
    """

    sample_id: str
    draw: float
    reason: str


def plan_review(
    decisions: Iterable[Decision],
    params: ReviewParams,
    *,
    seed: int,
    weak: Mapping[str, float] | None = None,
) -> list[Planned]:
    """Draw the samples whose first answer gets a second opinion.

    Parameters
    ----------
    decisions : iterable of Decision
    params : ReviewParams
    seed : int
    weak : mapping of str to float, optional
        Classes on which people agree too rarely, and how often they do.

    Returns
    -------
    list of Planned
        By their random numbers, so that any beginning of the list is a fair draw.
    """
    planned = []
    for person, answers in sorted(_first_answers(decisions).items()):
        drawn_as_new = 0
        for answer in answers:
            number = draw(answer.sample_id, seed)
            is_new = drawn_as_new < params.new_annotator_tasks
            drawn_as_new += is_new and number < params.new_annotator_share
            reasons = _reasons(answer, person, is_new, params, weak or {})
            # The rule with the smallest share that already draws it is the reason.
            fitting = [(share, text) for share, text in reasons if number < share]
            if fitting:
                planned.append(Planned(answer.sample_id, number, min(fitting)[1]))
    return sorted(planned, key=lambda row: (row.draw, row.sample_id))


def draw(sample_id: str, seed: int) -> float:
    """The random number of a sample in [0, 1): the same on every machine and in every run."""
    digest = hashlib.sha256(f"review {seed} {sample_id}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def _first_answers(decisions: Iterable[Decision]) -> dict[str, list[Decision]]:
    """Each person's first answers, one a sample, in the order in which they were given."""
    by_sample = defaultdict(list)
    for row in decisions:
        if row.look == "first":
            by_sample[row.sample_id].append(row)
    by_person = defaultdict(list)
    for rows in by_sample.values():
        if (answer := latest(rows, "first")) is not None:
            by_person[answer.annotator].append(answer)
    for answers in by_person.values():
        answers.sort(key=lambda row: (row.created_at, row.annotation))
    return by_person


def _reasons(
    answer: Decision, person: str, is_new: bool, params: ReviewParams, weak: Mapping[str, float]
) -> list[tuple[float, str]]:
    reasons = [(params.share, f"one of the {params.share:.0%} of all answers")]
    if is_new:
        share = params.new_annotator_share
        text = f"one of the {share:.0%} of {person}'s answers: few of them were reviewed so far"
        reasons.append((share, text))
    for name in sorted({region.class_name for region in answer.regions} & set(weak)):
        share = params.weak_class_share
        text = f"one of the {share:.0%} of class '{name}': people agree in {weak[name]:.0%} only"
        reasons.append((share, text))
    return reasons
