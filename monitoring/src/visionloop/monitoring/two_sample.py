"""Two-sample tests of columns, and Holm's correction for asking several questions at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visionloop.monitoring.mmd import permuted_selections

__all__ = ["ColumnTest", "compare_class_mix", "compare_column", "holm"]


@dataclass(frozen=True)
class ColumnTest:
    """One question asked of two windows.

    Attributes
    ----------
    name : str
        What was compared: a column, "class mix", "embedding".
    method : str
        Name of the test, empty where none could be made.
    p_value : float or None
        None where no test could be made; ``note`` says why.
    statistic : float or None
        Of the test; for Kolmogorov-Smirnov the largest distance of the two
        distribution functions, 0 to 1.
    reference, current : float or None
        Median of the column in each window.
    note : str
    """

    name: str
    method: str = ""
    p_value: float | None = None
    statistic: float | None = None
    reference: float | None = None
    current: float | None = None
    note: str = ""


def compare_column(
    name: str,
    reference: NDArray[np.floating],
    current: NDArray[np.floating],
    *,
    min_values: int = 8,
) -> ColumnTest:
    """Kolmogorov-Smirnov test of one column (exact up to 10,000 values, then asymptotic).

    Parameters
    ----------
    name : str
    reference, current : float arrays (N,), (M,)
        Values that are not finite are left out.
    min_values : int
        With fewer in a window no test is made.
    """
    from scipy.stats import ks_2samp

    first = np.asarray(reference, np.float64)
    second = np.asarray(current, np.float64)
    first, second = first[np.isfinite(first)], second[np.isfinite(second)]
    if min(len(first), len(second)) < min_values:
        counts = f"{len(first)} and {len(second)} values"
        return ColumnTest(name, note=f"insufficient data: {counts}, {min_values} are needed")
    medians = float(np.median(first)), float(np.median(second))
    if np.ptp(np.concatenate([first, second])) == 0:
        return ColumnTest(name, "", None, None, *medians, note="constant in both windows")
    result = ks_2samp(first, second)
    return ColumnTest(
        name, "Kolmogorov-Smirnov", float(result.pvalue), float(result.statistic), *medians
    )


def compare_class_mix(
    reference: NDArray[np.integer],
    current: NDArray[np.integer],
    *,
    rng: np.random.Generator,
    permutations: int = 999,
) -> ColumnTest:
    """Chi-square statistic of the class counts, with a p-value from permuted frames.

    Frames are permuted, not boxes: the boxes of one frame belong together, and the
    usual chi-square test would take them for independent.

    Parameters
    ----------
    reference, current : int arrays (N, C), (M, C)
        How often each class was predicted on each frame (one 1 a row in classification).
    """
    name, method = "class mix", "chi-square, frames permuted"
    pooled = np.concatenate([reference, current]).astype(np.float32)
    total = pooled.sum(axis=0, dtype=np.float64)
    pooled, total = pooled[:, total > 0], total[total > 0]
    if len(total) == 0:
        return ColumnTest(name, note="nothing was predicted in either window")
    if len(total) == 1:
        return ColumnTest(name, note="one class only in both windows")
    statistic = _chi_square(pooled[: len(reference)].sum(axis=0, dtype=np.float64)[None], total)[0]
    reached = 0
    for block in permuted_selections(len(pooled), len(reference), permutations, rng):
        null = _chi_square((block @ pooled).astype(np.float64), total)
        reached += int((null >= statistic * (1 - 1e-9)).sum())
    return ColumnTest(name, method, (1 + reached) / (1 + permutations), float(statistic))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction (1979): adjusted p-values in the order given.

    Asking "is the smallest adjusted p-value below alpha" has a false-alarm rate of at
    most alpha, however the questions depend on each other.
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = float(largest)
    return adjusted


def _chi_square(reference: NDArray[np.float64], total: NDArray[np.float64]) -> NDArray[np.float64]:
    """Chi-square of 2 x C tables: ``reference`` (B, C) against the rest of ``total`` (C,)."""
    boxes = reference.sum(axis=1, keepdims=True)
    expected = boxes * total / total.sum()
    rest = total.sum() - boxes
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = (reference - expected) ** 2 * (1 / expected + 1 / (total - expected))
    usable = (boxes > 0) & (rest > 0)
    return np.asarray(np.where(usable, terms, 0).sum(axis=1), np.float64)
