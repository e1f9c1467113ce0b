"""Ranking doubtful whole-image annotations by out-of-fold answers on embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import DataError

__all__ = ["RankedIssues", "out_of_fold_probabilities", "rank_label_issues"]


@dataclass(frozen=True, eq=False)
class RankedIssues:
    """How doubtful each annotation is.

    Attributes
    ----------
    severity : float64 array (N,)
        In [0, 1], larger is more doubtful.
    probabilities : float64 array (N, C)
        Answer of a model that has not seen the sample or its group.
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
    class under out-of-fold probabilities.

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

    probabilities = out_of_fold_probabilities(
        vectors, class_ids, groups, seed=seed, folds=folds, classes=classes
    )
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
    regularisation: float = 0.01,
) -> NDArray[np.float64]:
    """Class probabilities of each sample by a model trained on other groups.

    Logistic regression on standardised embeddings; parameters as in
    :func:`rank_label_issues`, ``regularisation`` is scikit-learn's ``C``.

    Returns
    -------
    float64 array (N, C)
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    count = classes or int(class_ids.max()) + 1
    if len(set(groups)) < folds:
        raise DataError(
            "label issues", f"{len(set(groups))} groups for {folds} folds", "annotate more samples"
        )
    answers = np.zeros((len(vectors), count))
    cutter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    for fitted, left_out in cutter.split(vectors, class_ids, groups):
        present = np.unique(class_ids[fitted])
        if len(present) < 2:
            raise DataError(
                "label issues", "a fold holds one class only", "annotate more of the other classes"
            )
        model = make_pipeline(StandardScaler(), LogisticRegression(C=regularisation, max_iter=1000))
        model.fit(vectors[fitted], class_ids[fitted])
        answers[np.ix_(left_out, present)] = model.predict_proba(vectors[left_out])
    return answers
