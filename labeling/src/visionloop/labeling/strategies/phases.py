"""Typical samples while there are few annotations, uncertain ones afterwards."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from visionloop.labeling.strategies.design import choose_design, select_informative
from visionloop.labeling.strategies.diversity import select_typical
from visionloop.labeling.strategies.pool import Indices, Pool, Vectors, compress, unit_length
from visionloop.labeling.strategies.uncertainty import margins, select_margin

__all__ = ["select_phases", "select_recommended"]

TYPICAL_EACH = 8
"""Annotations a class below which typical samples teach more than uncertain ones."""

DOUBT_POWER = 2.0
"""How strongly doubt weighs: 0 asks no model, large values come near to margin sampling."""

FAR = 2.0
"""So many times the usual distance between annotated samples is far. Of a new product on the solar
cells the median is 5, of pools like what is annotated 0.8 to 1.6."""

COMPARED, DIMENSIONS, FEW = 2000, 64, 20
"""So many annotated samples are compared, along so many directions, if there are not too few."""


def select_phases(pool: Pool) -> Indices:
    """Typical samples until there are ``TYPICAL_EACH`` annotations a class, then small margins.

    Phase change by budget, Hacohen et al., ICML 2022. A batch that crosses the change is cut.
    """
    if pool.probabilities is None:
        return select_typical(pool)
    change = TYPICAL_EACH * pool.probabilities.shape[1]
    first = min(pool.budget, len(pool), max(0, change - len(pool.known)))
    if not first:
        return select_margin(pool)
    chosen = select_typical(pool.part(np.arange(len(pool)), first))
    rest = np.setdiff1d(np.arange(len(pool)), chosen)
    if first == pool.budget or not len(rest):
        return chosen
    return np.concatenate([chosen, rest[select_margin(pool.part(rest, pool.budget - first))]])


def select_recommended(pool: Pool) -> Indices:
    """What wins over all sets of ``benchmarks/active_learning.py``: typical, then doubt by design.

    With nothing annotated, typical samples. With annotations but no model, those that make a
    linear model surest about the pool. With a model, the same where every sample counts by the
    model's doubt: near the decision boundary, and still spread out, so that a batch does not ask
    the same question many times. Far from everything annotated, as after a change of product,
    the model is not asked: there it is sure and wrong.
    """
    if not len(pool):
        return np.zeros(0, np.int64)
    if not len(pool.known) and len(pool) > pool.budget:
        return select_typical(pool)
    if pool.probabilities is None:
        return select_informative(pool)
    doubt = 1 - margins(pool.probabilities)
    weights = (doubt / max(float(doubt.mean()), 1e-6)) ** DOUBT_POWER
    weights[is_far(pool)] = weights.mean()
    return choose_design(pool, np.asarray(weights, np.float32))


def is_far(pool: Pool) -> NDArray[np.bool_]:
    """Samples farther from the nearest annotated one than annotated ones are from each other.

    Parameters
    ----------
    pool : Pool
        With at least one annotated sample; with fewer than ``FEW`` nothing is far.

    Returns
    -------
    bool array (N,)
    """
    rows = np.random.default_rng(pool.seed).permutation(len(pool.known))[:COMPARED]
    if len(rows) < FEW:
        return np.zeros(len(pool), np.bool_)
    mean = pool.vectors.mean(axis=0)
    small, known = compress(
        unit_length(pool.vectors - mean),
        DIMENSIONS,
        pool.seed,
        unit_length(pool.known[rows] - mean),
    )
    usual = np.median(_nearest(known, known, skip_self=True))
    return _nearest(small, known) > FAR * usual


def _nearest(vectors: Vectors, others: Vectors, *, skip_self: bool = False) -> Vectors:
    """Distance of each vector to the nearest other one."""
    squares = (others**2).sum(axis=1)
    found = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), 8192):
        block = vectors[start : start + 8192]
        apart = squares - 2 * block @ others.T
        if skip_self:
            apart[np.arange(len(block)), start + np.arange(len(block))] = np.inf
        found[start : start + 8192] = (block**2).sum(axis=1) + apart.min(axis=1)
    return np.sqrt(np.clip(found, 0, None))
