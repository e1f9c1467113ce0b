"""How far a share or a coefficient can be trusted, from samples that hold several statements."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["LEVEL", "Estimate", "mean", "resample", "resampled", "share", "wilson"]

LEVEL = 0.95
DRAWS = 500

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes
    ----------
    value, low, high : float or None
        None where there is nothing to count.
    samples : int
        Samples behind it.
    agreed, total : int
        What was counted, where it is a share.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    samples: int = 0
    agreed: int = 0
    total: int = 0


def wilson(value: float, count: float, *, level: float = LEVEL) -> tuple[float, float]:
    """Interval of a share (Wilson, 1927), inside [0, 1] also for shares of 0 and 1.

    Parameters
    ----------
    value : float
        The share seen, in [0, 1].
    count : float
        Independent observations, more than 0.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle = (value + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(value * (1 - value) / count + z * z / (4 * count**2)) / (1 + z * z / count)
    # The interval of 0 begins at 0 and that of 1 ends at 1; rounding must not say otherwise.
    return min(value, max(0.0, middle - half)), max(value, min(1.0, middle + half))


def share(agreed: ArrayLike, total: ArrayLike, *, level: float = LEVEL) -> Estimate:
    """The share of statements that another person confirmed.

    Statements on one sample are not independent, so the interval is Wilson's with as many
    observations as carry the same information: the number of statements divided by how
    much more their share varies between samples than if they were independent.

    Parameters
    ----------
    agreed, total : array-like (N,)
        Of each sample: statements confirmed, and all.
    """
    yes, every = np.asarray(agreed, np.float64), np.asarray(total, np.float64)
    yes, every = yes[every > 0], every[every > 0]
    samples, count = len(every), float(every.sum())
    if not samples:
        return Estimate()
    value = float(yes.sum() / count)
    independent = value * (1 - value) / count
    if samples > 1 and independent > 0:
        variance = float(((yes - value * every) ** 2).sum()) * samples / (samples - 1) / count**2
        effective = count / max(1.0, variance / independent)
    else:
        effective = float(samples)
    low, high = wilson(value, effective, level=level)
    return Estimate(value, low, high, samples, int(yes.sum()), int(count))


def resampled(samples: int, draws: int, seed: int) -> Numbers:
    """How often each sample is drawn when as many are drawn with return.

    Returns
    -------
    float64 array (draws, samples)
    """
    random = np.random.default_rng(seed)
    drawn = random.multinomial(samples, np.full(samples, 1 / samples), size=draws)
    return drawn.astype(np.float64)


def resample(
    statistic: Callable[[Numbers], Numbers], samples: int, *, level: float = LEVEL, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of a statistic under resampling of whole samples.

    Parameters
    ----------
    statistic : function of a float64 array (draws, samples) to one (draws,)
        Takes how often each sample was drawn; may give NaN where it is not defined.
    samples : int
    seed : int

    Returns
    -------
    low, high
        NaN where no draw defines the statistic.
    """
    if samples < 2:
        return np.nan, np.nan
    values = statistic(resampled(samples, DRAWS, seed))
    values = values[np.isfinite(values)]
    if not len(values):
        return np.nan, np.nan
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean(values: Sequence[Sequence[float]], *, seed: int = 0) -> Estimate:
    """The mean of all values, resampled by sample.

    Parameters
    ----------
    values : sequence of sequences of float
        One or more values of each sample.
    """
    if not values:
        return Estimate()
    sums = np.array([sum(row) for row in values], np.float64)
    counts = np.array([len(row) for row in values], np.float64)
    value, total = float(sums.sum() / counts.sum()), int(counts.sum())
    low, high = resample(lambda drawn: (drawn @ sums) / (drawn @ counts), len(values), seed=seed)
    if not np.isfinite(low):
        return Estimate(value, samples=len(values), total=total)
    return Estimate(value, low, high, samples=len(values), total=total)
