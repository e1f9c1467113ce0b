"""Ratios that may be undefined, for all resamplings at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["mean_of_defined", "ratio"]


def ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """Element by element; NaN where the denominator is not positive."""
    quotient = np.full(denominator.shape, np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient


def mean_of_defined(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the first axis of what is not NaN; NaN where nothing is defined.

    Parameters
    ----------
    table : float64 array (C, B)
        For example one row a class and one column a resampling.
    """
    defined = np.isfinite(table)
    return ratio(np.where(defined, table, 0).sum(axis=0), defined.sum(axis=0).astype(float))
