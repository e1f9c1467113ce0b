"""Lead times as work: a browser tab that was left open over lunch is not annotation.

Label Studio measures from opening a task to submitting it. Per thing that is on the
picture, an answer that took more than ``FACTOR`` times the median of its kind (look, with
or without a draft) counts as ``FACTOR`` medians: it still is expensive, but one of them
cannot decide the figure. Kinds with too few answers to have a median stay as they are,
except that nothing counts for more than half an hour.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from visionloop.labeling.decisions import Decision

__all__ = ["FACTOR", "LONGEST", "Timed", "measure_times", "things_in"]

FACTOR = 6.0
LONGEST = 1800.0
"""Seconds."""

SHORTEST_LIMIT = 60.0
"""Nothing below it is cut: people do look at a difficult picture for a minute."""

ENOUGH = 5


@dataclass(frozen=True)
class Timed:
    """A decision with its working time.

    Attributes
    ----------
    decision : Decision
    seconds : float
        Working time; 0 if none was measured.
    is_cut : bool
        The lead time was longer.
    """

    decision: Decision
    seconds: float
    is_cut: bool

    @property
    def is_measured(self) -> bool:
        """Annotations that came in another way than through the page have no lead time."""
        return self.seconds > 0


def things_in(decision: Decision) -> int:
    """What there was to decide: objects, removed drafts, and the picture itself."""
    return 1 + len(decision.actions) + decision.deleted


def measure_times(decisions: Iterable[Decision]) -> list[Timed]:
    """The working time of each decision that says something, in the order given."""
    given = [row for row in decisions if not row.is_skipped]
    kinds: dict[tuple[str, bool], list[Decision]] = defaultdict(list)
    for row in given:
        if row.lead_time > 0:
            kinds[row.look, row.had_draft].append(row)
    medians = {kind: _median(rows) for kind, rows in kinds.items()}
    return [_time(row, medians.get((row.look, row.had_draft))) for row in given]


def _median(rows: Sequence[Decision]) -> float | None:
    if len(rows) < ENOUGH:
        return None
    return float(np.median([row.lead_time / things_in(row) for row in rows]))


def _time(row: Decision, median: float | None) -> Timed:
    limit = LONGEST
    if median is not None:
        limit = min(LONGEST, max(SHORTEST_LIMIT, FACTOR * median * things_in(row)))
    seconds = max(0.0, row.lead_time)
    return Timed(row, min(seconds, limit), seconds > limit)
