"""What a precision variant loses: the metric and every decision, on real images, end to end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import ClassProbabilities, Detections, Prediction
from visionloop.serving.package import ModelPackage
from visionloop.serving.predictor import DEFAULT_CONFIDENCE, Predictor
from visionloop.serving.variants.answer_metrics import measure_metric
from visionloop.serving.variants.close_calls import NEAR_THRESHOLD
from visionloop.serving.variants.confidence_pairs import (
    expect_changes,
    measure_noise,
    pair_confidences,
    pair_margins,
)
from visionloop.serving.variants.parity import SEARCH_CONFIDENCE, Parity, compare_predictions
from visionloop.serving.variants.reference import ReferenceSample

__all__ = ["Comparer", "VariantParity"]

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
        The metric of FP32 and of the variant, in [0, 1]; ties as FP32 decided them.
    strict_value : float
        The variant's, ties as they fell.
    ties : int
        Pictures of which both forms say that two classes are within .02, and name different ones.
    expected_changes : float
        Share of decisions that differences as large as these change on average.
    pairs : tuple of (float, float)
        Confidences of FP32 and of the variant, for the page.
    """

    parity: Parity
    metric: str
    truth: str
    reference_value: float
    value: float
    strict_value: float
    ties: int = 0
    expected_changes: float = 0.0
    pairs: tuple[tuple[float, float], ...] = ()

    @property
    def loss(self) -> float:
        """How much of the metric is lost, in [-1, 1]; 0.01 is one point."""
        return self.reference_value - self.value

    @property
    def distance(self) -> float:
        """One number to minimise while layers are chosen: metric lost and decisions changed.

        A decision weighs .3, so that the limits of the gate for INT8 (1.5 points, 5 % of the
        decisions) count alike. Where by chance fewer changed than differences of this size
        change on average, the average counts.
        """
        changed = max(1 - self.parity.agreement, self.expected_changes)
        return max(self.loss, 0.0) + DECISION_WEIGHT * changed

    def as_row(self) -> dict[str, Any]:
        """The numbers by name, without those of single images."""
        return {
            **self.parity.as_row(),
            "same_images": self.parity.same_images,
            "strict_agreement": self.parity.strict_agreement,
            "expected_changes": self.expected_changes,
            "ties": self.ties,
            "strict_loss": self.reference_value - self.strict_value,
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
    model : bytes or None
        Another FP32 form of the package's model (at another input); None takes the package's.
    """

    def __init__(
        self,
        package: ModelPackage,
        images: Sequence[Image],
        samples: Sequence[ReferenceSample],
        *,
        metric: str = "",
        model: bytes | None = None,
    ) -> None:
        self._package, self._images, self._samples = package, list(images), list(samples)
        manifest = package.manifest
        self._embeds = manifest.vision_task == "embedding"
        self.metric = metric or DEFAULT_METRICS.get(manifest.vision_task, "cosine")
        self._limits = np.array(
            [manifest.thresholds.get(name, DEFAULT_CONFIDENCE) for name in manifest.classes],
            np.float32,
        )
        predictor = Predictor(package, threads=1, model=model)
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
        settled = [_settle(a, b) for a, b in zip(self.answers, answers, strict=True)]
        ties = sum(a is not b for a, b in zip(settled, answers, strict=True))
        if parity.why_counted:  # what does not look like rounding is no tie either
            settled = answers
        metric, truth, first, second = self._metric_values(settled, parity)
        strict = self._metric_values(answers, parity)[3] if settled is not answers else second
        margins = pair_margins(self.answers, answers, self._limits)
        return VariantParity(
            parity,
            metric,
            truth,
            first,
            second,
            strict,
            ties=ties,
            expected_changes=expect_changes(margins),
            pairs=pair_confidences(self.answers, answers),
        )

    def measure_noise(self, predictor: Predictor, images: int) -> float:
        """How much another form's answers differ on the first images; see :func:`measure_noise`."""
        shown = self._images[:images]
        if self._embeds:
            return 1 - float(_cosines(self._vectors[:images], predictor.embed(shown)).mean())
        answers = predictor.predict(shown, minimum_confidence=LOWEST_CONFIDENCE)
        return measure_noise(self.answers[:images], answers)

    def _predict(self, predictor: Predictor) -> list[Prediction]:
        return predictor.predict(self._images, minimum_confidence=LOWEST_CONFIDENCE)

    def _metric_values(
        self, answers: list[Prediction], parity: Parity
    ) -> tuple[str, str, float, float]:
        """Metric, its truth, FP32's value and the variant's."""
        classes = len(self._package.manifest.classes)
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
        cosine = _cosines(self._vectors, vectors)
        difference = abs(self._vectors - vectors).max(axis=1)
        parity = Parity(
            len(vectors),
            float(difference.max()),
            float((cosine > 0.99).mean()),
            by_image=tuple((1 - cosine).clip(0, 0.999).tolist()),
        )
        value = float(cosine.mean())
        return VariantParity(parity, "cosine", "fp32", 1.0, value, value)


def _cosines(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.asarray((first * second).sum(axis=1) / np.maximum(norms, 1e-12), np.float32)


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
