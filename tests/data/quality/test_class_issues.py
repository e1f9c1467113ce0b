"""Ranking doubtful classes: few classes, odd features, groups that stay together."""

from __future__ import annotations

import numpy as np
import pytest

from visionloop.core.errors import DataError
from visionloop.data.quality.class_issues import out_of_fold_probabilities, rank_label_issues


def clouds(count: int, classes: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes in 24 dimensions."""
    rng = np.random.default_rng(seed)
    class_ids = np.arange(count) % classes
    centres = 2 * np.eye(classes, 24)
    return (rng.normal(size=(count, 24)) + centres[class_ids]).astype(np.float32), class_ids


def lonely(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def test_an_image_of_the_same_group_does_not_vouch_for_a_wrong_annotation() -> None:
    vectors, truth = clouds(120)
    vectors = np.repeat(vectors, 2, axis=0)
    said = np.repeat(truth, 2)
    said[:24] = 1 - said[:24]  # both copies of twelve images
    pairs = [str(number // 2) for number in range(240)]
    together = rank_label_issues(vectors, said, pairs, seed=0).severity
    apart = rank_label_issues(vectors, said, lonely(240), seed=0).severity
    assert together[:24].mean() > apart[:24].mean() + 0.03
    assert together[0] == pytest.approx(together[1])


def test_planted_errors_rank_first_among_three_classes() -> None:
    vectors, truth = clouds(240, 3)
    planted = np.random.default_rng(1).choice(240, 12, replace=False)
    said = truth.copy()
    said[planted] = (said[planted] + 1) % 3
    ranked = rank_label_issues(vectors, said, lonely(240), seed=0)
    assert ranked.probabilities.shape == (240, 3)
    assert np.allclose(ranked.probabilities.sum(axis=1), 1)
    assert ((ranked.severity >= 0) & (ranked.severity <= 1)).all()
    worst = np.argsort(-ranked.severity)[:12]
    assert len(set(worst) & set(planted)) >= 6


def test_a_class_that_nobody_used_has_probability_zero() -> None:
    vectors, truth = clouds(60)
    answers = out_of_fold_probabilities(vectors, truth, lonely(60), seed=0, classes=3)
    assert answers.shape == (60, 3) and not answers[:, 2].any()


def test_one_class_only_is_an_error_with_a_next_step() -> None:
    vectors, _ = clouds(40)
    with pytest.raises(DataError, match="one class only"):
        rank_label_issues(vectors, np.zeros(40, np.int64), lonely(40), seed=0)


def test_size_and_offset_of_features_and_constant_ones_change_nothing() -> None:
    vectors, truth = clouds(80)
    constant = np.full((80, 3), 5, np.float32)
    plain = out_of_fold_probabilities(vectors, truth, lonely(80), seed=0)
    scaled = out_of_fold_probabilities(vectors * 8 + 16, truth, lonely(80), seed=0)
    assert np.allclose(plain, scaled, atol=1e-3)
    wider = out_of_fold_probabilities(np.hstack([vectors, constant]), truth, lonely(80), seed=0)
    assert np.isfinite(wider).all()
    assert np.corrcoef(plain[:, 0], wider[:, 0])[0, 1] > 0.99


def test_the_same_seed_gives_the_same_and_another_seed_nearly_the_same() -> None:
    vectors, truth = clouds(80)
    first, again, other = (
        out_of_fold_probabilities(vectors, truth, lonely(80), seed=seed) for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.corrcoef(first[:, 0], other[:, 0])[0, 1] > 0.9
