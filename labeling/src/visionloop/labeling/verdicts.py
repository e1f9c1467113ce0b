"""Which answer counts where people looked at a sample more than once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from visionloop.labeling.decisions import Decision
from visionloop.labeling.regions import Region

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
        Who said it.
    lead_time : float
        Seconds that all looks at the sample took.
    is_replaced : bool
        A later look took the place of the first answer.
    """

    sample_id: str
    regions: list[Region]
    actions: list[str]
    annotator: str
    lead_time: float
    is_replaced: bool


def settle(decisions: Sequence[Decision]) -> Verdict | None:
    """The verdict on one sample: the answer given last; None where nobody said anything.

    Parameters
    ----------
    decisions : sequence of Decision
        All of one sample, in any order.
    """
    given = sorted((row for row in decisions if not row.is_skipped), key=lambda row: row.decided_at)
    if not given:
        return None
    last = given[-1]
    return Verdict(
        sample_id=last.sample_id,
        regions=last.regions,
        actions=last.actions,
        annotator=last.annotator,
        lead_time=last.lead_time,
        is_replaced=last.look != "first" and any(row.look == "first" for row in given),
    )
