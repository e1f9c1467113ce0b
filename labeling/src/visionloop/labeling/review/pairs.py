"""Which answers were given by two people independently of each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from visionloop.labeling.decisions import Decision

__all__ = ["Pair", "find_pair", "find_pairs", "latest"]


@dataclass(frozen=True)
class Pair:
    """A first answer, and that of another person who did not see it."""

    sample_id: str
    first: Decision
    second: Decision

    @property
    def people(self) -> tuple[str, str]:
        """Who gave the first and who the second answer."""
        return self.first.annotator, self.second.annotator


def latest(decisions: Iterable[Decision], look: str) -> Decision | None:
    """The last answer of a look that says something; None if there is none."""
    given = [row for row in decisions if row.look == look and not row.is_skipped]
    return max(given, key=lambda row: (row.decided_at, row.annotation), default=None)


def find_pair(decisions: Sequence[Decision]) -> Pair | None:
    """The independent pair of one sample; None where no other person has answered.

    A review by whoever gave the first answer is not a second opinion, so it does not count.
    """
    first = latest(decisions, "first")
    if first is None:
        return None
    second = latest((row for row in decisions if row.annotator != first.annotator), "review")
    return None if second is None else Pair(first.sample_id, first, second)


def find_pairs(decisions: Iterable[Decision]) -> list[Pair]:
    """The independent pairs of all samples, in the order of the sample ids."""
    rows = sorted(decisions, key=lambda row: row.sample_id)
    groups = groupby(rows, key=lambda row: row.sample_id)
    pairs = (find_pair(list(group)) for _, group in groups)
    return [pair for pair in pairs if pair is not None]
