"""The peer's side of ``active_learning.py``: scikit-activeml's strategies in the same loop.

Runs in the peer's environment (numpy, scikit-learn, scikit-activeml). Reads one JSON object a line,
``{"set", "strategy", "seed", "file"}``, answers with the test scores. The strategies see the head's
own probabilities, and the vectors along their 128 leading directions: BADGE's gradients of
1,280 features and ten classes would take hours.
"""

from __future__ import annotations

import json
import sys
import warnings

import numpy as np
from active_learning_loop import Round, run_loop
from skactiveml.base import SkactivemlClassifier
from skactiveml.pool import Badge, CoreSet, ProbCover, TypiClust, UncertaintySampling

warnings.filterwarnings("ignore")

ASKS = ("Badge", "UncertaintySampling")


class GivenAnswers(SkactivemlClassifier):
    """The head's probabilities of the samples without an annotation, in their order."""

    def __init__(self, probabilities=None, missing_label=np.nan):
        super().__init__(missing_label=missing_label)
        self.probabilities = probabilities

    def fit(self, X, y, sample_weight=None):
        return self

    def predict_proba(self, X):
        return self.probabilities


def choose(name, small, asked: Round):
    """Places in ``asked.open``."""
    if asked.probabilities is None and name in ASKS:
        order = np.random.default_rng(asked.seed).permutation(len(asked.open))
        return order[: asked.batch]
    makers = {
        "Badge": lambda: Badge(random_state=asked.seed),
        "CoreSet": lambda: CoreSet(random_state=asked.seed),
        "ProbCover": lambda: ProbCover(n_classes=asked.classes, random_state=asked.seed),
        "TypiClust": lambda: TypiClust(random_state=asked.seed),
        "UncertaintySampling": lambda: UncertaintySampling(
            method="margin_sampling", random_state=asked.seed
        ),
    }
    told = np.full(len(small), np.nan)
    told[asked.known] = asked.known_classes
    more = {}
    if name in ASKS:
        more = {"clf": GivenAnswers(asked.probabilities), "fit_clf": False}
    rows = makers[name]().query(small, told, batch_size=asked.batch, **more)
    return np.searchsorted(asked.open, np.asarray(rows))


def main() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        with np.load(job["file"]) as data:
            pool = data["pool_vectors"], data["pool_classes"]
            test = data["test_vectors"], data["test_classes"]
            small = data["small"]
        scores = run_loop(
            job["set"],
            pool,
            test,
            lambda asked: choose(job["strategy"], small, asked),  # noqa: B023
            job["seed"],
        )
        print(json.dumps(scores), flush=True)


if __name__ == "__main__":
    main()
