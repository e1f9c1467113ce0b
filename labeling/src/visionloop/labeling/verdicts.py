"""Which answer counts where people looked at a sample more than once.

Adjudicated, else the second look at a doubtful annotation, else what two independent people
agree on, else the first answer. Of several answers of one kind the last one counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from visionloop.labeling.decisions import Decision
from visionloop.labeling.regions import Region
from visionloop.labeling.review.comparing import MIN_IOU, average, compare_answers
from visionloop.labeling.review.pairs import find_pair, latest

__all__ = ["Verdict", "settle"]


@dataclass(frozen=True)
class Verdict:
    """What is true of a sample, as far as people have said.

    Attributes
    ----------
    sample_id : str
    regions : list of Region
    actions : list of str
        One a region; "accepted" alone where a person confirmed that nothing is there.
    annotator : str
        Who said it: a name, or "consensus of a, b", or "c, settling a, b".
    lead_time : float
        Seconds that all looks at the sample took.
    is_replaced : bool
        A later look took the place of the first answer.
    source : str
        Which answer counts: "first", "second", "review", "consensus" or "adjudicate".
    people : tuple of str
        Everybody who has answered, in the order of their first answers.
    """

    sample_id: str
    regions: list[Region]
    actions: list[str]
    annotator: str
    lead_time: float
    is_replaced: bool
    source: str = "first"
    people: tuple[str, ...] = ()


def settle(decisions: Sequence[Decision], *, min_iou: float = MIN_IOU) -> Verdict | None:
    """The verdict on one sample; None where nobody said anything.

    Two people agree if they say the same classes, and their boxes overlap enough. Their
    boxes are averaged. Where they differ, the first answer stands until somebody settles
    the dispute.

    Parameters
    ----------
    decisions : sequence of Decision
        All of one sample, in any order.
    min_iou : float
        Smallest overlap of two boxes at one place.
    """
    given = sorted(
        (row for row in decisions if not row.is_skipped),
        key=lambda row: (row.decided_at, row.annotation),
    )
    if not given:
        return None
    for look in ("adjudicate", "second"):
        if (settled := latest(given, look)) is not None:
            return _verdict(given, settled)
    if (pair := find_pair(given)) is not None:
        found = compare_answers(pair.first.regions, pair.second.regions, min_iou=min_iou)
        if found.agrees:
            regions = average(pair.first.regions, found)
            return _verdict(given, pair.first, regions=regions, agreeing=pair.people)
    return _verdict(given, latest(given, "first") or given[-1])


def _verdict(
    given: Sequence[Decision],
    counted: Decision,
    *,
    regions: list[Region] | None = None,
    agreeing: tuple[str, ...] = (),
) -> Verdict:
    people = tuple(dict.fromkeys(row.annotator for row in given))
    others = ", ".join(name for name in people if name != counted.annotator)
    annotator = counted.annotator
    if agreeing:
        annotator = f"consensus of {', '.join(agreeing)}"
    elif counted.look == "adjudicate" and others:
        annotator = f"{counted.annotator}, settling {others}"
    return Verdict(
        sample_id=counted.sample_id,
        regions=counted.regions if regions is None else regions,
        actions=counted.actions,
        annotator=annotator,
        lead_time=sum(row.lead_time for row in given),
        is_replaced=counted.look != "first" and any(row.look == "first" for row in given),
        source="consensus" if agreeing else counted.look,
        people=people,
    )
