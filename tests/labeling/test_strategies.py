"""Selection strategies on vectors whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from visionloop.core.plugins import resolve
from visionloop.labeling.strategies import STRATEGIES, select_informative, select_random


def pool(samples: int = 60, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(samples, 12)).astype(np.float32)


def pool_variance(vectors: np.ndarray, chosen: np.ndarray, known: np.ndarray) -> float:
    """Summed variance of ridge regression over the pool, by the textbook formula."""
    deviation = np.sqrt(vectors.std(axis=0, dtype=np.float64))
    centred = (vectors - vectors.mean(axis=0)) / deviation
    length = np.sqrt((centred**2).sum(axis=1).mean())
    scaled = centred / length
    seen = np.concatenate([scaled[chosen], (known - vectors.mean(axis=0)) / deviation / length])
    inverse = np.linalg.inv(seen.T @ seen + np.eye(vectors.shape[1]))
    return float(np.einsum("nd,de,ne->", scaled, inverse, scaled))


@pytest.mark.parametrize("name", sorted(STRATEGIES))
@pytest.mark.parametrize("budget", [1, 7, 60, 99])
def test_every_strategy_gives_distinct_indices_and_the_same_again(name: str, budget: int) -> None:
    vectors, answers = pool(), np.full((60, 2), 0.5, np.float32)
    function = resolve(STRATEGIES, name, kind="strategy")
    first = function(vectors, answers, budget, 3, annotated=pool(10, 1))
    again = function(vectors, answers, budget, 3, annotated=pool(10, 1))
    assert first.dtype == np.int64
    assert first.tolist() == again.tolist()
    assert len(set(first.tolist())) == len(first) == min(budget, 60)
    assert first.min() >= 0 and first.max() < 60


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_an_empty_pool_and_a_pool_of_one(name: str) -> None:
    function = resolve(STRATEGIES, name, kind="strategy")
    for samples in (0, 1):
        vectors = pool(60)[:samples]
        chosen = function(vectors, np.full((samples, 2), 0.5, np.float32), 5, 0, annotated=None)
        assert chosen.tolist() == list(range(samples))


def test_each_step_lowers_the_variance_as_much_as_any_sample_could() -> None:
    vectors, known = pool(30), pool(5, 1)
    chosen = select_informative(vectors, None, 6, 0, annotated=known)
    for step in range(6):
        before = chosen[:step]
        rest = np.setdiff1d(np.arange(30), before)
        best = min(pool_variance(vectors, np.append(before, one), known) for one in rest)
        assert pool_variance(vectors, chosen[: step + 1], known) == pytest.approx(best)


def test_informative_beats_chance_at_its_own_aim() -> None:
    vectors, known = pool(300), np.zeros((0, 12), np.float32)
    ours = pool_variance(vectors, select_informative(vectors, None, 20, 0), known)
    by_chance = [
        pool_variance(vectors, select_random(vectors, None, 20, seed), known) for seed in range(20)
    ]
    assert ours < min(by_chance)


def test_informative_passes_over_what_is_annotated_already() -> None:
    rng = np.random.default_rng(0)
    centres = np.array([[9, 0, 0], [-9, 0, 0], [0, 9, 0], [0, -9, 0]], np.float32)
    vectors = np.repeat(centres, 20, axis=0) + rng.normal(0, 0.1, (80, 3)).astype(np.float32)
    known = np.repeat(centres[:2], 30, axis=0)
    chosen = select_informative(vectors, None, 2, 0, annotated=known)
    assert set(chosen // 20) <= {2, 3}


def test_identical_vectors_and_constant_features_are_no_obstacle() -> None:
    vectors = np.ones((40, 4), np.float32)
    assert len(set(select_informative(vectors, None, 10, 0).tolist())) == 10
    vectors[:20, 0] = 2
    chosen = select_informative(vectors, None, 2, 0)
    assert {int(one) // 20 for one in chosen} == {0, 1}
