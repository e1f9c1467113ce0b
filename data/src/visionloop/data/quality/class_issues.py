"""Ranking doubtful whole-image annotations by out-of-fold answers on embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import DataError

__all__ = [
    "RankedIssues",
    "neighbour_shares",
    "out_of_fold_probabilities",
    "rank_label_issues",
]

REPEATS = 4
"""Ways of cutting the folds that are averaged: one alone ranks 1 to 3 points less precisely."""

NEIGHBOURS = 30
"""Samples of other groups that are asked, at most; and not more than a share of all."""
NEIGHBOUR_SHARE = 0.05
NEIGHBOUR_WEIGHT = 0.3
"""Of the neighbours' word where they are dense; in proportion less below DENSE samples: on 900
solar cells they made the list worse, on 10,000 photographs they made it better."""
DENSE = 5000
PENALISED = 2500
"""Samples from which on the penalty grows with their number: the noise in them does, too."""
SHARPNESS = 5.0
ROWS_AT_ONCE = 1000


@dataclass(frozen=True, eq=False)
class RankedIssues:
    """How doubtful each annotation is.

    Attributes
    ----------
    severity : float64 array (N,)
        In [0, 1], larger is more doubtful.
    probabilities : float64 array (N, C)
        Answer of a model that has not seen the sample or its group, and of its neighbours
        of other groups.
    """

    severity: NDArray[np.float64]
    probabilities: NDArray[np.float64]


def rank_label_issues(
    vectors: NDArray[np.float32],
    class_ids: NDArray[np.int64],
    groups: Sequence[str],
    *,
    seed: int,
    folds: int = 5,
    classes: int | None = None,
) -> RankedIssues:
    """Rank annotations by doubt.

    Confident learning (Northcutt et al., 2021; cleanlab): the self-confidence of the given
    class. The probabilities are the mean of two witnesses that err differently: an out-of-fold
    model, and the annotations of the nearest neighbours (as in Zhu et al., "Detecting corrupted
    labels without training a model to predict", 2022). Classes keep their natural weights:
    balanced ones ranked the rarer kind of cell less precisely.

    Parameters
    ----------
    vectors : float32 array (N, D)
        Embeddings of the frozen backbone.
    class_ids : int64 array (N,)
        The annotated class.
    groups : sequence of N str
        Samples of one group are never on both sides of a fold.
    seed : int
    folds : int
    classes : int or None
        Number of classes; None takes the largest class id + 1.

    Raises
    ------
    DataError
        If there are fewer groups than folds, or a class is missing in a fold.
    """
    from cleanlab.rank import get_label_quality_scores

    told = out_of_fold_probabilities(
        vectors, class_ids, groups, seed=seed, folds=folds, classes=classes
    )
    near = neighbour_shares(vectors, class_ids, groups, classes=told.shape[1])
    weight = NEIGHBOUR_WEIGHT * min(1.0, len(vectors) / DENSE)
    probabilities = (1 - weight) * told + weight * near
    quality = get_label_quality_scores(class_ids, probabilities, method="self_confidence")
    return RankedIssues(1 - np.asarray(quality, np.float64), probabilities)


def out_of_fold_probabilities(
    vectors: NDArray[np.float32],
    class_ids: NDArray[np.int64],
    groups: Sequence[str],
    *,
    seed: int,
    folds: int = 5,
    classes: int | None = None,
    regularisation: float = 4.0,
) -> NDArray[np.float64]:
    """Class probabilities of each sample by models trained on other groups.

    Logistic regression, the mean of ``REPEATS`` ways of cutting the folds. Parameters as
    in :func:`rank_label_issues`; ``regularisation`` is scikit-learn's ``C`` for vectors of
    mean squared length 1.

    Returns
    -------
    float64 array (N, C)
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold

    count = classes or int(class_ids.max()) + 1
    if len(set(groups)) < folds:
        raise DataError(
            "label issues", f"{len(set(groups))} groups for {folds} folds", "annotate more samples"
        )
    answers = np.zeros((len(vectors), count))
    for repeat in range(REPEATS):
        cutter = StratifiedGroupKFold(folds, shuffle=True, random_state=REPEATS * seed + repeat)
        for fitted, left_out in cutter.split(vectors, class_ids, groups):
            present = np.unique(class_ids[fitted])
            if len(present) < 2:
                raise DataError(
                    "label issues",
                    "a fold holds one class only",
                    "annotate more of the other classes",
                )
            mean, divisor = _scaling(vectors[fitted])
            strength = regularisation * min(1.0, PENALISED / len(vectors))
            model = LogisticRegression(C=strength, max_iter=1000)
            model.fit((vectors[fitted] - mean) / divisor, class_ids[fitted])
            told = model.predict_proba((vectors[left_out] - mean) / divisor)
            answers[np.ix_(left_out, present)] += told / REPEATS
    return answers


def neighbour_shares(
    vectors: NDArray[np.float32],
    class_ids: NDArray[np.int64],
    groups: Sequence[str],
    *,
    classes: int,
) -> NDArray[np.float64]:
    """Share of each class among a sample's neighbours of other groups, nearer ones more.

    Cosine similarity after the scaling of :func:`out_of_fold_probabilities`.

    Returns
    -------
    float64 array (N, C)
        Rows sum to 1.
    """
    mean, divisor = _scaling(vectors)
    scaled = (vectors - mean) / divisor
    scaled /= np.linalg.norm(scaled, axis=1, keepdims=True) + 1e-9
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    count = max(1, min(NEIGHBOURS, round(NEIGHBOUR_SHARE * len(vectors))))
    shares = np.zeros((len(vectors), classes))
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        rows = np.arange(start, min(start + ROWS_AT_ONCE, len(vectors)))
        alike = scaled[rows] @ scaled.T
        alike[group[rows][:, None] == group[None]] = -np.inf
        nearest = np.argpartition(-alike, count - 1, axis=1)[:, :count]
        weight = np.exp(SHARPNESS * (np.take_along_axis(alike, nearest, axis=1) - 1))
        np.add.at(shares, (rows[:, None], class_ids[nearest]), weight)
    total = shares.sum(axis=1, keepdims=True)
    even = np.full_like(shares, 1 / classes)
    return np.asarray(np.divide(shares, total, out=even, where=total > 0), np.float64)


def _scaling(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and divisor (D,): the root of the deviation, so strong features stay stronger.

    The mean squared length of the scaled vectors is 1.
    """
    deviation = vectors.std(axis=0)
    varies = deviation > 1e-6
    total = deviation[varies].sum() if varies.any() else 1.0
    return vectors.mean(axis=0), np.sqrt(np.where(varies, deviation, 1) * total)
