"""Calibrate a checkpoint on the val split: its temperature, and thresholds by cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from visionloop.core.entities import Answer, Detections
from visionloop.core.geometry import match_boxes
from visionloop.core.progress import track
from visionloop.data.versions.version import DatasetVersion
from visionloop.serving.images import read_image
from visionloop.serving.postprocess import decode
from visionloop.serving.preprocess import make_batch
from visionloop.training.calibration.costs import ClassThreshold, Statements, choose_threshold
from visionloop.training.calibration.network import CalibratedNetwork
from visionloop.training.calibration.temperature import Fit, apply_temperature, fit_temperature
from visionloop.training.checkpoint import CheckpointFacts
from visionloop.training.params import ExportParams

__all__ = ["Calibration", "calibrate"]

BATCH = 8

LEAST_CONFIDENCE = 0.05
"""Boxes below it are no statements: nearly every place of a picture has one."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was found on the val split.

    Attributes
    ----------
    fit : Fit
        Temperature.
    thresholds : dict of class name to ClassThreshold
    statements : dict of class name to Statements
        At this temperature, one row a picture (an object for detection).
    """

    fit: Fit
    thresholds: dict[str, ClassThreshold]
    statements: dict[str, Statements]

    def apply(self, network: torch.nn.Module, kind: str) -> torch.nn.Module:
        """The network, calibrated."""
        if self.fit.temperature == 1:
            return network
        wrapped = CalibratedNetwork(network, kind=kind, temperature=self.fit.temperature)
        return wrapped.eval()

    def as_row(self) -> dict[str, Any]:
        """For ``calibration.json``."""
        return {
            **asdict(self.fit),
            "thresholds": {name: asdict(one) for name, one in self.thresholds.items()},
        }


def calibrate(
    network: torch.nn.Module,
    *,
    facts: CheckpointFacts,
    kind: str,
    version: DatasetVersion,
    params: ExportParams,
) -> Calibration:
    """Calibrate a network on the val split of a dataset version.

    Parameters
    ----------
    network : Module
        In evaluation mode, as the family builds it.
    facts : CheckpointFacts
    kind : str
        ``outputs.kind`` of its family.
    version : DatasetVersion
    params : ExportParams

    Returns
    -------
    Calibration
        Temperature 1 and the default thresholds where the val split is too small, with
        the reason. Anomaly packages have a limit of their own, and keep it.
    """
    wanted = params.calibration
    rows = version.split("val").head(wanted.max_samples)
    ids = [str(one) for one in rows["sample_id"]]
    if facts.vision_task == "anomaly" or not ids:
        why = "the limit of normal pictures is its calibration" if ids else "there is no val split"
        return Calibration(Fit(why_not=why), {}, {})
    answers = list(_answers(network, facts, kind, version, ids, params.max_iou))
    fit = Fit(why_not="switched off")
    if wanted.temperature:
        pairs = _pairs(facts.vision_task, version, ids, answers)
        fit = fit_temperature(*pairs, min_samples=wanted.min_samples)
    statements = _statements(facts, version, ids, answers, fit.temperature)
    thresholds = {name: _threshold(name, said, params) for name, said in statements.items()}
    return Calibration(fit, thresholds if wanted.thresholds == "cost" else {}, statements)


def _threshold(name: str, said: Statements, params: ExportParams) -> ClassThreshold:
    wanted = params.calibration
    return choose_threshold(
        said,
        default=params.min_confidence,
        miss_cost=wanted.class_miss_costs.get(name, wanted.miss_cost),
        false_alarm_cost=wanted.false_alarm_cost,
        min_support=wanted.min_class_samples,
    )


def _answers(
    network: torch.nn.Module,
    facts: CheckpointFacts,
    kind: str,
    version: DatasetVersion,
    ids: Sequence[str],
    max_iou: float,
) -> Iterator[Answer]:
    smallest = np.full(len(facts.classes), LEAST_CONFIDENCE, np.float32)
    starts = range(0, len(ids), BATCH)
    for start in track(starts, "calibrating on the val split"):
        images = [read_image(version.image_path(one)) for one in ids[start : start + BATCH]]
        batch, placements = make_batch(images, facts.input)
        with torch.inference_mode():
            output = network(torch.from_numpy(batch))[0].numpy()
        yield from decode(
            output, placements, kind=kind, minimum_confidence=smallest, max_iou=max_iou
        )


def _pairs(
    vision_task: str, version: DatasetVersion, ids: Sequence[str], answers: Sequence[Answer]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities (N, C) and truth (N,): pictures, or yes-or-no rows of attributes and boxes."""
    if vision_task == "classification":
        rows = [one.probabilities for one in answers if not isinstance(one, Detections)]
        return np.array(rows, np.float64), version.class_ids(ids)
    if vision_task == "scene":
        given: NDArray[Any] = version.attributes(ids).ravel()
        sure = [one.probabilities for one in answers if not isinstance(one, Detections)]
        yes = np.concatenate(sure).astype(np.float64)
    else:
        said = [_matched(version, one, answer) for one, answer in zip(ids, answers, strict=True)]
        yes = np.concatenate([boxes.confidence for boxes, _ in said]).astype(np.float64)
        given = np.concatenate([is_true for _, is_true in said])
    return np.stack([1 - yes, yes], axis=1), given.astype(np.int64)


def _statements(
    facts: CheckpointFacts,
    version: DatasetVersion,
    ids: Sequence[str],
    answers: Sequence[Answer],
    temperature: float,
) -> dict[str, Statements]:
    """By class, at this temperature."""
    if facts.vision_task == "detection":
        return _box_statements(facts, version, ids, answers, temperature)
    rows = [one.probabilities for one in answers if not isinstance(one, Detections)]
    probabilities = np.array(rows, np.float64)
    is_true: NDArray[Any]
    if facts.vision_task == "scene":
        is_true = version.attributes(ids)
        probabilities = _yes_or_no(probabilities.ravel(), temperature).reshape(is_true.shape)
    else:
        numbers = np.arange(len(facts.classes))
        is_true = np.equal(version.class_ids(ids)[:, None], numbers)
        probabilities = apply_temperature(probabilities, temperature)
    return {
        name: Statements(probabilities[:, number], is_true[:, number])
        for number, name in enumerate(facts.classes)
    }


def _box_statements(
    facts: CheckpointFacts,
    version: DatasetVersion,
    ids: Sequence[str],
    answers: Sequence[Answer],
    temperature: float,
) -> dict[str, Statements]:
    found = [_matched(version, one, answer) for one, answer in zip(ids, answers, strict=True)]
    class_id = np.concatenate([boxes.class_id for boxes, _ in found])
    confidence = np.concatenate([boxes.confidence for boxes, _ in found]).astype(np.float64)
    confidence = _yes_or_no(confidence, temperature)
    is_true = np.concatenate([true for _, true in found])
    truths = np.concatenate([version.boxes(one)[1] for one in ids])
    lowest = float(_yes_or_no(np.array([LEAST_CONFIDENCE]), temperature)[0])
    statements = {}
    for number, name in enumerate(facts.classes):
        chosen = class_id == number
        missed = int((truths == number).sum() - is_true[chosen].sum())
        statements[name] = Statements(confidence[chosen], is_true[chosen], missed, lowest)
    return statements


def _matched(
    version: DatasetVersion, sample_id: str, answer: Answer
) -> tuple[Detections, NDArray[np.bool_]]:
    """The boxes of an answer, and which of them have a true one of their class (IoU >= 0.5)."""
    assert isinstance(answer, Detections)
    xyxy, class_id = version.boxes(sample_id)
    is_true = np.zeros(len(answer), np.bool_)
    for number in np.unique(answer.class_id):
        own = np.flatnonzero(answer.class_id == number)
        pairs = match_boxes(answer.xyxy[own], xyxy[class_id == number], min_iou=0.5)
        is_true[own[[row for row, _, _ in pairs]]] = True
    return answer, is_true


def _yes_or_no(confidence: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    pairs = np.stack([1 - confidence, confidence], axis=1)
    return apply_temperature(pairs, temperature)[:, 1]
