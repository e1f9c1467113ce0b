"""What a precision variant loses: the metric and every decision, on real images, end to end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import (
    AttributeProbabilities,
    ClassProbabilities,
    Detections,
    Prediction,
)
from visionloop.core.quality import (
    accuracy_by_class,
    average_precision,
    mean_average_precision,
    separation,
)
from visionloop.serving.images import read_image
from visionloop.serving.package import ModelPackage, load_package
from visionloop.serving.parity import (
    NEAR_THRESHOLD,
    SEARCH_CONFIDENCE,
    Parity,
    compare_predictions,
)
from visionloop.serving.predictor import DEFAULT_CONFIDENCE, Predictor
from visionloop.serving.reference import Reference, ReferenceSample
from visionloop.serving.resize_model import at_size

__all__ = ["Comparer", "VariantParity", "compare_variant", "measure_metric"]

LOWEST_CONFIDENCE = 0.01
"""Boxes count for average precision from here on."""

DEFAULT_METRICS = {
    "classification": "balanced_accuracy",
    "anomaly": "auroc",
    "scene": "macro_average_precision",
    "detection": "map50",
}
DECISION_WEIGHT = 0.3
TIE = 0.02
MAX_PAIRS = 400
"""Confidences that the page plots."""

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class VariantParity:
    """Distance of a variant from its FP32 package.

    Attributes
    ----------
    parity : Parity
        With decisions at the package's thresholds.
    metric : str
    truth : str
        ``annotations``, or ``fp32``: where nothing is annotated FP32's own decisions are right.
    reference_value, value : float
        The metric of FP32 and of the variant, in [0, 1].
    pairs : tuple of (float, float)
        Confidences of FP32 and of the variant, for the page.
    """

    parity: Parity
    metric: str
    truth: str
    reference_value: float
    value: float
    pairs: tuple[tuple[float, float], ...] = ()

    @property
    def loss(self) -> float:
        """How much of the metric is lost, in [-1, 1]; 0.01 is one point."""
        return self.reference_value - self.value

    @property
    def distance(self) -> float:
        """One number to minimise while layers are chosen: metric lost and decisions changed.

        A decision weighs .3, so that the limits of the gate for INT8 (1.5 points, 5 % of the
        decisions) count alike.
        """
        return max(self.loss, 0.0) + DECISION_WEIGHT * (1 - self.parity.agreement)

    def as_row(self) -> dict[str, Any]:
        """The numbers by name, without those of single images."""
        return {
            **self.parity.as_row(),
            "same_images": self.parity.same_images,
            "metric": self.metric,
            "truth": self.truth,
            "reference_value": self.reference_value,
            "value": self.value,
            "loss": self.loss,
        }


class Comparer:
    """FP32's answers on some images, computed once, and the distance of other forms from them.

    Parameters
    ----------
    package : ModelPackage
    images : sequence of uint8 arrays (H, W, 3), BGR
    samples : sequence of ReferenceSample
        One an image.
    metric : str
        Empty takes the usual one of the vision task.
    """

    def __init__(
        self,
        package: ModelPackage,
        images: Sequence[Image],
        samples: Sequence[ReferenceSample],
        *,
        metric: str = "",
    ) -> None:
        self._package, self._images, self._samples = package, list(images), list(samples)
        manifest = package.manifest
        self._embeds = manifest.vision_task == "embedding"
        self.metric = metric or DEFAULT_METRICS.get(manifest.vision_task, "cosine")
        self._limits = np.array(
            [manifest.thresholds.get(name, DEFAULT_CONFIDENCE) for name in manifest.classes],
            np.float32,
        )
        predictor = Predictor(package, threads=1)
        if self._embeds:
            self._vectors = predictor.embed(self._images)
        else:
            self.answers = self._predict(predictor)

    def compare(self, predictor: Predictor) -> VariantParity:
        """Distance of another form of the package, run by ``predictor``."""
        if self._embeds:
            return self._compare_vectors(predictor.embed(self._images))
        answers = self._predict(predictor)
        low = max(min(SEARCH_CONFIDENCE, float(self._limits.min(initial=1)) / 2), LOWEST_CONFIDENCE)
        parity = compare_predictions(
            [_above(one, low) for one in self.answers],
            [_above(one, low) for one in answers],
            counts_from=self._limits if len(self._limits) else 0.25,
            near=NEAR_THRESHOLD,
        )
        values = self._metric_values(answers, parity)
        return VariantParity(parity, *values, pairs=_confidence_pairs(self.answers, answers))

    def _predict(self, predictor: Predictor) -> list[Prediction]:
        return predictor.predict(self._images, minimum_confidence=LOWEST_CONFIDENCE)

    def _metric_values(
        self, answers: list[Prediction], parity: Parity
    ) -> tuple[str, str, float, float]:
        """Metric, its truth, FP32's value and the variant's."""
        classes = len(self._package.manifest.classes)
        answers = [_settle(a, b) for a, b in zip(self.answers, answers, strict=True)]
        if all(one.has_truth for one in self._samples):
            first, second = (
                measure_metric(self.metric, rows, self._samples, classes)
                for rows in (self.answers, answers)
            )
            if np.isfinite(first) and np.isfinite(second):
                return self.metric, "annotations", first, second
        if self._package.manifest.vision_task != "detection":
            return "agreement", "fp32", 1.0, parity.agreement
        own = [_as_sample(one.answer, self._limits) for one in self.answers]
        first, second = (
            measure_metric("map50", rows, own, classes) for rows in (self.answers, answers)
        )
        return "map50", "fp32", first, second

    def _compare_vectors(self, vectors: NDArray[np.float32]) -> VariantParity:
        """Cosine of the angle between the vectors of an image."""
        norms = np.linalg.norm(self._vectors, axis=1) * np.linalg.norm(vectors, axis=1)
        cosine = (self._vectors * vectors).sum(axis=1) / np.maximum(norms, 1e-12)
        difference = abs(self._vectors - vectors).max(axis=1)
        parity = Parity(
            len(vectors),
            float(difference.max()),
            float((cosine > 0.99).mean()),
            by_image=tuple((1 - cosine).clip(0, 0.999).tolist()),
        )
        return VariantParity(parity, "cosine", "fp32", 1.0, float(cosine.mean()))


def measure_metric(
    metric: str, answers: Sequence[Prediction], samples: Sequence[ReferenceSample], classes: int
) -> float:
    """A metric of ``targets.yaml`` on annotated samples; NaN where it is not defined.

    Parameters
    ----------
    metric : str
        ``accuracy``, ``balanced_accuracy``, ``auroc`` (two classes: the second one's),
        ``macro_average_precision``, ``macro_f1``, ``map50`` or ``map50_95``.
    answers, samples : sequences, one an image
    classes : int
    """
    if metric.startswith("map"):
        boxes = [one.boxes() for one in samples]
        found = [one.answer for one in answers if isinstance(one.answer, Detections)]
        steps = [0.5] if metric == "map50" else np.linspace(0.5, 0.95, 10).tolist()
        areas = [mean_average_precision(found, boxes, classes, min_iou=step) for step in steps]
        return float(np.mean(areas))
    rows = np.array([_probabilities(one) for one in answers], np.float64)
    if metric.startswith("macro"):
        holds = np.zeros((len(samples), classes), np.bool_)
        for place, sample in enumerate(samples):
            holds[place, sample.attributes or []] = True
        occurring = np.flatnonzero(holds.any(axis=0))
        if not len(occurring):
            return float("nan")
        if metric == "macro_f1":
            said = rows >= 0.5
            sums = (said.sum(axis=0) + holds.sum(axis=0))[occurring]
            return float((2 * (said & holds).sum(axis=0)[occurring] / sums).mean())
        return float(np.mean([average_precision(rows[:, n], holds[:, n]) for n in occurring]))
    truth = np.array([one.class_id for one in samples], np.int64)
    if metric == "auroc":
        areas = [separation(rows[:, n], truth == n) for n in range(classes)]
        return areas[1] if classes == 2 else float(np.mean(areas))
    chosen = rows.argmax(axis=1)
    if metric == "balanced_accuracy":
        return accuracy_by_class(chosen, truth)
    return float((chosen == truth).mean())


def compare_variant(
    *,
    package: str,
    trusted_keys: list[str],
    model: str,
    images: str,
    reference: dict[str, Any],
    pictures: str = "",
    shown: int = 6,
    size: list[int] | None = None,
) -> dict[str, Any]:
    """Compare a package with another ONNX form of its model on image files.

    Call it apart: a badly converted model has crashed ONNX Runtime.

    Parameters
    ----------
    package, model, images, pictures : str
        Paths: the package, the ONNX file, the folder of images, and a folder for drawings of
        the ``shown`` images on which the two forms differ most (empty draws none).
    trusted_keys : list of str
        Paths of public keys.
    reference : dict
        A :class:`Reference`; all its samples are compared.
    size : list of int or None
        Width and height of the other form's input; None is the package's.

    Returns
    -------
    dict
        :meth:`VariantParity.as_row`, ``pairs``, and ``worst``: file names and differences.
    """
    loaded = load_package(Path(package), trusted_keys=[Path(key) for key in trusted_keys])
    known = Reference.model_validate(reference)
    decoded = [read_image(Path(images) / one.file_name) for one in known.samples]
    comparer = Comparer(loaded, decoded, known.samples, metric=known.metric)
    resized = loaded if size is None else at_size(loaded, size[0], size[1])
    other = Predictor(resized, threads=1, model=Path(model).read_bytes())
    found = comparer.compare(other)
    order = np.argsort(-np.array(found.parity.by_image), kind="stable")[:shown]
    worst = [
        {"file_name": known.samples[one].file_name, "difference": found.parity.by_image[one]}
        for one in order
    ]
    if pictures and loaded.manifest.vision_task != "embedding":
        from visionloop.serving.parity_page import draw_pair

        answers = other.predict([decoded[one] for one in order])
        own = Predictor(loaded, threads=1).predict([decoded[one] for one in order])
        for place, number in enumerate(order):
            path = Path(pictures) / f"{place}.jpg"
            draw_pair(path, decoded[number], own[place], answers[place], loaded.manifest.classes)
    return {**found.as_row(), "pairs": [list(one) for one in found.pairs], "worst": worst}


def _settle(first: Prediction, second: Prediction) -> Prediction:
    """FP32's answer where the two name different classes and both call it a tie.

    A picture on the edge falls to either side by rounding alone, and one of a hundred would
    count for a whole point of the metric.
    """
    a, b = first.answer, second.answer
    if not (isinstance(a, ClassProbabilities) and isinstance(b, ClassProbabilities)):
        return second
    if a.class_id == b.class_id:
        return second
    gap = max(
        float(one.probabilities[one.class_id] - one.probabilities[other.class_id])
        for one, other in ((a, b), (b, a))
    )
    return first if gap <= TIE else second


def _above(prediction: Prediction, confidence: float) -> Prediction:
    answer = prediction.answer
    if not isinstance(answer, Detections):
        return prediction
    return Prediction(answer[answer.confidence >= confidence])


def _as_sample(answer: Any, limits: NDArray[np.float32]) -> ReferenceSample:
    """FP32's reported boxes as if they were the truth."""
    reported = answer[answer.confidence >= limits[answer.class_id]]
    return ReferenceSample(
        file_name="fp32",
        xyxy=reported.xyxy.astype(float).tolist(),
        box_class_id=reported.class_id.tolist(),
    )


def _probabilities(prediction: Prediction) -> NDArray[np.float32]:
    answer = prediction.answer
    if not isinstance(answer, ClassProbabilities | AttributeProbabilities):
        raise ValueError("boxes have no probabilities of the whole picture")
    return answer.probabilities


def _confidence_pairs(
    first: Sequence[Prediction], second: Sequence[Prediction]
) -> tuple[tuple[float, float], ...]:
    """Confidences of the two forms: of probabilities, or of the best partner of each box."""
    pairs: list[tuple[float, float]] = []
    for one, other in zip(first, second, strict=True):
        a, b = one.answer, other.answer
        if isinstance(a, Detections) and isinstance(b, Detections):
            pairs += _box_pairs(a, b)
        else:
            rows = zip(_probabilities(one).tolist(), _probabilities(other).tolist(), strict=True)
            pairs += [(x, y) for x, y in rows][-1:]
    step = max(1, len(pairs) // MAX_PAIRS)
    return tuple((round(x, 4), round(y, 4)) for x, y in pairs[::step])


def _box_pairs(a: Detections, b: Detections) -> list[tuple[float, float]]:
    from visionloop.core.geometry import match_boxes

    pairs = []
    for class_id in np.unique(a.class_id):
        x = a[(a.class_id == class_id) & (a.confidence >= SEARCH_CONFIDENCE)]
        y = b[b.class_id == class_id]
        matched = {row: column for row, column, _ in match_boxes(x.xyxy, y.xyxy, min_iou=0.5)}
        for row, confidence in enumerate(x.confidence.tolist()):
            column = matched.get(row)
            pairs.append((confidence, 0.0 if column is None else float(y.confidence[column])))
    return pairs
