"""Do two sets of vectors come from one distribution? Maximum mean discrepancy, calibrated.

The kernel mean is approximated by random Fourier features (Rahimi and Recht, 2007,
"Random features for large-scale kernel machines"), the discrepancy is that of Gretton
et al. (2012, "A kernel two-sample test"), and the p-value comes from permutations, so
the false-alarm rate holds for any distribution and any number of rows. Everything that
is fitted (scale of the columns, bandwidth) is fitted on the pooled rows and so does not
see which window a row belongs to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["MmdResult", "permuted_selections", "rff_mmd"]

CHUNK_CELLS = 4_000_000
"""Largest number of cells of a block of permutations: bounds memory."""

BANDWIDTH_PAIRS = 2000


@dataclass(frozen=True, eq=False)
class MmdResult:
    """The outcome of a test.

    Attributes
    ----------
    statistic : float
        Squared distance of the windows' kernel means.
    p_value : float
        In [1 / (1 + B), 1].
    null : float64 array (B,)
        The statistic under each permutation.
    """

    statistic: float
    p_value: float
    null: NDArray[np.float64]


def rff_mmd(
    reference: NDArray[np.floating],
    current: NDArray[np.floating],
    *,
    rng: np.random.Generator,
    permutations: int = 999,
    features: int = 256,
) -> MmdResult:
    """Test whether two sets of vectors come from one distribution.

    Parameters
    ----------
    reference, current : float arrays (N, D) and (M, D)
        Finite. Columns may have any scale.
    rng : numpy Generator
    permutations : int
        B. The p-value is ``(1 + #{null >= statistic}) / (1 + B)``, which is valid for
        any B (Phipson and Smyth, 2010).
    features : int
        Random Fourier features (cosine and sine pairs).

    Raises
    ------
    ValueError
        If a window is empty or the numbers of columns differ.
    """
    if not (len(reference) and len(current)):
        raise ValueError("a window is empty")
    if reference.shape[1] != current.shape[1]:
        raise ValueError(f"{reference.shape[1]} and {current.shape[1]} columns")
    pooled = _standardise(np.concatenate([reference, current]).astype(np.float32))
    mapped = _fourier_features(pooled, features, rng)
    size = len(reference)
    # Centred features: the means differ by sum(selected) * (1/n + 1/m).
    scale = (1 / size + 1 / len(current)) ** 2
    statistic = float((mapped[:size].sum(axis=0, dtype=np.float64) ** 2).sum() * scale)
    blocks = [
        ((block @ mapped).astype(np.float64) ** 2).sum(axis=1) * scale
        for block in permuted_selections(len(mapped), size, permutations, rng)
    ]
    null = np.concatenate(blocks)
    # Equal rows give ties that differ by rounding only: count them as at least as large.
    reached = int((null >= statistic * (1 - 1e-6)).sum())
    return MmdResult(statistic, (1 + reached) / (1 + permutations), null)


def permuted_selections(
    rows: int, selected: int, permutations: int, rng: np.random.Generator
) -> Iterator[NDArray[np.float32]]:
    """Random selections of ``selected`` of ``rows``, in blocks of bounded size.

    Yields
    ------
    float32 array (b, rows)
        1 where the row is selected, else 0; the b add up to ``permutations``.
    """
    block = max(1, CHUNK_CELLS // rows)
    for start in range(0, permutations, block):
        count = min(block, permutations - start)
        chosen = rng.random((count, rows)).argpartition(selected - 1, axis=1)[:, :selected]
        selection = np.zeros((count, rows), np.float32)
        np.put_along_axis(selection, chosen, 1, axis=1)
        yield selection


def _standardise(pooled: NDArray[np.float32]) -> NDArray[np.float32]:
    """Columns with mean 0 and standard deviation 1; constant columns become 0."""
    centred = pooled - pooled.mean(axis=0)
    deviation = centred.std(axis=0)
    largest = np.abs(pooled).max(axis=0, initial=0)
    varies = deviation > 1e-6 * np.maximum(largest, 1e-30)
    return np.where(varies, centred / np.where(varies, deviation, 1), 0).astype(np.float32)


def _fourier_features(
    pooled: NDArray[np.float32], features: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Features of the Gaussian kernel whose bandwidth is the median distance, centred."""
    half = max(1, features // 2)
    first, second = rng.integers(0, len(pooled), (2, BANDWIDTH_PAIRS))
    differs = first != second
    distances = np.linalg.norm(pooled[first[differs]] - pooled[second[differs]], axis=1)
    bandwidth = float(np.median(distances)) if differs.any() else 0.0
    weights = rng.standard_normal((pooled.shape[1], half)).astype(np.float32)
    angles = pooled @ (weights / np.float32(bandwidth or 1.0))
    mapped = np.concatenate([np.cos(angles), np.sin(angles)], axis=1) / np.sqrt(half)
    return np.asarray(mapped - mapped.mean(axis=0), np.float32)
