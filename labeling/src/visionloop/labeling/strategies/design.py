"""Experimental design: the samples that make a linear model surest about the whole pool."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from visionloop.labeling.strategies.pool import Indices, Pool, Vectors, compress

__all__ = ["choose_design", "select_informative"]

EXPERIMENT_NOISE = 1.0
"""Noise of one annotation in units of the pool's mean squared vector; 0.3 to 3 do equally well."""

DIMENSIONS = 128
"""Leading directions of the embeddings that are looked at, of a large pool fewer."""

LARGE, LARGE_DIMENSIONS, CANDIDATES = 20_000, 96, 12_000
"""From a larger pool so many candidates are drawn; the variance is still that of all of it."""


def select_informative(pool: Pool) -> Indices:
    """The samples that make a linear model on the embeddings surest about the whole pool.

    Sequential transductive experimental design, Yu, Bi, Tresp, ICML 2006: each step takes
    the sample whose annotation lowers the summed variance of ridge regression over the
    pool most, given what is annotated already. It asks no model, so it also works where
    the model is wrong about everything, as after a change of product. It prefers rare kinds,
    so classes must be balanced over the whole train split, not within the selected samples.
    """
    return choose_design(pool, np.ones(len(pool), np.float32))


def choose_design(pool: Pool, weights: NDArray[np.float32]) -> Indices:
    """The same, where some samples count more.

    Parameters
    ----------
    pool : Pool
    weights : float32 array (N,)
        How much the variance at each sample matters, and how much its annotation tells: for
        logistic regression p (1 - p), which makes this the trace criterion of Fisher
        information (BAIT, Ash et al., NeurIPS 2021, https://arxiv.org/abs/2106.09675).
    """
    if not len(pool):
        return np.zeros(0, np.int64)
    rng = np.random.default_rng(pool.seed)
    order = rng.permutation(len(pool))  # identical vectors tie
    vectors, known = _scale_for_design(pool.vectors[order], pool.known)
    shares = weights[order] / max(float(weights.mean()), 1e-12)
    dimensions = DIMENSIONS if len(pool) <= LARGE else LARGE_DIMENSIONS
    vectors, known = compress(vectors, dimensions, pool.seed, known)
    gram = (vectors * shares[:, None]).T @ vectors
    candidates = _draw_candidates(shares, max(CANDIDATES, 2 * pool.budget), rng)
    steps = min(pool.budget, len(pool))
    chosen = _greedy(vectors[candidates], shares[candidates], known, gram, steps)
    return np.asarray(order[candidates[chosen]], np.int64)


def _draw_candidates(shares: NDArray[np.float32], count: int, rng: np.random.Generator) -> Indices:
    """All rows, or of a very large pool so many, those that count more more often."""
    if len(shares) <= max(LARGE, count):
        return np.arange(len(shares))
    keys = rng.exponential(size=len(shares)) / np.maximum(shares, 1e-6)
    return np.sort(np.argpartition(keys, count)[:count])


def _greedy(
    rows: Vectors, shares: NDArray[np.float32], known: Vectors, gram: Vectors, steps: int
) -> list[int]:
    """Indices of rows, each lowering the weighted variance most given those before.

    With A the information so far, sample x of share s gains s x'A G A x / (1 + s x'A x), where
    A is inverted and G is the weighted Gram matrix; both are kept up to date in O(N D + D^2).
    """
    rows = rows * np.sqrt(shares)[:, None]
    inverse = np.linalg.inv(
        known.T.astype(np.float64) @ known + EXPERIMENT_NOISE * np.eye(rows.shape[1])
    ).astype(np.float32)
    spread = rows @ inverse
    gain = np.einsum("nd,nd->n", spread @ gram, spread).astype(np.float64)
    variance = np.einsum("nd,nd->n", spread, rows).astype(np.float64)
    is_open = np.ones(len(rows), bool)
    chosen: list[int] = []
    for _ in range(steps):
        best = int(np.where(is_open, gain / (1 + variance), -np.inf).argmax())
        is_open[best] = False
        chosen.append(best)
        column = inverse @ rows[best]
        towards = gram @ column
        scale = float(1 + rows[best] @ column)
        both = rows @ np.stack([column, inverse @ towards], axis=1)
        near, shared = both[:, 0], both[:, 1]
        gain += near**2 * (float(column @ towards) / scale**2) - 2 * near * shared / scale
        variance -= near**2 / scale
        inverse -= np.outer(column, column / scale)
    return chosen


def _scale_for_design(vectors: Vectors, known: Vectors) -> tuple[Vectors, Vectors]:
    """Pool and annotated vectors, centred on the pool, its mean squared length 1.

    Half-way standardised: a feature is divided by the root of its deviation, which keeps
    strong features stronger without letting them decide alone. The rows come in random order,
    so the first of a large pool stand for all.
    """
    deviation = vectors[:LARGE].std(axis=0, dtype=np.float64)
    divisor = np.sqrt(np.where(deviation < 1e-6, 1, deviation)).astype(np.float32)
    mean = vectors[:LARGE].mean(axis=0, dtype=np.float64).astype(np.float32)
    pool = (vectors - mean) / divisor
    length = np.float32(max(np.sqrt(np.einsum("nd,nd->", pool, pool) / len(pool)), 1e-12))
    pool /= length
    return pool, (known - mean) / (divisor * length)
