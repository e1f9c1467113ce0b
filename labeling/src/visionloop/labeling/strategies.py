"""Which samples are annotated next: one function a strategy, and the table of them.

Every strategy has the signature of :func:`select_random` and returns indices into
the pool, most useful first. A new one is a function here (or in another package)
and a row in ``STRATEGIES``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "NEEDS_PROBABILITIES",
    "STRATEGIES",
    "select_clustered",
    "select_random",
    "select_uncertain",
]

STRATEGIES = {
    "random": "visionloop.labeling.strategies:select_random",
    "clustered": "visionloop.labeling.strategies:select_clustered",
    "uncertain": "visionloop.labeling.strategies:select_uncertain",
    "recommended": "visionloop.labeling.strategies:select_clustered",
}

NEEDS_PROBABILITIES = frozenset({"uncertain"})
"""Strategies for which the package must first look at the whole pool."""

NEIGHBOURS = 20
"""Typicality looks at so many neighbours of the same cluster (the paper's K)."""

Vectors = NDArray[np.float32]


def select_random(
    vectors: Vectors,
    probabilities: NDArray[np.float32] | None,
    budget: int,
    seed: int,
    *,
    annotated: Vectors | None = None,
) -> NDArray[np.int64]:
    """Draw uniformly without replacement: what every other strategy must beat.

    Parameters
    ----------
    vectors : float32 array (N, D)
        Embeddings of the pool's samples.
    probabilities : float32 array (N, C) or None
        The model's answer on each; for detection (N, 2), certainty and its complement.
    budget : int
        How many to choose; more than N chooses all.
    seed : int
    annotated : float32 array (M, D) or None
        Embeddings of samples that people annotated already.

    Returns
    -------
    int64 array (min(budget, N),)
        Indices into the pool, most useful first, no index twice.
    """
    order = np.random.default_rng(seed).permutation(len(vectors))
    return order[:budget].astype(np.int64)


def select_clustered(
    vectors: Vectors,
    probabilities: NDArray[np.float32] | None,
    budget: int,
    seed: int,
    *,
    annotated: Vectors | None = None,
) -> NDArray[np.int64]:
    """The most typical sample of each of ``budget`` clusters, largest cluster first.

    Typicality is the inverse mean distance to the nearest neighbours in the cluster:
    TypiClust, Hacohen et al., ICML 2022, https://arxiv.org/abs/2202.02794. Parameters
    and result as in :func:`select_random`.
    """
    from sklearn.cluster import KMeans

    if budget >= len(vectors):
        return select_random(vectors, probabilities, budget, seed)
    unit = _unit_length(vectors)
    clusters = KMeans(budget, n_init=1, random_state=seed).fit_predict(unit)
    sizes = np.bincount(clusters, minlength=budget)
    chosen = [
        _most_typical(unit, np.flatnonzero(clusters == cluster))
        for cluster in np.argsort(-sizes, kind="stable")
        if sizes[cluster]
    ]
    return _fill_up(np.array(chosen, np.int64), len(vectors), budget, seed)


def select_uncertain(
    vectors: Vectors,
    probabilities: NDArray[np.float32] | None,
    budget: int,
    seed: int,
    *,
    annotated: Vectors | None = None,
) -> NDArray[np.int64]:
    """Smallest margin between the two most probable classes first.

    Margin sampling, Scheffer et al., IDA 2001. Parameters and result as in
    :func:`select_random`.

    Raises
    ------
    ValueError
        If there are no probabilities.
    """
    if probabilities is None:
        raise ValueError("margin sampling needs the model's probabilities")
    ranked = np.sort(probabilities, axis=1)
    margin = ranked[:, -1] - ranked[:, -2] if ranked.shape[1] > 1 else ranked[:, -1]
    # Ties are broken by chance, not by the order of file names.
    noise = np.random.default_rng(seed).random(len(margin))
    return np.asarray(np.lexsort((noise, margin))[:budget], np.int64)


def _most_typical(unit: Vectors, members: NDArray[np.int64]) -> int:
    if len(members) < 3:
        return int(members[0])
    similarity = unit[members] @ unit[members].T
    distance = np.sqrt(np.clip(2 - 2 * similarity, 0, None))
    nearest = np.sort(distance, axis=1)[:, 1 : NEIGHBOURS + 1]
    return int(members[nearest.mean(axis=1).argmin()])


def _fill_up(
    chosen: NDArray[np.int64], pool_size: int, budget: int, seed: int
) -> NDArray[np.int64]:
    """Empty clusters (identical vectors) leave budget over: it is spent at random."""
    rest = np.setdiff1d(np.arange(pool_size), chosen)
    np.random.default_rng(seed).shuffle(rest)
    return np.asarray(np.concatenate([chosen, rest])[:budget], np.int64)


def _unit_length(vectors: Vectors) -> Vectors:
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norm, 1e-12), dtype=np.float32)
