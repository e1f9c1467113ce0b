"""How probable it is that an annotated box is wrong, and in which way.

A classifier learns from errors that we plant ourselves (:mod:`.planted_errors`) to read the
evidence of a detector's answers (:mod:`.box_evidence`), and of the picture itself where it is
given (:mod:`.crop_evidence`): *right*, *spurious*, *shifted* or
*swapped* for each annotated box, and *missing* or background for each answer without one. It is
fitted on other images than it judges. So a weak detector, which overlooks much, is not taken for
a witness against every box that it does not see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Detections
from visionloop.core.geometry import box_iou
from visionloop.data.quality.box_witness import Witness
from visionloop.data.quality.crop_evidence import Picture
from visionloop.data.quality.planted_errors import BOX_KINDS, BoxSet, SpoiltImage, spoil

__all__ = ["MIN_BOXES", "BoxIssue", "image_doubt", "score_boxes"]

ROUNDS = 8
"""Times that errors are planted on every image."""
FOLDS = 4
FOUND = 0.3
"""IoU from which an answer has found a box that was taken away."""
MIN_BOXES = 40
"""Below, there is too little to learn from."""


@dataclass(frozen=True, eq=False)
class BoxIssue:
    """A box in doubt.

    Attributes
    ----------
    image : int
    kind : str
        missing, spurious, shifted or swapped.
    probability : float
        In [0, 1]: that this box is wrong.
    xyxy : float32 array (4,)
        The annotated box; the detector's for "missing".
    box : int
        Index of the annotated box, -1 for "missing".
    answer : int
        Index of the answer that speaks against it, -1 if there is none.
    """

    image: int
    kind: str
    probability: float
    xyxy: NDArray[np.float32]
    box: int
    answer: int


def score_boxes(
    given: Sequence[BoxSet],
    answers: Sequence[Detections],
    extent: Sequence[float],
    classes: int,
    *,
    seed: int = 0,
    pictures: Sequence[Picture] | None = None,
) -> list[BoxIssue]:
    """Every annotated box and every answer without one, with the probability of an error.

    Parameters
    ----------
    given : sequence of (xyxy float32 (N, 4), class_id int64 (N,))
    answers : sequence of Detections
        Of a detector that has not learned these annotations, down to a confidence of about .01.
    extent : sequence of float
        Longer side of each image in pixels.
    classes : int
    seed : int
    pictures : sequence of Picture, optional
        With them, what is inside a box counts beside what the detector says: with a weak
        detector most of what can be known.

    Returns
    -------
    list of BoxIssue
        One for each annotated box (of its most probable error) and each candidate for a
        missing one; empty if there are fewer than 40 boxes.
    """
    if sum(len(xyxy) for xyxy, _ in given) < MIN_BOXES:
        return []
    generator = np.random.default_rng(seed)
    fold_of = generator.permutation(len(given)) % FOLDS
    rounds = [spoil(given, extent, classes, generator) for _ in range(ROUNDS)]
    witness = Witness.call(given, answers, pictures, rounds, classes, fold_of, seed)
    learned = [_Lesson.of(one, witness) for one in rounds]
    issues: list[BoxIssue] = []
    for fold in range(FOLDS):
        models = _fit(learned, np.flatnonzero(fold_of != fold), seed)
        images = [int(image) for image in np.flatnonzero(fold_of == fold)]
        if images:
            issues += _judge_boxes(images, given, witness, models[0])
            issues += _judge_open(images, given, witness, models[1])
    return issues


def image_doubt(issues: Sequence[BoxIssue], images: int) -> NDArray[np.float64]:
    """Doubt (N,) about each image: that about its most doubtful box, in [0, 1]."""
    doubt = np.zeros(images)
    for issue in issues:
        doubt[issue.image] = max(doubt[issue.image], issue.probability)
    return doubt


@dataclass(frozen=True, eq=False)
class _Lesson:
    """Evidence with what we know of it, from one round of planting."""

    box_image: NDArray[np.int64]
    box_rows: NDArray[np.float32]
    box_kind: NDArray[np.int64]
    open_image: NDArray[np.int64]
    open_rows: NDArray[np.float32]
    open_is_missing: NDArray[np.bool_]

    @classmethod
    def of(cls, spoilt: Sequence[SpoiltImage], witness: Witness) -> _Lesson:
        parts: dict[str, list[NDArray[np.generic]]] = {name: [] for name in cls.__annotations__}
        for image, one in enumerate(spoilt):
            rows = witness.of_boxes(image, one.boxes)
            found = witness.of_open(image, one.boxes)
            hidden = box_iou(witness.answers[image].xyxy[found.answer], one.removed)
            parts["box_image"].append(np.full(len(rows), image))
            parts["box_rows"].append(rows)
            parts["box_kind"].append(one.kind)
            parts["open_image"].append(np.full(len(found.answer), image))
            parts["open_rows"].append(found.evidence)
            parts["open_is_missing"].append(hidden.max(axis=1, initial=0) >= FOUND)
        return cls(**{name: np.concatenate(rows) for name, rows in parts.items()})  # type: ignore[arg-type]


def _fit(lessons: Sequence[_Lesson], images: NDArray[np.int64], seed: int) -> tuple[Any, Any]:
    box_rows, box_kind, open_rows, open_truth = [], [], [], []
    for lesson in lessons:
        inside, outside = np.isin(lesson.box_image, images), np.isin(lesson.open_image, images)
        box_rows.append(lesson.box_rows[inside])
        box_kind.append(lesson.box_kind[inside])
        open_rows.append(lesson.open_rows[outside])
        open_truth.append(lesson.open_is_missing[outside])
    return (
        _fit_one(np.concatenate(box_rows), np.concatenate(box_kind), seed),
        _fit_one(np.concatenate(open_rows), np.concatenate(open_truth), seed),
    )


def _fit_one(rows: NDArray[np.float32], truth: NDArray[np.generic], seed: int) -> Any:
    """Trees, which see thresholds, and a logistic regression on ranks, which needs less to learn
    from; their mean ranked better than either, with a weak detector and with a strong one."""
    from sklearn.ensemble import HistGradientBoostingClassifier, VotingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import QuantileTransformer

    if len(np.unique(truth)) < 2:
        return None
    trees = HistGradientBoostingClassifier(
        max_iter=120,
        learning_rate=0.04,
        max_leaf_nodes=8,
        min_samples_leaf=60,
        l2_regularization=20.0,
        early_stopping=False,
        random_state=seed,
    )
    ranks = QuantileTransformer(
        n_quantiles=min(200, len(rows)), output_distribution="normal", random_state=seed
    )
    line = make_pipeline(ranks, LogisticRegression(C=0.1, max_iter=1000, tol=1e-3))
    return VotingClassifier([("trees", trees), ("line", line)], voting="soft").fit(rows, truth)


def _judge_boxes(
    images: Sequence[int], given: Sequence[BoxSet], witness: Witness, model: Any
) -> list[BoxIssue]:
    """The most probable error of every annotated box of these images."""
    rows = [witness.of_boxes(one, given[one]) for one in images]
    if model is None or not sum(map(len, rows)):
        return []
    told = iter(model.predict_proba(np.concatenate(rows)))
    issues = []
    for image in images:
        boxes, answer = given[image], witness.answers[image]
        iou = box_iou(boxes[0], answer.xyxy)
        for number in range(len(boxes[0])):
            row = next(told)
            by_kind = {
                BOX_KINDS[kind]: float(row[place]) for place, kind in enumerate(model.classes_)
            }
            right = by_kind.pop("right", 0.0)
            kind = max(by_kind, key=lambda name: by_kind[name])
            against = _answer_against(kind, number, boxes, answer, iou)
            issues.append(BoxIssue(image, kind, 1 - right, boxes[0][number], number, against))
    return issues


def _judge_open(
    images: Sequence[int], given: Sequence[BoxSet], witness: Witness, model: Any
) -> list[BoxIssue]:
    """The probability that something is missing, for every answer without an annotation."""
    found = [witness.of_open(one, given[one]) for one in images]
    if model is None or not sum(len(one.answer) for one in found):
        return []
    told = iter(model.predict_proba(np.concatenate([one.evidence for one in found]))[:, 1])
    return [
        BoxIssue(
            image, "missing", float(next(told)), witness.answers[image].xyxy[place], -1, int(place)
        )
        for image, one in zip(images, found, strict=True)
        for place in one.answer
    ]


def _answer_against(
    kind: str, number: int, boxes: BoxSet, answer: Detections, iou: NDArray[np.float32]
) -> int:
    """The surest answer there of another class (swapped), or of any (shifted)."""
    if kind == "spurious" or not len(answer):
        return -1
    weight = iou[number] * answer.confidence
    if kind == "swapped":
        weight = np.where(answer.class_id == boxes[1][number], 0, weight)
    return int(weight.argmax()) if weight.max() > 0 else -1
