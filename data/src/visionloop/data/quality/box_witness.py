"""Everything that speaks for or against the boxes of an image, gathered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Detections
from visionloop.data.quality.box_evidence import (
    Candidates,
    ClassReader,
    box_evidence,
    find_candidates,
)
from visionloop.data.quality.crop_evidence import CropEvidence, Picture
from visionloop.data.quality.planted_errors import BoxSet, SpoiltImage

__all__ = ["Witness"]


@dataclass(frozen=True, eq=False)
class Witness:
    """A detector's answers and the pictures, as evidence.

    Attributes
    ----------
    answers : sequence of Detections
    usual : float32 array (C, 2)
        How sure the detector usually is; see :func:`.box_evidence.box_evidence`.
    readers : sequence of ClassReader
        Of each image, one that was fitted to other images.
    crops : CropEvidence
    """

    answers: Sequence[Detections]
    usual: NDArray[np.float32]
    readers: Sequence[ClassReader]
    crops: CropEvidence

    @classmethod
    def call(
        cls,
        given: Sequence[BoxSet],
        answers: Sequence[Detections],
        pictures: Sequence[Picture] | None,
        rounds: Sequence[Sequence[SpoiltImage]],
        classes: int,
        fold_of: NDArray[np.int64],
        seed: int,
    ) -> Witness:
        """Learn from the images of the other folds what speaks about those of one.

        Parameters
        ----------
        given, answers, pictures
            One of each an image; pictures may be None.
        rounds : sequence of rounds of planted errors
            Each holds every image.
        classes : int
        fold_of : int64 array
            Of each image.
        seed : int
        """
        usual = _usual_confidence(given, answers, classes)
        readers = _learn_classes(given, answers, classes, fold_of)
        asked, unannotated = [], []
        if pictures is not None:
            asked = _boxes_to_read(given, rounds, answers, usual)
            unannotated = [
                answer.xyxy[find_candidates(boxes, answer, usual).answer]
                for boxes, answer in zip(given, answers, strict=True)
            ]
        crops = CropEvidence.learn(pictures, asked, unannotated, rounds, classes, fold_of, seed)
        return cls(answers, usual, readers, crops)

    def of_boxes(self, image: int, boxes: BoxSet) -> NDArray[np.float32]:
        """Evidence (N, F) on annotated boxes."""
        rows = box_evidence(boxes, self.answers[image], self.usual, self.readers[image])
        return np.concatenate([rows, self.crops.read(image, *boxes)], axis=1)

    def of_open(self, image: int, boxes: BoxSet) -> Candidates:
        """Answers without a box, with their evidence."""
        answer = self.answers[image]
        found = find_candidates(boxes, answer, self.usual)
        crops = self.crops.read(image, answer.xyxy[found.answer], answer.class_id[found.answer])
        return Candidates(found.answer, np.concatenate([found.evidence, crops], axis=1))


def _boxes_to_read(
    given: Sequence[BoxSet],
    rounds: Sequence[Sequence[SpoiltImage]],
    answers: Sequence[Detections],
    usual: NDArray[np.float32],
) -> list[NDArray[np.float32]]:
    """Of each image, its boxes and all answers that were ever without one."""
    asked = []
    for image, (boxes, answer) in enumerate(zip(given, answers, strict=True)):
        every = [boxes, *(one[image].boxes for one in rounds)]
        picked = [find_candidates(one, answer, usual).answer for one in every]
        asked.append(np.concatenate([boxes[0], answer.xyxy[np.unique(np.concatenate(picked))]]))
    return asked


def _learn_classes(
    given: Sequence[BoxSet],
    answers: Sequence[Detections],
    classes: int,
    fold_of: NDArray[np.int64],
) -> list[ClassReader]:
    """For each image, a reader of classes that was fitted to the other folds."""
    of_fold = []
    for fold in range(int(fold_of.max()) + 1):
        others = np.flatnonzero(fold_of != fold)
        chosen = [given[image] for image in others], [answers[image] for image in others]
        of_fold.append(ClassReader.learn(*chosen, classes))
    return [of_fold[fold] for fold in fold_of]


def _usual_confidence(
    given: Sequence[BoxSet], answers: Sequence[Detections], classes: int
) -> NDArray[np.float32]:
    """Mean confidence in the class, and in the surest other class, of boxes of each class."""
    total, count = np.full((classes, 2), 0.1), np.full((classes, 1), 1.0)
    plain, reader = np.zeros((classes, 2), np.float32), ClassReader(classes, None)
    for boxes, answer in zip(given, answers, strict=True):
        seen = box_evidence(boxes, answer, plain, reader)[:, :2]
        np.add.at(total, boxes[1], seen)
        np.add.at(count, boxes[1], 1)
    return np.asarray(total / count, np.float32)
