"""What a detector's answers say about each annotated box, and about each place without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Detections
from visionloop.core.geometry import box_area, box_iou
from visionloop.data.quality.planted_errors import BoxSet

__all__ = ["Candidates", "ClassReader", "box_evidence", "find_candidates"]

SAME_PLACE = 0.5
NEARBY = 0.1
APART = 0.3
"""IoU below which an answer and all annotated boxes are about different objects."""
MAX_CANDIDATES = 30


@dataclass(frozen=True, eq=False)
class Candidates:
    """Answers where nothing is annotated.

    Attributes
    ----------
    answer : int64 array (M,)
        Index of each among the answers.
    evidence : float32 array (M, F)
    """

    answer: NDArray[np.int64]
    evidence: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ClassReader:
    """What class a box probably has, read from everything the detector says at its place.

    A weak detector confuses classes in its own way; a logistic regression on its confidences in
    all classes, fitted to the annotations of other images, undoes that.

    Attributes
    ----------
    classes : int
    model : object
        None says nothing: every class is as probable.
    """

    classes: int
    model: Any

    @classmethod
    def learn(
        cls, given: Sequence[BoxSet], answers: Sequence[Detections], classes: int
    ) -> ClassReader:
        """Fit to annotated boxes and the answers of a detector that did not learn them."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        rows = [
            _said_of_classes(boxes[0], answer, classes)
            for boxes, answer in zip(given, answers, strict=True)
        ]
        truth = np.concatenate([class_id for _, class_id in given])
        if len(np.unique(truth)) < 2:
            return cls(classes, None)
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.5, max_iter=1000))
        return cls(classes, model.fit(np.concatenate(rows), truth))

    def read(self, xyxy: NDArray[np.float32], answer: Detections) -> NDArray[np.float32]:
        """Probability of each class, float32 (N, C)."""
        told = np.full((len(xyxy), self.classes), 1 / self.classes, np.float32)
        if self.model is not None and len(xyxy):
            told[:] = 1e-3
            found = self.model.predict_proba(_said_of_classes(xyxy, answer, self.classes))
            told[:, self.model.classes_] = found
        return told


def _said_of_classes(
    xyxy: NDArray[np.float32], answer: Detections, classes: int
) -> NDArray[np.float32]:
    """Log confidence in each class at each box (less where an answer fits badly), and its shape."""
    iou = box_iou(xyxy, answer.xyxy)
    weight = answer.confidence[None] * np.minimum(iou / SAME_PLACE, 1) ** 2
    columns = [
        np.log(_highest(weight, np.broadcast_to(answer.class_id == number, iou.shape)) + 0.005)
        for number in range(classes)
    ]
    size = np.maximum(xyxy[:, 2:] - xyxy[:, :2], 1)
    shape = [np.log(size[:, 0] * size[:, 1]), np.log(size[:, 0] / size[:, 1])]
    return np.stack([*columns, *shape], axis=1).astype(np.float32)


def _highest(values: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Largest value of each row where the mask is true, else 0."""
    return np.asarray(np.where(mask, values, 0).max(axis=1, initial=0), np.float32)


def box_evidence(
    boxes: BoxSet, answer: Detections, usual: NDArray[np.float32], reader: ClassReader
) -> NDArray[np.float32]:
    """Evidence on annotated boxes: float32 (N, F).

    Parameters
    ----------
    boxes : BoxSet
    answer : Detections
        Down to a low confidence.
    usual : float32 array (C, 2)
        Of each class, how sure the detector usually is of a box like it: mean confidence for
        the class and for the surest other class.
    reader : ClassReader
        Fitted to other images.
    """
    xyxy, class_id = boxes
    iou = box_iou(xyxy, answer.xyxy)
    sure = np.broadcast_to(answer.confidence, iou.shape)
    same = answer.class_id[None] == class_id[:, None]
    here, near = iou >= SAME_PLACE, iou >= NEARBY
    own, other = _highest(sure, here & same), _highest(sure, here & ~same)
    # An answer that fits another annotated box speaks for that one.
    taken = _taken_by_others(xyxy, iou)
    free = near & ~taken
    rows = np.arange(len(xyxy))
    nothing: NDArray[np.float32] = np.zeros(len(xyxy), np.float32)
    best_iou = best_sure = offset = scale = nothing
    if len(answer):
        weight = np.where(free, iou * sure, 0)
        best = weight.argmax(axis=1)
        best_iou = np.asarray(iou[rows, best])
        best_sure = np.asarray(np.where(weight.max(axis=1) > 0, sure[rows, best], 0), np.float32)
        offset, scale = _misfit(xyxy, answer, best)
    among = box_iou(xyxy, xyxy)
    np.fill_diagonal(among, 0)
    told = np.log(reader.read(xyxy, answer) + 1e-3)
    said = told[rows, class_id]
    told[rows, class_id] = -np.inf
    return np.stack(
        [
            own,
            other,
            own - other,
            _highest(sure, free),
            _highest(sure, free & ~here),
            _highest(iou, free),
            best_iou,
            best_sure,
            offset,
            scale,
            _highest(iou * sure, free & same),
            own - usual[class_id, 0],
            other - usual[class_id, 1],
            usual[class_id, 0],
            np.log(box_area(xyxy) + 1),
            among.max(axis=1, initial=0),
            said,
            said - told.max(axis=1, initial=-10),
        ],
        axis=1,
    ).astype(np.float32)


def _taken_by_others(xyxy: NDArray[np.float32], iou: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Answers that fit another box of the image well and better than this one."""
    if not iou.size:
        return np.zeros(iou.shape, np.bool_)
    best = iou.max(axis=0)
    return np.asarray((best[None] >= SAME_PLACE) & (iou < best[None]))


def _misfit(
    xyxy: NDArray[np.float32], answer: Detections, best: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Distance of the centres and difference of the sides, as shares of the annotated box."""
    found = answer.xyxy[best]
    size = np.maximum(xyxy[:, 2:] - xyxy[:, :2], 1)
    centre = (found[:, :2] + found[:, 2:] - xyxy[:, :2] - xyxy[:, 2:]) / 2
    ratio = np.maximum(found[:, 2:] - found[:, :2], 1) / size
    offset = np.minimum(np.abs(centre / size).max(axis=1), 3)
    scale = np.minimum(np.abs(np.log(ratio)).max(axis=1), 3)
    return offset.astype(np.float32), scale.astype(np.float32)


def find_candidates(boxes: BoxSet, answer: Detections, usual: NDArray[np.float32]) -> Candidates:
    """Answers where nothing is annotated: the surest of each place, with its evidence."""
    xyxy, _ = boxes
    iou = box_iou(answer.xyxy, xyxy)
    closest = iou.max(axis=1, initial=0)
    open_ones = np.flatnonzero(closest < APART)
    order = open_ones[np.argsort(-answer.confidence[open_ones], kind="stable")]
    among = box_iou(answer.xyxy, answer.xyxy)
    chosen: list[int] = []
    for number in order:
        if len(chosen) == MAX_CANDIDATES:
            break
        if not chosen or among[number, chosen].max() < SAME_PLACE:
            chosen.append(int(number))
    picked = np.array(chosen, np.int64)
    if not len(picked):
        return Candidates(picked, np.zeros((0, 7), np.float32))
    sure = answer.confidence[picked]
    overlapping = among[picked] >= SAME_PLACE
    support = (np.where(overlapping, answer.confidence[None], 0)).sum(axis=1) - sure
    evidence = [
        sure,
        closest[picked],
        support,
        sure - usual[answer.class_id[picked], 0],
        usual[answer.class_id[picked], 0],
        np.log(box_area(answer.xyxy[picked]) + 1),
        np.full(len(picked), float(np.log1p(len(xyxy)))),
    ]
    return Candidates(picked, np.stack(evidence, axis=1).astype(np.float32))
