"""One run of active learning on frozen features: rounds of choosing, annotating, fitting, testing.

Only numpy and scikit-learn, so that the peer's environment runs the very same loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BUDGETS", "Round", "run_loop", "score_head"]

BUDGETS = {
    "elpv": tuple(range(20, 321, 60)),
    "cifar10": tuple(range(40, 541, 100)),
    "fashion": tuple(range(40, 541, 100)),
    "tiles": tuple(range(24, 265, 48)),
}
"""Annotations after each round; the first round has no model to ask."""

BALANCED = ("tiles",)
"""Sets whose classes are uneven: balanced accuracy. The others: accuracy."""

INVERSE_PENALTY = 0.002
"""C of the head, the product's ``training.l2`` = 500, on standardised features."""


@dataclass(frozen=True, eq=False)
class Round:
    """What a strategy may see.

    Attributes
    ----------
    vectors : float32 array (N, D)
        Of the whole pool.
    open, known : int64 arrays
        Rows of the pool without and with an annotation.
    known_classes : int64 array
        What people said about the known rows.
    probabilities : float32 array (len(open), C) or None
        The head's answers; None in the first round.
    classes, batch, seed : int
    """

    vectors: NDArray[np.float32]
    open: NDArray[np.int64]
    known: NDArray[np.int64]
    known_classes: NDArray[np.int64]
    probabilities: NDArray[np.float32] | None
    classes: int
    batch: int
    seed: int


Choose = Callable[[Round], NDArray[np.int64]]


def run_loop(
    name: str,
    pool: tuple[NDArray[np.float32], NDArray[np.int64]],
    test: tuple[NDArray[np.float32], NDArray[np.int64]],
    choose: Choose,
    seed: int,
) -> list[float]:
    """The test score after each budget of ``BUDGETS[name]``.

    ``choose`` returns places in ``open``. Vectors are as the backbone gives them.
    """
    vectors, truth = pool
    classes = int(max(truth.max(), test[1].max())) + 1
    mean, deviation = vectors.mean(axis=0), vectors.std(axis=0)
    deviation[deviation < 1e-6] = 1
    scaled, scaled_test = (vectors - mean) / deviation, (test[0] - mean) / deviation
    known = np.zeros(0, np.int64)
    left = np.arange(len(vectors))
    probabilities = None
    scores = []
    for number, budget in enumerate(BUDGETS[name]):
        batch = budget - len(known)
        asked = Round(
            vectors, left, known, truth[known], probabilities, classes, batch, seed * 100 + number
        )
        taken = np.asarray(choose(asked), np.int64)
        if len(set(taken.tolist())) != batch:
            raise ValueError(f"{len(set(taken.tolist()))} different samples, {batch} asked")
        known = np.concatenate([known, left[taken]])
        left = np.setdiff1d(left, known)
        head = fit_head(scaled[known], truth[known])
        scores.append(score_head(head, scaled_test, test[1], is_balanced=name in BALANCED))
        probabilities = answer(head, scaled[left], classes)
    return scores


def fit_head(vectors: NDArray[np.float32], class_ids: NDArray[np.int64]) -> Any:
    """The product's head: multinomial logistic regression, classes count equally."""
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(class_ids)) == 1:
        return int(class_ids[0])
    head = LogisticRegression(C=INVERSE_PENALTY, class_weight="balanced", max_iter=120, tol=1e-3)
    return head.fit(vectors, class_ids)


def answer(head: Any, vectors: NDArray[np.float32], classes: int) -> NDArray[np.float32]:
    """Probabilities (N, C); classes that were never annotated get none."""
    found = np.zeros((len(vectors), classes), np.float32)
    if isinstance(head, int):
        found[:, head] = 1
    else:
        found[:, head.classes_] = head.predict_proba(vectors)
    return found


def score_head(
    head: Any,
    vectors: NDArray[np.float32],
    truth: NDArray[np.int64],
    *,
    is_balanced: bool,
) -> float:
    """Accuracy, or its mean over classes."""
    told = np.full(len(truth), head) if isinstance(head, int) else head.predict(vectors)
    right = told == truth
    if not is_balanced:
        return float(right.mean())
    return float(np.mean([right[truth == one].mean() for one in np.unique(truth)]))
