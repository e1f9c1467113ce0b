"""One budget over many cameras and sites, none twice the same view."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from visionloop.labeling.strategies.phases import select_recommended
from visionloop.labeling.strategies.pool import Indices, Pool, Vectors, fill_up, unit_length

__all__ = ["quotas", "select_mix"]

SAME_VIEW = 0.98
"""Cosine of two embeddings from which on they show the same (the bar of near-duplicates)."""

SPARE = 1.5
"""So many times its quota is chosen in each group, because near-duplicates fall out."""

ROUNDS = 3
"""How often what a group of few views leaves over is shared out among the others."""


def select_mix(pool: Pool) -> Indices:
    """The recommended choice within every camera and site, without near-duplicates.

    Every group gets the same number; what a small one cannot use goes to the others. A
    sample whose embedding is nearly that of a chosen or an annotated one is passed over, as long
    as there are others.
    """
    if not len(pool):
        return np.zeros(0, np.int64)
    groups = np.zeros(len(pool), np.int64) if pool.groups is None else pool.groups
    names, sizes = np.unique(groups, return_counts=True)
    unit, known = unit_length(pool.vectors), unit_length(pool.known)
    budget = min(pool.budget, len(pool))
    orders = [np.zeros(0, np.int64)] * len(names)
    for _ in range(ROUNDS):
        shares = quotas(sizes, budget)
        for place in np.flatnonzero([len(one) for one in orders] < shares):
            rows, quota = np.flatnonzero(groups == names[place]), int(shares[place])
            orders[place] = _choose_fresh(pool, rows, quota, unit, known)
            if len(orders[place]) < quota:
                sizes[place] = len(orders[place])  # it has no more views; others take over
    merged = _interleave([one[:share] for one, share in zip(orders, shares, strict=True)])
    merged = merged[np.isin(merged, _drop_same_views(merged, unit, known[:0]))]
    return _spend_rest(merged, pool, unit, known)


def _choose_fresh(pool: Pool, rows: Indices, quota: int, unit: Vectors, known: Vectors) -> Indices:
    """The quota's recommended ones of these rows, less what shows the same as another."""
    count = int(np.ceil(SPARE * quota))
    while True:
        ordered = rows[select_recommended(pool.part(rows, min(count, len(rows))))]
        fresh = _drop_same_views(ordered, unit, known)
        if len(fresh) >= quota or count >= len(rows):
            return fresh[:quota]
        count *= 2


def quotas(sizes: NDArray[np.int64], budget: int) -> NDArray[np.int64]:
    """Equal shares of the budget, no group beyond its size: int64 (groups,), summing to budget."""
    shares = np.zeros(len(sizes), np.int64)
    while (left := min(budget, int(sizes.sum())) - int(shares.sum())) > 0:
        open_groups = np.flatnonzero(shares < sizes)
        each = max(1, left // len(open_groups))
        for group in open_groups:
            given = min(each, int(sizes[group] - shares[group]), left)
            shares[group] += given
            left -= given
    return shares


def _drop_same_views(rows: Indices, unit: Vectors, known: Vectors) -> Indices:
    """Those rows, in order, that are no near-duplicate of an earlier or an annotated one."""
    if not len(rows):
        return rows
    alike = unit[rows] @ unit[rows].T >= SAME_VIEW
    is_seen = _is_seen(unit[rows], known)
    kept: list[int] = []
    for place in range(len(rows)):
        if not is_seen[place] and not alike[place, kept].any():
            kept.append(place)
    return rows[kept]


def _is_seen(unit: Vectors, known: Vectors) -> NDArray[np.bool_]:
    if not len(known):
        return np.zeros(len(unit), np.bool_)
    return np.asarray((unit @ known.T >= SAME_VIEW).any(axis=1), np.bool_)


def _interleave(orders: list[Indices]) -> Indices:
    """The first of every group, then the second of every group."""
    place = np.concatenate([np.arange(len(one)) for one in orders])
    rows = np.concatenate(orders).astype(np.int64)
    return rows[np.argsort(place, kind="stable")]


def _spend_rest(chosen: Indices, pool: Pool, unit: Vectors, known: Vectors) -> Indices:
    """What near-duplicates left over goes to the farthest fresh samples, then to any."""
    left = min(pool.budget, len(pool)) - len(chosen)
    if left <= 0:
        return chosen
    rest = np.setdiff1d(np.arange(len(pool)), chosen)
    rest = rest[np.argsort(np.random.default_rng(pool.seed).random(len(rest)))][: 20 * left]
    seen = np.concatenate([known, unit[chosen]])
    fresh = rest[~_is_seen(unit[rest], seen)]
    added = _drop_same_views(fresh, unit, known[:0])[:left]
    return fill_up(np.concatenate([chosen, added]), pool)
