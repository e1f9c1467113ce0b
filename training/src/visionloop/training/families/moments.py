"""Mean and covariance of features, added up picture by picture, so that parts can be left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["Moments", "whiten"]


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over rows of features of width D.

    Attributes
    ----------
    count : int
    total : float64 array (D,)
    products : float64 array (D, D)
        Sum of the outer products.
    """

    count: int
    total: NDArray[np.float64]
    products: NDArray[np.float64]

    @classmethod
    def of(cls, rows: NDArray[np.floating]) -> Moments:
        """Of rows (N, D)."""
        exact = np.asarray(rows, np.float64)
        return cls(len(exact), exact.sum(axis=0), exact.T @ exact)

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.count + other.count, self.total + other.total, self.products + other.products
        )

    def __sub__(self, other: Moments) -> Moments:
        return Moments(
            self.count - other.count, self.total - other.total, self.products - other.products
        )


def whiten(moments: Moments, floor: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (D,) and matrix (D, D) after which rows have a covariance of about one.

    Parameters
    ----------
    floor : float
        Added to the variance in every direction, as a share of the mean variance.
    """
    mean = moments.total / moments.count
    covariance = moments.products / moments.count - np.outer(mean, mean)
    variances, directions = np.linalg.eigh(covariance)
    variances = np.maximum(variances, 0)
    least = max(floor * float(variances.mean()), np.finfo(np.float32).tiny)
    matrix = directions / np.sqrt(variances + least)
    return torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(matrix.astype(np.float32))
