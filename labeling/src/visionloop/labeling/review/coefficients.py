"""Agreement beyond chance: Cohen's kappa and Krippendorff's alpha, with intervals.

Both are 1 - (how often two people differ) / (how often they would by chance); they differ in
what chance is: two people with habits of their own, or everybody drawing from one urn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from visionloop.labeling.review.intervals import Estimate, resample, wilson

__all__ = ["Cells", "alpha", "coefficients", "kappa", "one_against_rest", "one_urn", "own_habits"]

Cells = Sequence[tuple[int, int, int]]
"""One entry for each object that two people saw: sample, and the class each of them said."""

Tables = NDArray[np.float64]
Chance = Callable[[Tables], NDArray[np.float64]]


def kappa(cells: Cells, classes: int, *, seed: int = 0) -> Estimate:
    """Cohen's kappa of two people's classes; no value where only one class was ever said.

    Parameters
    ----------
    cells : sequence of (sample, class, class)
    classes : int
        Number of classes.
    seed : int
        Of the resampling behind the interval.
    """
    from sklearn.metrics import cohen_kappa_score

    if len({number for _, *both in cells for number in both}) < 2:
        return Estimate(samples=len({row[0] for row in cells}), total=len(cells))
    _, first, second = zip(*cells, strict=True)
    value = float(cohen_kappa_score(first, second, labels=list(range(classes))))
    return _with_interval(value, cells, classes, own_habits, seed)


def alpha(cells: Cells, classes: int, *, seed: int = 0) -> Estimate:
    """Krippendorff's alpha of two people's classes; parameters as of :func:`kappa`."""
    import krippendorff

    if len({number for _, *both in cells for number in both}) < 2:
        return Estimate(samples=len({row[0] for row in cells}), total=len(cells))
    _, first, second = zip(*cells, strict=True)
    value = krippendorff.alpha(
        reliability_data=[first, second],
        value_domain=list(range(classes)),
        level_of_measurement="nominal",
    )
    return _with_interval(float(value), cells, classes, one_urn, seed)


def one_against_rest(cells: Cells, number: int) -> Cells:
    """The same objects, of which only one class is told from all others."""
    return [(sample, int(one == number), int(two == number)) for sample, one, two in cells]


def coefficients(tables: Tables, chance: Chance) -> NDArray[np.float64]:
    """The coefficient of each table of answers.

    Parameters
    ----------
    tables : float64 array (N, K, K)
        How often the first person said a class (row) and the second another (column).
    chance : function
        :func:`own_habits` for Cohen's kappa, :func:`one_urn` for Krippendorff's alpha.

    Returns
    -------
    float64 array (N,)
        NaN where only one class was said.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        differ = 1 - np.trace(tables, axis1=1, axis2=2) / tables.sum((1, 2))
        by_chance = chance(tables)
        return np.where(by_chance > 1e-12, 1 - differ / by_chance, np.nan)


def own_habits(tables: Tables) -> NDArray[np.float64]:
    """How often two people would differ, each saying classes as often as he does (Cohen, 1960)."""
    return np.asarray(1 - (tables.sum(2) * tables.sum(1)).sum(1) / tables.sum((1, 2)) ** 2)


def one_urn(tables: Tables) -> NDArray[np.float64]:
    """How often two answers drawn from all of them without return would differ (Krippendorff)."""
    said = tables.sum(2) + tables.sum(1)
    count = said.sum(1)
    return np.asarray(1 - (said * (said - 1)).sum(1) / (count * (count - 1)))


def _with_interval(value: float, cells: Cells, classes: int, chance: Chance, seed: int) -> Estimate:
    ids, where = np.unique([row[0] for row in cells], return_inverse=True)
    tables = np.zeros((len(ids), classes * classes))
    np.add.at(tables, (where, np.array([one * classes + two for _, one, two in cells])), 1)

    def of_draws(weights: Tables) -> NDArray[np.float64]:
        return coefficients((weights @ tables).reshape(-1, classes, classes), chance)

    low, high = resample(of_draws, len(ids), seed=seed)
    if all(one == two for _, one, two in cells):
        # No draw differs either. What Wilson's interval leaves open is not seen by resampling.
        by_chance = float(chance(tables.sum(0).reshape(1, classes, classes))[0])
        low, high = 1 - (1 - wilson(1.0, len(ids))[0]) / by_chance, 1.0
    if not np.isfinite(low):
        return Estimate(value, samples=len(ids), total=len(cells))
    return Estimate(value, low, high, samples=len(ids), total=len(cells))
