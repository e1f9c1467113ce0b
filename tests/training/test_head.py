"""The head reaches the optimum that scikit-learn reaches, in whatever pieces it is trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from visionloop.training.head import FeatureSplit, LinearHead, train_head
from visionloop.training.resume import ResumePoint
from visionloop.training.validation import balanced_weights, measure_classification


def make_split(classes: int) -> FeatureSplit:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 40)) * rng.uniform(0.1, 5, 40) + 3
    features[:, 5] = 1.0  # a feature that never varies
    class_ids = (features[:, :4].sum(axis=1) + rng.normal(size=300) > 15).astype(np.int64)
    if classes == 3:
        class_ids[features[:, 7] > 4] = 2
    return FeatureSplit(features.astype(np.float32), class_ids)


def fit(split: FeatureSplit, classes: int, resume: ResumePoint, epochs: int = 12) -> LinearHead:
    return train_head(
        split,
        FeatureSplit(split.features[:50], split.class_ids[:50]),
        classes=classes,
        l2=100.0,
        class_weight="balanced",
        epochs=epochs,
        resume=resume,
        on_epoch=lambda row: None,
    )


@pytest.mark.parametrize("classes", [2, 3])
def test_the_optimum_is_that_of_scikit_learn(tmp_path, classes):
    split = make_split(classes)
    head = fit(split, classes, ResumePoint(tmp_path, "k"))
    scaler = StandardScaler().fit(split.features.astype(np.float64))
    scaled = scaler.transform(split.features.astype(np.float64))
    peer = LogisticRegression(C=0.01, class_weight="balanced", tol=1e-9, max_iter=2000)
    expected = peer.fit(scaled, split.class_ids).predict_proba(scaled)
    logits = torch.from_numpy(split.features) @ head.weight.T + head.bias
    assert np.abs(torch.softmax(logits, 1).numpy() - expected).max() < 5e-4


def test_interrupted_and_resumed_gives_the_same_bytes(tmp_path, fail_at):
    split = make_split(2)
    whole = fit(split, 2, ResumePoint(tmp_path / "a", "k"))
    fail_at("training.epoch:interrupt:3")
    point = ResumePoint(tmp_path / "b", "k")
    with pytest.raises(KeyboardInterrupt):
        fit(split, 2, point)
    fail_at("")
    assert point.epoch == 3
    resumed = fit(split, 2, point)
    assert torch.equal(whole.weight, resumed.weight)
    assert torch.equal(whole.bias, resumed.bias)


def test_balanced_weights_are_those_of_scikit_learn():
    class_ids = np.array([0, 0, 0, 1])
    assert balanced_weights(class_ids, 2, class_weight="balanced").tolist() == [2 / 3, 2.0]
    assert balanced_weights(class_ids, 3, class_weight="balanced")[2] == 0
    assert balanced_weights(class_ids, 2, class_weight="none").tolist() == [1, 1]


def test_metrics_of_known_answers():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    metrics = measure_classification(probabilities, np.array([0, 0, 0, 1]))
    assert metrics["val_accuracy"] == 0.75
    assert metrics["val_balanced_accuracy"] == 0.5
    assert measure_classification(probabilities[:0], np.zeros(0, np.int64)) == {}
