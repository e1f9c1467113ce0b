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
    "select_informative",
    "select_random",
    "select_uncertain",
]

STRATEGIES = {
    "random": "visionloop.labeling.strategies:select_random",
    "clustered": "visionloop.labeling.strategies:select_clustered",
    "uncertain": "visionloop.labeling.strategies:select_uncertain",
    "informative": "visionloop.labeling.strategies:select_informative",
    "recommended": "visionloop.labeling.strategies:select_informative",
}

NEEDS_PROBABILITIES = frozenset({"uncertain"})
"""Strategies for which the package must first look at the whole pool."""

NEIGHBOURS = 20
"""Typicality looks at so many neighbours of the same cluster (the paper's K)."""

EXPERIMENT_NOISE = 1.0
"""Noise of one annotation in units of the pool's mean squared vector; 0.3 to 3 do equally well."""

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


def select_informative(
    vectors: Vectors,
    probabilities: NDArray[np.float32] | None,
    budget: int,
    seed: int,
    *,
    annotated: Vectors | None = None,
) -> NDArray[np.int64]:
    """The samples that make a linear model on the embeddings surest about the whole pool.

    Sequential transductive experimental design, Yu, Bi, Tresp, ICML 2006: each step takes
    the sample whose annotation lowers the summed variance of ridge regression over the
    pool most, given what is annotated already. It asks no model, so it also works where
    the model is wrong about everything, as after a change of product. Parameters and
    result as in :func:`select_random`; O(N D + D^2) a step. It prefers rare kinds, so
    classes must be balanced over the whole train split, not within the selected samples.
    """
    if not len(vectors):
        return np.zeros(0, np.int64)
    order = np.random.default_rng(seed).permutation(len(vectors))  # identical vectors tie
    pool, known = _scale_for_design(vectors[order], annotated)
    gram = pool.T @ pool
    inverse = np.linalg.inv(known.T @ known + EXPERIMENT_NOISE * np.eye(pool.shape[1]))
    spread = pool @ inverse
    gain = np.einsum("nd,nd->n", spread @ gram, spread)
    variance = np.einsum("nd,nd->n", spread, pool)
    is_open = np.ones(len(pool), bool)
    chosen = []
    for _ in range(min(budget, len(pool))):
        best = int(np.where(is_open, gain / (1 + variance), -np.inf).argmax())
        is_open[best] = False
        chosen.append(best)
        column = inverse @ pool[best]
        towards = gram @ column
        scale = 1 + pool[best] @ column
        near, shared = pool @ column, pool @ (inverse @ towards)
        gain += near**2 * (column @ towards) / scale**2 - 2 * near * shared / scale
        variance -= near**2 / scale
        inverse -= np.outer(column, column) / scale
    return np.asarray(order[chosen], np.int64)


def _scale_for_design(
    vectors: Vectors, annotated: Vectors | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pool and annotated vectors, centred on the pool, its mean squared length 1.

    Half-way standardised: a feature is divided by the root of its deviation, which keeps
    strong features stronger without letting them decide alone.
    """
    deviation = vectors.std(axis=0, dtype=np.float64)
    divisor = np.sqrt(np.where(deviation < 1e-6, 1, deviation))
    mean = vectors.mean(axis=0, dtype=np.float64)
    pool = (vectors - mean) / divisor
    length = np.sqrt(np.mean(np.sum(pool**2, axis=1)))
    divisor = divisor * max(float(length), 1e-12)
    known = np.zeros((0, vectors.shape[1])) if annotated is None else annotated
    return (vectors - mean) / divisor, (known - mean) / divisor


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
