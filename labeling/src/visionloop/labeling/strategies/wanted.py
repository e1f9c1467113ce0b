"""What is missing: classes with few annotations, and slices that drifted."""

from __future__ import annotations

import numpy as np

from visionloop.labeling.strategies.design import choose_design
from visionloop.labeling.strategies.pool import Indices, Pool
from visionloop.labeling.strategies.uncertainty import margins

__all__ = ["select_drifted", "select_rare_class"]


def select_rare_class(pool: Pool) -> Indices:
    """Samples that probably show the classes with the fewest annotations.

    Each choice takes the sample with the largest sum of p_c / (annotations of class c), and
    counts its probabilities as if they were annotations, so that one rare class does not take
    the whole batch.

    Raises
    ------
    ValueError
        If there are no probabilities.
    """
    answers = pool.answers() if pool.presence is None else pool.presence
    counts = np.ones(answers.shape[1])
    if pool.class_counts is not None:
        counts += pool.class_counts
    noise = np.random.default_rng(pool.seed).random(len(answers)).astype(np.float32) * 1e-6
    taken = np.zeros(len(answers), np.float32)
    chosen = []
    for _ in range(min(pool.budget, len(answers))):
        worth = answers @ (1 / counts).astype(np.float32) + noise - taken
        best = int(worth.argmax())
        taken[best] = np.inf
        counts += answers[best]
        chosen.append(best)
    return np.array(chosen, np.int64)


def select_drifted(pool: Pool) -> Indices:
    """Samples of the slice that monitoring found drifted, the ones that stand for most of it.

    The design of :mod:`~visionloop.labeling.strategies.design`, in which a sample counts by the
    priority of its request, and by the model's doubt where a model has answered. Samples that
    nobody asked for fill what is left.
    """
    wanted = np.zeros(len(pool), np.float32) if pool.wanted is None else pool.wanted
    asked, others = np.flatnonzero(wanted > 0), np.flatnonzero(wanted <= 0)
    chosen: list[int] = []
    for rows in (asked, others):
        left = pool.budget - len(chosen)
        if left > 0 and len(rows):
            part = pool.part(rows, left)
            weights = wanted[rows] if rows is asked else np.ones(len(rows), np.float32)
            if part.probabilities is not None:
                weights = weights * (1 - margins(part.probabilities))
            chosen += rows[choose_design(part, weights)].tolist()
    return np.array(chosen, np.int64)
