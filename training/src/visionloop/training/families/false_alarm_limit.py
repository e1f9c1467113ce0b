"""The limit above which a picture is reported, from an asked false-alarm rate.

Conformal for data with groups (Lee, Barber and Willett, 2023, arXiv 2306.06342): pictures of one
view, lot or day are alike, so every group of held-out normal pictures has one vote, shared by its
pictures, and one more vote stands above everything. The limit is the smallest value below which
the votes reach ``1 - rate``. A new normal picture of a new group, exchangeable with these groups,
is above it with a probability of at most ``rate``. With one picture a group this is the
split-conformal limit (Vovk et al., 2005).

Values of train pictures count too where each was judged by a memory without its own group
(cross-conformal: Vovk, 2015, arXiv 1208.0806): the promise then holds within a factor of two in the
worst case, and in practice, with many more groups, it is kept better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import DataError

__all__ = ["HeldOut", "choose_limit", "deal_folds"]

ABOVE_ALL = 0.01
"""Share by which the limit lies above the largest value where that is the limit."""
TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Raw values of normal pictures that were not learned from, and the group of each.

    Attributes
    ----------
    values : float64 array (N,)
    groups : str array (N,)
    """

    values: NDArray[np.float64]
    groups: NDArray[np.str_]

    def __add__(self, other: HeldOut) -> HeldOut:
        return HeldOut(
            np.concatenate([self.values, other.values]),
            np.concatenate([self.groups, other.groups]),
        )

    @property
    def group_count(self) -> int:
        """Number of different groups."""
        return len(np.unique(self.groups))


def choose_limit(held_out: HeldOut, rate: float) -> tuple[float, str]:
    """The conformal limit for a false-alarm rate, and a word where it cannot be guaranteed.

    Parameters
    ----------
    held_out : HeldOut
    rate : float
        Asked for, between 0 and 1.

    Returns
    -------
    (float, str)
        The second is empty where the limit keeps its promise.

    Raises
    ------
    DataError
        If nothing was held out.
    """
    if not len(held_out.values):
        raise DataError("held-out normal pictures", "there is none to set the limit by")
    _, own, sizes = np.unique(held_out.groups, return_inverse=True, return_counts=True)
    groups = len(sizes)
    order = np.argsort(held_out.values, kind="stable")
    ordered = held_out.values[order]
    reached = np.cumsum(1 / sizes[own[order]]) / (groups + 1)
    place = int(np.searchsorted(reached, 1 - rate - TOLERANCE))
    if place < len(ordered) - 1:
        # Half-way to the next one, so that no held-out picture lies exactly on the limit.
        return float(ordered[place] + ordered[place + 1]) / 2, ""
    highest = float(ordered[-1]) * (1 + ABOVE_ALL)
    if place == len(ordered) - 1:
        return highest, ""
    needed = math.ceil(1 / rate) - 1
    return highest, (
        f"{len(ordered)} held-out normal pictures of {groups} groups cannot show a rate of "
        f"{rate:g}: {needed} groups would"
    )


def deal_folds(groups: NDArray[np.str_], folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """A fold for every row; a group is never torn apart."""
    names, own = np.unique(groups, return_inverse=True)
    place = np.empty(len(names), np.int64)
    place[rng.permutation(len(names))] = np.arange(len(names)) % min(folds, len(names))
    return place[own]
