"""Attributes of whole scenes: the metrics agree with scikit-learn's, and resampling counts."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from visionloop.core.entities import AttributeProbabilities
from visionloop.evaluation.answers import AnsweredSamples
from visionloop.evaluation.attributes import AttributeMetrics, confusion_of_attributes
from visionloop.evaluation.coco_metrics import Truth

CLASSES = ["dark", "blowhole", "crack"]


def drawn_metrics(count: int = 60) -> AttributeMetrics:
    rng = np.random.default_rng(4)
    truth = rng.random((count, 3)) < [0.5, 0.2, 0.3]
    probabilities = np.round(np.clip(0.5 * truth + rng.random((count, 3)) * 0.7, 0, 1), 2)
    return AttributeMetrics(truth, probabilities, CLASSES, {"dark": 0.7})


def test_they_are_those_of_scikit_learn() -> None:
    metrics = drawn_metrics()
    found = metrics.values()
    for number, name in enumerate(CLASSES):
        truth, confidence = metrics.truth[:, number], metrics.probabilities[:, number]
        expected = average_precision_score(truth, confidence)
        assert found[f"average_precision/{name}"] == pytest.approx(expected)
        limit = {"dark": 0.7}.get(name, 0.5)
        assert found[f"f1/{name}"] == pytest.approx(f1_score(truth, confidence >= limit))
    mean = np.mean([found[f"f1/{name}"] for name in CLASSES])
    assert found["macro_f1"] == pytest.approx(mean)


def test_a_sample_that_is_drawn_twice_counts_twice() -> None:
    metrics = drawn_metrics()
    weights = np.ones((1, len(metrics)))
    weights[0, :10] = 2
    twice = metrics.take(np.concatenate([np.arange(len(metrics)), np.arange(10)]))
    for name, values in metrics.resampled(weights).items():
        assert values[0] == pytest.approx(twice.values()[name])


def test_an_attribute_that_never_occurs_is_left_out_of_the_mean() -> None:
    truth = np.array([[True, False], [False, False]])
    metrics = AttributeMetrics(truth, np.array([[0.9, 0.8], [0.2, 0.1]]), ["a", "b"], {})
    found = metrics.values()
    assert np.isnan(found["average_precision/b"])
    assert found["macro_average_precision"] == 1.0


def test_answers_become_metrics_and_a_table_of_what_was_said() -> None:
    truths = [Truth(np.array(ids, np.int64), np.zeros((0, 4), np.float32)) for ids in ([0, 2], [])]
    answers = [
        AttributeProbabilities(np.array(row, np.float32))
        for row in ([0.9, 0.1, 0.4], [0.2, 0.6, 0.1])
    ]
    answered = AnsweredSamples(None, truths, answers, "scene", CLASSES, {})
    metrics = answered.metrics()
    assert isinstance(metrics, AttributeMetrics)
    assert metrics.support() == {"dark": 1, "blowhole": 0, "crack": 1}
    assert confusion_of_attributes(metrics).tolist() == [[1, 0, 0], [0, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize("wrong", [[0.2, 1.2], [-0.1, 0.5], [float("nan"), 0.5]])
def test_numbers_that_are_no_probabilities_are_refused(wrong) -> None:
    with pytest.raises(ValueError, match=r"finite|lie in"):
        AttributeProbabilities(np.array(wrong, np.float32))
