"""Samples that stand for the whole pool: by chance, at its far ends, or in its middle."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from visionloop.labeling.strategies.pool import (
    Indices,
    Pool,
    Vectors,
    compress,
    fill_up,
    unit_length,
)

__all__ = ["select_k_centre", "select_random", "select_typical"]

NEIGHBOURS = 20
"""Typicality looks at so many neighbours of the same cluster (the paper's K)."""

LARGE = 20_000
"""Clusters of a larger pool are found on so many of its samples."""

CLUSTER_DIMENSIONS = 64
"""Clusters are found along so many leading directions."""

SHORTLIST = 512
"""The farthest samples that k-centre looks at before it measures the whole pool again."""


def select_random(pool: Pool) -> Indices:
    """Draw uniformly without replacement: what every other strategy must beat."""
    order = np.random.default_rng(pool.seed).permutation(len(pool))
    return order[: pool.budget].astype(np.int64)


def select_k_centre(pool: Pool) -> Indices:
    """The sample farthest from all that is annotated or chosen, again and again.

    Greedy k-centre on vectors of unit length, Sener and Savarese, ICLR 2018,
    https://arxiv.org/abs/1708.00489. Covers the pool's edges, outliers first.

    The choice is that of the plain loop, but the whole pool is measured only when the best of
    a shortlist falls behind what was left out of it: distances only shrink.
    """
    unit = unit_length(pool.vectors)
    budget = min(pool.budget, len(pool))
    chosen: list[int] = []
    if not budget:
        return np.zeros(0, np.int64)
    distance = np.full(len(pool), np.inf, np.float32)
    if len(pool.known):
        _shrink(distance, unit, unit_length(pool.known))
    else:
        chosen.append(_middle(unit))
        _shrink(distance, unit, unit[chosen])
    distance[chosen] = -1
    while len(chosen) < budget:
        added = _farthest(unit, distance, budget - len(chosen))
        _shrink(distance, unit, unit[added])
        distance[added] = -1
        chosen += added.tolist()
    return np.array(chosen, np.int64)


def _farthest(unit: Vectors, distance: NDArray[np.float32], most: int) -> Indices:
    """The next choices, as long as no sample outside the shortlist could be farther."""
    size = min(SHORTLIST, len(distance))
    shortlist = np.sort(np.argpartition(-distance, size - 1)[:size])
    near = distance[shortlist].copy()
    limit = float(near.min()) if size < len(distance) else -np.inf
    similarity = unit[shortlist] @ unit[shortlist].T
    found: list[int] = []
    while len(found) < min(most, size):
        best = int(near.argmax())
        if found and near[best] <= limit:
            break
        found.append(best)
        near = np.minimum(near, 2 - 2 * similarity[best])
        near[found] = -1
    return np.asarray(shortlist[found], np.int64)


def _shrink(distance: NDArray[np.float32], unit: Vectors, centres: Vectors) -> None:
    """Squared distance to the nearest centre, in place; some rows and centres at a time."""
    for start in range(0, len(unit), 8192):
        rows = slice(start, start + 8192)
        for first in range(0, len(centres), 1024):
            nearest = (unit[rows] @ centres[first : first + 1024].T).max(axis=1)
            np.minimum(distance[rows], 2 - 2 * nearest, out=distance[rows])


def _middle(unit: Vectors) -> int:
    return int((unit @ unit.mean(axis=0)).argmax())


def select_typical(pool: Pool) -> Indices:
    """The most typical sample of each of ``budget`` clusters, largest cluster first.

    Typicality is the inverse mean distance to the nearest neighbours in the cluster:
    TypiClust, Hacohen et al., ICML 2022, https://arxiv.org/abs/2202.02794. As there, clusters
    that hold an annotated sample come last. Best where only tens of samples are annotated.
    """
    if pool.budget >= len(pool):
        return select_random(pool)
    unit, known = unit_length(pool.vectors), unit_length(pool.known)
    small, known = compress(unit, CLUSTER_DIMENSIONS, pool.seed, known)
    count = min(pool.budget + len(known), len(pool))
    clusters, known_clusters = _cluster(small, known, count, pool.seed)
    sizes = np.bincount(clusters, minlength=count)
    annotated = np.bincount(known_clusters, minlength=count)
    order = np.lexsort((np.arange(count), -sizes, annotated > 0))
    members = np.split(np.argsort(clusters, kind="stable"), np.cumsum(sizes)[:-1])
    picked = [_most_typical(small, members[one]) for one in order[: 2 * pool.budget] if sizes[one]]
    return fill_up(np.array(picked[: pool.budget], np.int64), pool)


def _cluster(vectors: Vectors, known: Vectors, count: int, seed: int) -> tuple[Indices, Indices]:
    """Cluster of every pool sample and of every annotated one."""
    from sklearn.cluster import KMeans, MiniBatchKMeans

    together = np.concatenate([vectors, known])
    if len(together) <= LARGE:
        found = KMeans(count, n_init=1, max_iter=30, random_state=seed).fit_predict(together)
        return found[: len(vectors)].astype(np.int64), found[len(vectors) :].astype(np.int64)
    rows = np.random.default_rng(seed).permutation(len(together))[: max(LARGE, 2 * count)]
    maker = MiniBatchKMeans(
        count, init="random", n_init=1, batch_size=4096, max_iter=4, random_state=seed
    )
    centres = np.asarray(maker.fit(together[rows]).cluster_centers_, np.float32)
    found = np.empty(len(together), np.int64)
    half_squares = (centres**2).sum(axis=1) / 2
    for start in range(0, len(together), 8192):
        block = slice(start, start + 8192)
        found[block] = (together[block] @ centres.T - half_squares).argmax(axis=1)
    return found[: len(vectors)], found[len(vectors) :]


def _most_typical(vectors: Vectors, members: Indices) -> int:
    if len(members) < 3:
        return int(members[0])
    inside = vectors[members]
    squares = (inside**2).sum(axis=1)
    distance = np.sqrt(np.clip(squares[:, None] + squares - 2 * inside @ inside.T, 0, None))
    nearest = np.sort(distance, axis=1)[:, 1 : NEIGHBOURS + 1]
    return int(members[nearest.mean(axis=1).argmin()])
