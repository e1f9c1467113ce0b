"""Typical samples while there are few annotations, uncertain ones afterwards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from visionloop.labeling.strategies.design import select_informative
from visionloop.labeling.strategies.diversity import select_typical
from visionloop.labeling.strategies.pool import (
    Indices,
    Pool,
    Vectors,
    compress,
    fill_up,
    order_by,
    unit_length,
)
from visionloop.labeling.strategies.uncertainty import margins, select_margin

__all__ = ["is_far", "select_doubtful_spread", "select_phases", "select_recommended"]

TYPICAL_EACH = 10
"""Annotations a class below which typical samples teach more than uncertain ones."""

SHORTLIST, CLUSTERED = 3, 128
"""So many doubtful samples for each one chosen are clustered, along so many directions."""

FAR = 2.0
"""So many times the usual distance between annotated samples is far. Of a new product on the solar
cells the median is 5, of pools like what is annotated 0.8 to 1.6."""

COMPARED, DIMENSIONS, FEW = 1000, 64, 20
"""So many annotated samples are compared, along so many directions, if there are not too few."""


def select_phases(pool: Pool) -> Indices:
    """Typical samples until there are ``TYPICAL_EACH`` annotations a class, then small margins.

    Phase change by budget, Hacohen et al., ICML 2022. A batch that crosses the change is cut.
    """
    if pool.probabilities is None:
        return select_typical(pool)
    first = min(pool.budget, len(pool), max(0, _change(pool) - len(pool.known)))
    if not first:
        return select_margin(pool)
    chosen = select_typical(pool.part(np.arange(len(pool)), first))
    rest = np.setdiff1d(np.arange(len(pool)), chosen)
    if first == pool.budget or not len(rest):
        return chosen
    return np.concatenate([chosen, rest[select_margin(pool.part(rest, pool.budget - first))]])


def select_recommended(pool: Pool) -> Indices:
    """What did best over the tuning draws of ``benchmarks/active_learning.py``.

    Typical samples until there are ``TYPICAL_EACH`` annotations a class, then doubtful ones, spread
    out (:func:`select_doubtful_spread`). Far from everything annotated, as after a change of
    product, the model is sure and wrong, so it is not asked there: these samples get their
    share of the budget by :func:`~visionloop.labeling.strategies.design.select_informative`. So do
    all of them where there are annotations but no model.
    """
    if not len(pool.known):
        return select_typical(pool)
    if pool.probabilities is None:
        return select_informative(pool)
    if pool.budget >= len(pool):
        return select_doubtful_spread(pool)
    far = is_far(pool)
    strange, usual = np.flatnonzero(far), np.flatnonzero(~far)
    budgets = round(pool.budget * far.mean()), pool.budget - round(pool.budget * far.mean())
    near_strategy = select_typical if len(pool.known) < _change(pool) else select_doubtful_spread
    chosen = [
        rows[choose(pool.part(rows, budget))]
        for rows, choose, budget in (
            (usual, near_strategy, budgets[1]),
            (strange, select_informative, budgets[0]),
        )
        if budget
    ]
    return np.concatenate(chosen)


def select_doubtful_spread(pool: Pool) -> Indices:
    """The smallest margins, ``SHORTLIST`` times the budget of them, one of each cluster.

    Diverse mini-batch active learning, Zhdanov, 2019, https://arxiv.org/abs/1901.05954: near the
    boundary, and a batch does not ask the same question many times.

    Raises
    ------
    ValueError
        If there are no probabilities.
    """
    from sklearn.cluster import KMeans

    margin = margins(pool.answers())
    rows = order_by(-margin, replace(pool, budget=SHORTLIST * pool.budget))
    if len(rows) <= pool.budget:
        return rows
    vectors = pool.vectors[rows]
    unit = compress(unit_length(vectors - pool.vectors.mean(axis=0)), CLUSTERED, pool.seed)[0]
    doubt = 1 - margin[rows] + 1e-3
    found = KMeans(pool.budget, n_init=1, max_iter=30, random_state=pool.seed)
    found.fit(unit, sample_weight=doubt)
    apart = np.linalg.norm(unit - found.cluster_centers_[found.labels_], axis=1)
    order = np.lexsort((apart, found.labels_))
    nearest = order[np.unique(found.labels_[order], return_index=True)[1]]
    # Largest clusters first: a batch that is cut short still stands for most of the doubt.
    weight = np.bincount(found.labels_, weights=doubt, minlength=pool.budget)
    nearest = nearest[np.argsort(-weight[found.labels_[nearest]], kind="stable")]
    return fill_up(rows[nearest], pool)


def _change(pool: Pool) -> int:
    """Annotations from which on the model is asked."""
    by_model = pool.answers().shape[1]
    return TYPICAL_EACH * (by_model if pool.class_counts is None else len(pool.class_counts))


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
