"""Where champion and challenger answer differently."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from visionloop.labeling.strategies.pool import Indices, Pool, order_by

__all__ = ["divergence", "select_disagreement"]


def select_disagreement(pool: Pool) -> Indices:
    """Largest Jensen-Shannon divergence between the answers of the two packages first.

    One of the two is wrong there, and an annotation says which: it also is the fairest
    test of a challenger. For detection the divergences of the classes' presence are added.

    Raises
    ------
    ValueError
        If one of them has not answered.
    """
    if pool.challenger is None:
        raise ValueError("disagreement needs the answers of a second package")
    if pool.presence is None:
        return order_by(divergence(pool.answers(), pool.challenger), pool)
    there = divergence(_yes_or_no(pool.presence), _yes_or_no(pool.challenger))
    return order_by(there.sum(axis=1), pool)


def divergence(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """Jensen-Shannon divergence along the last axis in nats: 0 for equal rows, at most log 2."""
    one, other = (np.clip(rows, 1e-12, 1).astype(np.float64) for rows in (first, second))
    middle = (one + other) / 2
    apart = one * np.log(one / middle) + other * np.log(other / middle)
    return np.asarray(apart.sum(axis=-1) / 2, np.float64)


def _yes_or_no(presence: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.stack([presence, 1 - presence], axis=-1)
