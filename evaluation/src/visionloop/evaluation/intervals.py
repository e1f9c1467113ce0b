"""Confidence intervals by bootstrap over groups.

Images of one view are not independent: whole groups are drawn with replacement
(cluster bootstrap, Davison and Hinkley, "Bootstrap Methods and their Application",
1997, section 3.8). A draw is a row of weights, one a sample, so that every metric
is computed for all draws at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["draw_weights", "interval", "interval_of_difference"]


def draw_weights(groups: Sequence[str], *, draws: int, seed: int) -> NDArray[np.float64]:
    """How often each sample occurs in each resampling of the groups.

    Parameters
    ----------
    groups : sequence of str
        The group of each of N samples.
    draws : int
        Number of resamplings.
    seed : int

    Returns
    -------
    float64 array (draws, N)
        Whole numbers; each row draws as many groups as there are.
    """
    names, index = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    if not len(names):
        return np.zeros((draws, 0))
    generator = np.random.default_rng(seed)
    chosen = generator.integers(0, len(names), size=(draws, len(names)))
    flat = chosen + np.arange(draws)[:, None] * len(names)
    counts = np.bincount(flat.ravel(), minlength=draws * len(names))
    return np.asarray(counts.reshape(draws, len(names))[:, index], dtype=np.float64)


def interval(
    value: float, drawn: NDArray[np.float64], *, groups: int, level: float = 0.95
) -> tuple[float, float]:
    """A confidence interval from the resampled values of a metric that lies in [0, 1].

    Percentile interval, corrected for the bias of the metric (Efron, 1987) and
    widened for few groups (Hesterberg, 2014: "What teachers should know about the
    bootstrap", expanded percentiles). Where every draw says exactly 0 or exactly 1
    the rule of three gives the other end (Hanley and Lippman-Hand, 1983).

    Parameters
    ----------
    value : float
        The metric on the samples as they are.
    drawn : float64 array (draws,)
        The metric of each resampling; NaN where it is not defined.
    groups : int
        Number of groups that were resampled.
    level : float
        In (0.5, 1).

    Returns
    -------
    low, high : float
        (NaN, NaN) where fewer than 20 draws are defined or there is one group.
    """
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < 20 or groups < 2 or not np.isfinite(value):
        return float("nan"), float("nan")
    if np.ptp(drawn) == 0 and value in (0.0, 1.0):
        bound = min(1.0, 3.0 / groups)
        return (0.0, bound) if value == 0 else (1 - bound, 1.0)
    return _expanded(value, drawn, groups, level)


def interval_of_difference(
    value: float, drawn: NDArray[np.float64], *, groups: int, level: float = 0.95
) -> tuple[float, float]:
    """As :func:`interval`, for a difference of two metrics (in [-1, 1]) over paired draws."""
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < 20 or groups < 2 or not np.isfinite(value):
        return float("nan"), float("nan")
    return _expanded(value, drawn, groups, level)


def _expanded(
    value: float, drawn: NDArray[np.float64], groups: int, level: float
) -> tuple[float, float]:
    from scipy import stats

    tail = stats.norm.cdf(np.sqrt(groups / (groups - 1)) * stats.t.ppf((1 - level) / 2, groups - 1))
    share_below = np.mean(drawn < value) + 0.5 * np.mean(drawn == value)
    edge = 1 / (len(drawn) + 1)
    bias = stats.norm.ppf(np.clip(share_below, edge, 1 - edge))
    ends = stats.norm.cdf(2 * bias + stats.norm.ppf([tail, 1 - tail]))
    low, high = np.quantile(drawn, ends)
    return float(low), float(high)
