"""A package's answers on the test samples, with the truth beside them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from visionloop.core.config import ONE_CLASS_TASKS
from visionloop.core.entities import (
    Answer as SampleAnswer,
)
from visionloop.core.entities import (
    AttributeProbabilities,
    ClassProbabilities,
    Detections,
    Prediction,
)
from visionloop.core.errors import DataError
from visionloop.core.progress import track
from visionloop.core.tables import PREDICTIONS, read_table, write_table
from visionloop.data.versions.version import DatasetVersion
from visionloop.evaluation.attributes import AttributeMetrics
from visionloop.evaluation.classification import ClassificationMetrics
from visionloop.evaluation.coco_metrics import Truth
from visionloop.evaluation.detection import DetectionMetrics
from visionloop.serving.images import read_image

if TYPE_CHECKING:
    import pandas

    from visionloop.serving.predictor import Predictor

__all__ = [
    "AnsweredSamples",
    "Metrics",
    "answer_samples",
    "load_answers",
    "machine_name",
    "save_answers",
    "truth_of",
]

Metrics = ClassificationMetrics | AttributeMetrics | DetectionMetrics
Image = NDArray[np.uint8]
Row = TypeVar("Row")
Answer = TypeVar("Answer")

PREDICTIONS_NAME = "predictions.parquet"
WARM_UP_CALLS = 3


@dataclass(frozen=True, eq=False)
class AnsweredSamples:
    """Samples, what people said of them, and what a package says.

    Attributes
    ----------
    samples : DataFrame
        One row a sample: ``sample_id``, ``group`` and every metadata column.
    truths : list of Truth
    answers : list of ClassProbabilities, of AttributeProbabilities or of Detections
    vision_task : str
    classes : list of str
    thresholds : dict
        Of the package, by class.
    """

    samples: pandas.DataFrame
    truths: list[Truth]
    answers: Sequence[SampleAnswer]
    vision_task: str
    classes: list[str]
    thresholds: dict[str, float]

    def metrics(self) -> Metrics:
        """What computes metrics of these samples, and of resamplings of them."""
        if self.vision_task == "scene":
            return self._attribute_metrics()
        if self.vision_task in ONE_CLASS_TASKS:
            truth = np.array([one.class_id[0] for one in self.truths], np.int64)
            rows = [a.probabilities for a in self.answers if isinstance(a, ClassProbabilities)]
            probabilities = np.array(rows, np.float64).reshape(-1, len(self.classes))
            return ClassificationMetrics(truth, probabilities, self.classes)
        boxes = [answer for answer in self.answers if isinstance(answer, Detections)]
        return DetectionMetrics(self.truths, boxes, self.classes, self.thresholds)

    def _attribute_metrics(self) -> AttributeMetrics:
        truth = np.zeros((len(self.truths), len(self.classes)), np.bool_)
        for row, one in zip(truth, self.truths, strict=True):
            row[one.class_id] = True
        rows = [a.probabilities for a in self.answers if isinstance(a, AttributeProbabilities)]
        return AttributeMetrics(truth, np.array(rows, np.float64), self.classes, self.thresholds)

    def take(self, rows: NDArray[np.int64]) -> AnsweredSamples:
        """The same for some of the samples."""
        return AnsweredSamples(
            self.samples.iloc[rows].reset_index(drop=True),
            [self.truths[row] for row in rows],
            [self.answers[row] for row in rows],
            self.vision_task,
            self.classes,
            self.thresholds,
        )

    def groups(self) -> list[str]:
        """The group of each sample."""
        return [str(group) for group in self.samples["group"]]


def truth_of(version: DatasetVersion, sample_id: str) -> Truth:
    """What people said of a sample of a dataset version."""
    if version.vision_task == "scene":
        given = np.flatnonzero(version.attributes([sample_id])[0])
        return Truth(given.astype(np.int64), np.zeros((0, 4), np.float32))
    if version.vision_task in ONE_CLASS_TASKS:
        return Truth(version.class_ids([sample_id]), np.zeros((0, 4), np.float32))
    xyxy, class_id = version.boxes(sample_id)
    return Truth(class_id, xyxy)


def answer_samples(
    predictor: Predictor,
    version: DatasetVersion,
    samples: pandas.DataFrame,
    *,
    minimum_confidence: float,
    description: str,
    distort: Callable[[Image, str], Image] | None = None,
    workers: int = 1,
) -> tuple[list[Prediction], list[float]]:
    """Ask a package about samples, one picture a call.

    Parameters
    ----------
    samples : DataFrame
        Rows of ``version.samples``.
    minimum_confidence : float
        Of a box (detection).
    distort : function of (image, sample_id) or None
        Changes each picture before it is asked about.
    workers : int
        Pictures at a time; with more than 1 the milliseconds say nothing.

    Returns
    -------
    predictions : list of Prediction
    milliseconds : list of float
        Of each call, from the decoded picture to the answer; warm-up calls are made
        before the first.

    Raises
    ------
    DataError
        Naming all image files that are missing, or one that is damaged.
    """
    paths = [version.images / str(name) for name in samples["file_name"]]
    if missing := [path for path in paths if not path.is_file()]:
        raise DataError(
            f"dataset version {version.name}",
            [f"image {path} is missing" for path in missing[:20]]
            + ([f"and {len(missing) - 20} more"] if len(missing) > 20 else []),
            "dvc pull brings the images of a version back",
        )

    def answer(row: tuple[str, Path]) -> tuple[Prediction, float]:
        sample_id, path = row
        image = read_image(path)
        if distort is not None:
            image = distort(image, sample_id)
        found, timings = predictor.predict_timed([image], minimum_confidence=minimum_confidence)
        return found[0], timings.total

    rows = [(str(name), path) for name, path in zip(samples["sample_id"], paths, strict=True)]
    for row in rows[:1] * WARM_UP_CALLS:
        answer(row)
    found = list(track(_map(answer, rows, workers), description, total=len(rows)))
    return [prediction for prediction, _ in found], [spent for _, spent in found]


def _map(work: Callable[[Row], Answer], rows: list[Row], workers: int) -> Iterator[Answer]:
    """Work on the rows in threads, in order; an interrupt does not wait for those to come.

    A package answers and OpenCV distorts without holding Python's lock, and one thread a
    picture is faster than several threads on one.
    """
    if workers == 1:
        yield from map(work, rows)
        return
    pool = ThreadPoolExecutor(workers)
    try:
        yield from pool.map(work, rows)
    finally:
        pool.shutdown(cancel_futures=True)


def save_answers(
    folder: Path, answered: AnsweredSamples, predictions: Sequence[Prediction], package: str
) -> Path:
    """Write ``predictions.parquet``: PREDICTIONS, the truth and the samples' metadata.

    The folder can then be compared with another without the dataset version.
    """
    frame = answered.samples.copy()
    boxes = [one if isinstance(one, Detections) else None for one in answered.answers]
    frame["package"] = package
    frame["fold"] = -1
    frame["probabilities"] = [
        None if isinstance(one, Detections) else one.probabilities.tolist()
        for one in answered.answers
    ]
    frame["xyxy"] = [None if one is None else one.xyxy.tolist() for one in boxes]
    frame["class_id"] = [None if one is None else one.class_id.tolist() for one in boxes]
    frame["confidence"] = [None if one is None else one.confidence.tolist() for one in boxes]
    frame["embedding"] = [
        None if one.embedding is None else one.embedding.astype(np.float32) for one in predictions
    ]
    frame["true_class_id"] = [truth.class_id.tolist() for truth in answered.truths]
    frame["true_xyxy"] = [truth.xyxy.tolist() for truth in answered.truths]
    return write_table(folder / PREDICTIONS_NAME, PREDICTIONS, frame)


def load_answers(
    folder: Path, *, vision_task: str, classes: list[str], thresholds: dict[str, float]
) -> AnsweredSamples:
    """Read what :func:`save_answers` wrote.

    Raises
    ------
    DataError
        If the table is missing, damaged, or was not written by an evaluation.
    """
    path = folder / PREDICTIONS_NAME
    frame = read_table(path, PREDICTIONS)
    if lacking := [name for name in ("true_class_id", "true_xyxy", "group") if name not in frame]:
        raise DataError(
            str(path),
            f"holds no truth (lacks {', '.join(lacking)})",
            "visionloop evaluate evaluate writes it",
        )
    truths = [
        Truth(np.array(list(class_id), np.int64), _boxes(xyxy))
        for class_id, xyxy in zip(frame["true_class_id"], frame["true_xyxy"], strict=True)
    ]
    answers: Sequence[SampleAnswer]
    if vision_task != "detection":
        make = AttributeProbabilities if vision_task == "scene" else ClassProbabilities
        answers = [make(np.array(row, np.float32)) for row in frame["probabilities"]]
    else:
        columns = (frame["xyxy"], frame["class_id"], frame["confidence"])
        answers = [
            Detections(_boxes(xyxy), np.array(class_id, np.int64), np.array(confidence, np.float32))
            for xyxy, class_id, confidence in zip(*columns, strict=True)
        ]
    return AnsweredSamples(frame, truths, answers, vision_task, classes, thresholds)


def machine_name() -> str:
    """Processor and number of cores of this machine."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            model = next(line for line in file if line.startswith("model name")).split(":")[1]
    except (OSError, StopIteration):
        import platform

        model = platform.machine()
    return f"{' '.join(model.split())}, {os.cpu_count()} cores"


def _boxes(rows: Any) -> NDArray[np.float32]:
    return np.array([list(row) for row in rows], np.float32).reshape(-1, 4)
