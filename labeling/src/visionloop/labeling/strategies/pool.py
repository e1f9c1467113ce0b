"""What a strategy chooses from, and helpers that several strategies share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Indices", "Pool", "Vectors", "compress", "fill_up", "order_by", "unit_length"]

Vectors = NDArray[np.float32]
Indices = NDArray[np.int64]

SAMPLED_ROWS = 4000
"""The leading directions of a large pool are found on so many of its rows."""

POWER_STEPS = 3


@dataclass(frozen=True, eq=False, kw_only=True)
class Pool:
    """Samples without an annotation, and all that is known about them.

    Attributes
    ----------
    vectors : float32 array (N, D)
        Embeddings.
    budget : int
        How many to choose; more than N chooses all.
    seed : int
        The same pool and seed give the same choice.
    probabilities : float32 array (N, C) or None
        The champion's answer on each; for detection (N, 2), certainty and its complement.
    presence : float32 array (N, C) or None
        For detection: how probably a box of each class is in each image.
    challenger : float32 array (N, C) or None
        What a second package answers: its probabilities, for detection its presence.
    box_confidences : sequence of N float32 arrays, or None
        For detection: confidence of every box of each sample, faint ones included.
    known_vectors : float32 array (M, D)
        Embeddings of samples that people annotated already.
    class_counts : int64 array (C,) or None
        Annotations of each class so far: samples, for detection boxes.
    groups : int64 array (N,) or None
        Camera and site of each sample, as a number.
    wanted : float32 array (N,) or None
        How much monitoring wants each annotated (priority of its request), 0 for not at all.
    """

    vectors: Vectors
    budget: int
    seed: int = 0
    probabilities: NDArray[np.float32] | None = None
    presence: NDArray[np.float32] | None = None
    challenger: NDArray[np.float32] | None = None
    box_confidences: Sequence[NDArray[np.float32]] | None = None
    known_vectors: Vectors | None = None
    class_counts: Indices | None = None
    groups: Indices | None = None
    wanted: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def known(self) -> Vectors:
        """Embeddings of what is annotated already, float32 (M, D); M may be 0."""
        if self.known_vectors is None:
            return np.zeros((0, self.vectors.shape[1]), np.float32)
        return self.known_vectors

    def answers(self) -> NDArray[np.float32]:
        """The champion's probabilities.

        Raises
        ------
        ValueError
            If there are none.
        """
        if self.probabilities is None:
            raise ValueError("this strategy needs the model's probabilities")
        return self.probabilities

    def part(self, rows: Indices, budget: int) -> Pool:
        """The pool of these rows alone."""
        columns = ("vectors", "probabilities", "presence", "challenger", "groups", "wanted")
        changed: dict[str, Any] = {
            name: None if getattr(self, name) is None else getattr(self, name)[rows]
            for name in columns
        }
        if self.box_confidences is not None:
            changed["box_confidences"] = [self.box_confidences[row] for row in rows]
        return replace(self, budget=budget, **changed)


def order_by(usefulness: NDArray[np.floating[Any]], pool: Pool) -> Indices:
    """The budget's largest first; ties are broken by chance, not by the order of file names."""
    noise = np.random.default_rng(pool.seed).random(len(usefulness))
    return np.asarray(np.lexsort((noise, -usefulness))[: pool.budget], np.int64)


def fill_up(chosen: Indices, pool: Pool) -> Indices:
    """Spend at random what a strategy left of the budget (identical vectors, empty clusters)."""
    rest = np.setdiff1d(np.arange(len(pool)), chosen)
    np.random.default_rng(pool.seed).shuffle(rest)
    return np.asarray(np.concatenate([chosen, rest])[: pool.budget], np.int64)


def unit_length(vectors: Vectors) -> Vectors:
    """Vectors divided by their length."""
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norm, 1e-12), dtype=np.float32)


def compress(vectors: Vectors, dimensions: int, seed: int, *more: Vectors) -> list[Vectors]:
    """Vectors along the pool's leading directions: float32 (N, min(D, dimensions)).

    Distances change little where the features hang together, and a pool of 100,000
    is chosen from in seconds. ``more`` vectors go the same way.
    """
    if vectors.shape[1] <= dimensions:
        return [vectors, *more]
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(vectors))[:SAMPLED_ROWS]
    mean = vectors[rows].mean(axis=0)
    sample = vectors[rows] - mean
    # Subspace iteration: the leading directions without an eigendecomposition of D x D.
    ways = rng.standard_normal((vectors.shape[1], dimensions + 8), np.float32)
    for _ in range(POWER_STEPS):
        ways = np.linalg.qr(sample.T @ (sample @ ways))[0]
    ways = ways[:, :dimensions]
    return [np.asarray((one - mean) @ ways, np.float32) for one in (vectors, *more)]
