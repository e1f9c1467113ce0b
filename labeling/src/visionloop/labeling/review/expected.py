"""What others would reach with the same partners on the same classes.

How often a person agrees with others depends on three things that are not that person's doing:
the classes, the partners, and chance. The model takes the first two out: the chance to agree
on an object is a share of the class that the partner said, times a factor of each of the two
people, fitted to all pairs at once. What is expected of a person has that person's factor
replaced by the median of the others'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from visionloop.labeling.review.intervals import LEVEL, Estimate, resampled

__all__ = ["Expectations", "View"]

ROUNDS = 40
DRAWS = 200
PRIOR = 4.0
"""So many objects of an average person are added to everybody's: few say little."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """An object of one sample as one of two people saw it.

    Attributes
    ----------
    sample_id, person, other : str
    class_name : str
        What the other person said; what this one said where the other saw nothing.
    agrees : bool
    """

    sample_id: str
    person: str
    other: str
    class_name: str
    agrees: bool


@dataclass
class Expectations:
    """The fitted model.

    Attributes
    ----------
    views : sequence of View
        Of everybody: each object of a pair gives two.
    seed : int
        Of the resampling behind the intervals.
    """

    views: Sequence[View]
    seed: int = 0
    people: list[str] = field(init=False)
    _pairs: NDArray[np.int64] = field(init=False)
    _draws: tuple[Numbers, Numbers] = field(init=False)
    _fit: tuple[Numbers, Numbers] = field(init=False)

    def __post_init__(self) -> None:
        rows = self.views
        self.people = sorted({name for row in rows for name in (row.person, row.other)})
        number = {name: index for index, name in enumerate(self.people)}
        both = [(number[row.person], number[row.other]) for row in rows]
        pairs, which = np.unique(np.array(both).reshape(-1, 2), axis=0, return_inverse=True)
        classes, named = np.unique([row.class_name for row in rows], return_inverse=True)
        samples, seen = np.unique([row.sample_id for row in rows], return_inverse=True)
        total = np.zeros((len(samples), len(pairs) * len(classes)))
        place = which.reshape(-1) * len(classes) + named
        agreed = np.zeros_like(total)
        np.add.at(total, (seen, place), 1)
        np.add.at(agreed, (seen, place), [row.agrees for row in rows])
        # The first row is what was seen; the others are resampled.
        weights = np.concatenate(
            [np.ones((1, len(samples))), resampled(len(samples), DRAWS, self.seed)]
        )
        shape = (len(weights), len(pairs), len(classes))
        self._pairs = pairs
        self._draws = (weights @ total).reshape(shape), (weights @ agreed).reshape(shape)
        self._fit = _fit(*self._draws, pairs, len(self.people))

    def of(self, person: str, *, level: float = LEVEL) -> Estimate:
        """What is expected of a person; no value where there is nobody to compare with."""
        if person not in self.people:
            return Estimate()
        me = self.people.index(person)
        peers = self._comparable(me)
        mine = self._pairs[:, 0] == me
        if not peers or not mine.any():
            return Estimate()
        shares, factors = self._fit
        partner = factors[:, self._pairs[mine, 1]]
        typical = np.median(factors[:, peers], axis=1)
        total = self._draws[0][:, mine]
        each = np.minimum(1.0, shares[:, None] * (partner * typical[:, None])[..., None])
        with np.errstate(invalid="ignore"):
            values = (total * each).sum((1, 2)) / total.sum((1, 2))
        others = [row for row in self.views if person not in (row.person, row.other)]
        low, high = np.nanquantile(values[1:], [(1 - level) / 2, (1 + level) / 2])
        value, samples = float(values[0]), len({row.sample_id for row in others})
        return Estimate(value, min(value, float(low)), max(value, float(high)), samples)

    def _comparable(self, me: int) -> list[int]:
        """People whose factors are on one scale with mine.

        Where one group only reviews the other, a factor of one group can be traded for one
        of the other, so people are compared inside their group alone.
        """
        side = {me: 0}
        queue, is_split = [me], True
        while queue:
            here = queue.pop()
            for there in self._pairs[self._pairs[:, 0] == here, 1].tolist():
                if there not in side:
                    side[there] = 1 - side[here]
                    queue.append(there)
                is_split = is_split and side[there] != side[here]
        return [one for one, group in side.items() if one != me and (group == 0 or not is_split)]


def _fit(total: Numbers, agreed: Numbers, pairs: NDArray[np.int64], people: int) -> tuple[
    Numbers, Numbers
]:  # fmt: skip
    """Shares of the classes and factors of the people, by proportional fitting.

    Parameters
    ----------
    total, agreed : float64 arrays (draws, pairs, classes)
        Objects, and those agreed on.
    pairs : int64 array (pairs, 2)
        Who sees it, and whose class it is.
    people : int

    Returns
    -------
    shares, factors : float64 arrays (draws, classes) and (draws, people)
    """
    factors = np.ones((len(total), people))
    shares = np.ones((len(total), total.shape[2]))
    member = np.stack([(pairs == one).any(axis=1) for one in range(people)], axis=1).astype(float)
    for _ in range(ROUNDS):
        product = factors[:, pairs[:, 0]] * factors[:, pairs[:, 1]]
        weighted = (total * product[..., None]).sum(1)
        shares = agreed.sum(1) / np.maximum(weighted, 1e-9)
        expected = (total * shares[:, None]).sum(2) * product
        seen = agreed.sum(2) @ member + PRIOR
        factors = factors * seen / (expected @ member + PRIOR)
        factors /= np.exp(np.log(factors).mean(axis=1, keepdims=True))
    return shares, factors
