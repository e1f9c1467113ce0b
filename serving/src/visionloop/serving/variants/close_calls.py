"""Close calls: decisions at a threshold, which rounding alone tips to one side or the other.

Rounding tips few of them, and to both sides alike. Confidences that drifted tip them to one
side, and coarse ones tip many. Only what looks like rounding is excused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import comb

__all__ = ["MOST_EXCUSED", "NEAR_THRESHOLD", "CloseCalls"]

NEAR_THRESHOLD = 0.05
"""How far from a threshold both forms may be for their difference to be a close call."""

MOST_EXCUSED = 0.05
"""Largest share of all decisions; beyond it none is excused."""

ONE_SIDED = 0.01
"""Probability of as unequal sides by chance, below which they are called one-sided."""


class CloseCalls:
    """Counts the close calls of a comparison by class and side.

    Attributes
    ----------
    count : int
        Decisions.
    """

    def __init__(self) -> None:
        self.count = 0
        self._gained: Counter[int] = Counter()
        self._lost: Counter[int] = Counter()

    def add(self, *, gained: Iterable[int] = (), lost: Iterable[int] = ()) -> None:
        """Note one decision.

        Parameters
        ----------
        gained, lost : iterables of int
            Classes that only the other form names, and that only the reference does.
        """
        self.count += 1
        self._gained.update(gained)
        self._lost.update(lost)

    def why_counted(self, decisions: int) -> str:
        """Why they count as changed decisions; empty where they are excused.

        Parameters
        ----------
        decisions : int
            All that were compared.
        """
        if self.count > max(1.0, MOST_EXCUSED * decisions):
            return f"{self.count} close calls are more than {MOST_EXCUSED:.0%} of {decisions}"
        sides = [("", sum(self._gained.values()), sum(self._lost.values()))]
        sides += [
            (f" of class {one}", self._gained[one], self._lost[one])
            for one in sorted({*self._gained, *self._lost})
        ]
        for name, gained, lost in sides:
            if _chance(gained, lost) < ONE_SIDED:
                more, way = (gained, "appear") if gained > lost else (lost, "vanish")
                return (
                    f"{more} of {gained + lost} close calls{name} {way}: that is no rounding, the "
                    "confidences have drifted"
                )
        return ""


def _chance(first: int, second: int) -> float:
    """Probability of sides at least as unequal, were either as probable (sign test, exact)."""
    count = first + second
    if first == second:
        return 1.0
    tail = sum(comb(count, one) for one in range(min(first, second) + 1))
    return float(min(1.0, 2 * tail / 2**count))
