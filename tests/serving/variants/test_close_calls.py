"""Close calls are excused while they look like rounding; drift and coarse confidences are not."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import load_model_from_string, numpy_helper

from visionloop.core.entities import (
    AttributeProbabilities,
    ClassProbabilities,
    Detections,
    Prediction,
)
from visionloop.core.targets import ParityTargets
from visionloop.serving.package import load_package
from visionloop.serving.predictor import Predictor
from visionloop.serving.variants.close_calls import NEAR_THRESHOLD, CloseCalls
from visionloop.serving.variants.confidence_pairs import expect_changes, measure_noise, pair_margins
from visionloop.serving.variants.loss import Comparer
from visionloop.serving.variants.make import judge_variant
from visionloop.serving.variants.parity import compare_predictions
from visionloop.serving.variants.reference import ReferenceSample

LIMITS = ParityTargets()


def boxes(confidences) -> Prediction:
    """One box a confidence, far from each other."""
    places = np.arange(len(confidences), dtype=np.float32)[:, None] * 40
    xyxy = np.concatenate([places, places, places + 20, places + 20], axis=1)
    return Prediction(
        Detections(xyxy, np.zeros(len(confidences), np.int64), np.asarray(confidences, np.float32))
    )


def classes(probabilities) -> list[Prediction]:
    return [Prediction(ClassProbabilities(np.array([1 - p, p], np.float32))) for p in probabilities]


def test_rounding_tips_both_ways_and_is_excused() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.1, 0.9, 400)
    found = compare_predictions(
        [boxes(truth)], [boxes(truth + rng.normal(0, 0.012, 400))], near=NEAR_THRESHOLD
    )
    assert found.close_calls >= 3 and found.why_counted == ""
    assert found.agreement == 1 > found.strict_agreement
    assert found.strict_agreement == pytest.approx(1 - found.close_calls / found.decisions)


@pytest.mark.parametrize(("shift", "word"), [(0.02, "appear"), (-0.02, "vanish")])
def test_confidences_that_drift_are_not_excused(shift, word) -> None:
    truth = np.linspace(0.1, 0.9, 400)  # ten of them lie within the shift of the threshold
    found = compare_predictions([boxes(truth)], [boxes(truth + shift)], near=NEAR_THRESHOLD)
    assert word in found.why_counted and "drifted" in found.why_counted
    assert found.close_calls == pytest.approx(10, abs=1)
    assert found.agreement == found.strict_agreement < 1


def test_too_many_are_not_excused_even_if_they_go_both_ways() -> None:
    truth = np.where(np.arange(100) % 2, 0.26, 0.24)
    found = compare_predictions([boxes(truth)], [boxes(0.5 - truth)], near=NEAR_THRESHOLD)
    assert found.close_calls == found.decisions == 100
    assert "more than 5%" in found.why_counted and found.agreement == 0


def test_a_fall_from_far_above_to_just_below_is_a_change() -> None:
    found = compare_predictions([boxes([0.9])], [boxes([0.22])], near=NEAR_THRESHOLD)
    assert (found.close_calls, found.agreement) == (0, 0)
    found = compare_predictions([boxes([0.27])], [boxes([0.22])], near=NEAR_THRESHOLD)
    assert (found.close_calls, found.agreement) == (1, 1)
    found = compare_predictions([boxes([0.27])], [boxes([0.19])], near=NEAR_THRESHOLD)
    assert (found.close_calls, found.agreement) == (0, 0)


def test_classes_and_attributes_are_judged_alike() -> None:
    first = classes([0.49] * 8 + [0.1] * 192)
    drifted = compare_predictions(first, classes([0.515] * 8 + [0.1] * 192), near=NEAR_THRESHOLD)
    assert "8 of 8 close calls of class 0 vanish" in drifted.why_counted
    assert drifted.agreement == pytest.approx(192 / 200)
    mixed = compare_predictions(
        classes([0.49] * 4 + [0.51] * 4 + [0.1] * 192),
        classes([0.51] * 4 + [0.49] * 4 + [0.1] * 192),
        near=NEAR_THRESHOLD,
    )
    assert mixed.why_counted == "" and (mixed.close_calls, mixed.agreement) == (8, 1)

    def attributes(values) -> list[Prediction]:
        return [Prediction(AttributeProbabilities(np.array([v, 0.9], np.float32))) for v in values]

    found = compare_predictions(
        attributes([0.48, 0.52, 0.9]), attributes([0.52, 0.48, 0.2]), near=NEAR_THRESHOLD
    )
    assert found.close_calls == 1 or found.why_counted  # two of three are more than a few
    assert found.agreement < 1 and found.by_image[2] >= 1


def test_a_single_call_among_few_decisions_is_excused() -> None:
    calls = CloseCalls()
    calls.add(gained=[1], lost=[0])
    assert calls.why_counted(4) == ""
    calls.add(gained=[0], lost=[1])
    assert "more than 5%" in calls.why_counted(4)


def test_expected_changes_follow_margins_and_noise() -> None:
    rng = np.random.default_rng(2)
    truth = rng.uniform(0.05, 0.95, 3000)
    noisy = truth + rng.normal(0, 0.03, 3000)
    first, second = classes(truth), classes(noisy)
    expected = expect_changes(pair_margins(first, second, np.zeros(0, np.float32)))
    changed = np.mean((truth > 0.5) != (noisy > 0.5))
    assert expected == pytest.approx(changed, rel=0.3)
    few = expect_changes(pair_margins(first[:20], second[:20], np.zeros(0, np.float32)))
    assert few > 0  # although nothing may have changed on twenty pictures
    assert expect_changes(pair_margins(first, first, np.zeros(0, np.float32))) == 0
    assert measure_noise(first, second) == pytest.approx(0.03, rel=0.1)
    assert measure_noise([boxes([0.5, 0.8])], [boxes([0.5, 0.8])]) == 0
    assert measure_noise([boxes([0.5, 0.8])], [boxes([0.5])]) > 0.5


@pytest.fixture
def comparer(tiny, kit):
    """A classifier, and pictures around its threshold: the answers lie within .1 of one half."""
    package = load_package(tiny.classifier(gain=3.0))
    rng = np.random.default_rng(3)
    pictures = [
        np.full((kit.SIZE, kit.SIZE, 3), level, np.uint8)
        for level in np.concatenate([rng.integers(20, 110, 90), rng.integers(150, 230, 90)])
    ]
    pictures += [np.full((kit.SIZE, kit.SIZE, 3), level, np.uint8) for level in (127, 128) * 10]
    samples = [
        ReferenceSample(file_name=f"{n}.png", class_id=int(one.mean() > 127.5))
        for n, one in enumerate(pictures)
    ]
    return package, Comparer(package, pictures, samples, metric="accuracy")


def test_a_planted_variant_that_drifts_is_refused(comparer) -> None:
    """Its bias is off by so little that no confidence moves by more than .02."""
    package, compare = comparer
    model = load_model_from_string(package.read_model())
    (bias,) = (one for one in model.graph.initializer if one.name == "bias")
    values = numpy_helper.to_array(bias) + np.array([-0.03, 0.03], np.float32)
    bias.CopyFrom(numpy_helper.from_array(values, "bias"))
    drifting = Predictor(package, threads=1, model=model.SerializeToString())
    found = compare.compare(drifting)
    assert 0.005 < found.parity.max_difference < 0.02
    assert found.parity.close_calls == 10
    assert "drifted" in found.parity.why_counted
    # Ten of 200 pictures went over the threshold, and the metric says so: no tie hides it.
    assert found.ties == 10 and found.loss == pytest.approx(10 / 200, abs=1e-6)
    (reason,) = judge_variant(found.as_row(), "int8", LIMITS)
    assert "accuracy against annotations falls" in reason
    strict = LIMITS.model_copy(update={"minimum_agreement": 0.96, "max_metric_loss_int8": 1.0})
    (reason,) = judge_variant(found.as_row(), "int8", strict)
    assert "only 95.0% of its decisions" in reason and "drifted" in reason


def test_the_same_model_keeps_every_decision(comparer) -> None:
    package, compare = comparer
    found = compare.compare(Predictor(package, threads=1))
    row = found.as_row()
    assert (row["agreement"], row["strict_agreement"], row["close_calls"]) == (1, 1, 0)
    assert (row["loss"], row["strict_loss"], row["ties"], row["expected_changes"]) == (0, 0, 0, 0)
    assert judge_variant(row, "int8", LIMITS) == []
