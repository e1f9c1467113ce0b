"""Selection strategies on vectors whose answer is known: all, and those that ask no model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from visionloop.core.plugins import resolve
from visionloop.labeling.strategies.design import choose_design, select_informative
from visionloop.labeling.strategies.diversity import (
    select_k_centre,
    select_random,
    select_typical,
)
from visionloop.labeling.strategies.pool import Pool, compress
from visionloop.labeling.strategies.table import NEEDS_CHALLENGER, NEEDS_PROBABILITIES, STRATEGIES


def vectors(samples: int = 60, seed: int = 0, size: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(samples, size)).astype(np.float32)


def full_pool(samples: int = 80, budget: int = 30) -> Pool:
    rng = np.random.default_rng(0)
    rows = vectors(samples)
    rows[samples // 2 : samples // 2 + 20] = rows[0] if samples else 0  # the same image again
    return Pool(
        vectors=rows,
        budget=budget,
        seed=3,
        probabilities=rng.dirichlet((1, 1, 1), samples).astype(np.float32),
        challenger=rng.dirichlet((1, 1, 1), samples).astype(np.float32),
        known_vectors=vectors(25, 1),
        class_counts=np.array([20, 4, 1]),
        groups=rng.integers(0, 3, samples),
        wanted=(np.arange(samples) % 4 == 0).astype(np.float32),
    )


def call(name: str, pool: Pool) -> np.ndarray:
    return resolve(STRATEGIES, name, kind="strategy")(pool)


@pytest.mark.parametrize("budget", [1, 7, 80, 200])
@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_every_strategy_gives_distinct_indices_and_the_same_again(name: str, budget: int) -> None:
    pool = full_pool(budget=budget)
    first = call(name, pool)
    assert first.dtype == np.int64
    assert call(name, pool).tolist() == first.tolist()
    assert len(set(first.tolist())) == len(first) == min(budget, 80)
    assert first.min() >= 0 and first.max() < 80


@pytest.mark.parametrize("name", sorted(STRATEGIES))
@pytest.mark.parametrize("samples", [0, 1])
def test_an_empty_pool_and_a_pool_of_one(name: str, samples: int) -> None:
    chosen = call(name, full_pool(samples, budget=5))
    assert chosen.tolist() == list(range(samples))


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - NEEDS_PROBABILITIES))
def test_what_does_not_need_a_model_works_without_one_and_without_annotations(name: str) -> None:
    bare = Pool(vectors=vectors(), budget=9)
    assert len(set(call(name, bare).tolist())) == 9


@pytest.mark.parametrize("name", sorted(NEEDS_PROBABILITIES | NEEDS_CHALLENGER))
def test_what_needs_a_model_says_so(name: str) -> None:
    with pytest.raises(ValueError, match="needs the"):
        call(name, Pool(vectors=vectors(), budget=9))


def test_k_centre_chooses_as_the_plain_loop_does_and_so_covers_the_pool() -> None:
    rows, known = vectors(2000, size=8), vectors(5, 1, size=8)
    chosen = select_k_centre(Pool(vectors=rows, budget=600, known_vectors=known))
    expected, radius = plain_k_centre(rows, known, 600)
    assert chosen[:200].tolist() == expected[:200]
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    centres = np.concatenate([unit[chosen], known / np.linalg.norm(known, axis=1, keepdims=True)])
    assert (2 - 2 * unit @ centres.T).min(axis=1).max() == pytest.approx(radius, rel=0.01)


def plain_k_centre(rows: np.ndarray, known: np.ndarray, budget: int) -> tuple[list[int], float]:
    unit, known = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (rows, known))
    nearest = (2 - 2 * unit @ known.T).min(axis=1)
    chosen: list[int] = []
    for _ in range(budget):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, 2 - 2 * unit @ unit[chosen[-1]])
    return chosen, float(nearest.max())


def clusters(sizes: tuple[int, ...], spread: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Vectors around well-separated centres, and which centre each belongs to."""
    rng = np.random.default_rng(0)
    which = np.repeat(np.arange(len(sizes)), sizes)
    centres = rng.normal(size=(len(sizes), 16)) * 4
    rows = centres[which] + rng.normal(0, spread, (len(which), 16))
    return rows.astype(np.float32), which


def test_typical_reaches_every_cluster_and_avoids_outliers() -> None:
    rows, which = clusters((100, 50, 20, 10, 8))
    chosen = select_typical(Pool(vectors=rows, budget=5))
    assert set(which[chosen]) == set(range(5))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for one in chosen:
        inside = unit[which == which[one]]
        middle = inside.mean(axis=0)
        apart = np.linalg.norm(inside - middle, axis=1)
        assert np.linalg.norm(unit[one] - middle) <= np.median(apart)


def test_typical_goes_first_where_nothing_is_annotated() -> None:
    rows, which = clusters((60, 40, 20))
    known = rows[which < 2][::10]
    chosen = select_typical(Pool(vectors=rows, budget=1, known_vectors=known))
    assert which[chosen].tolist() == [2]


def test_a_large_pool_is_clustered_on_a_part_of_it_and_still_covered(monkeypatch) -> None:
    from visionloop.labeling.strategies import diversity

    monkeypatch.setattr(diversity, "LARGE", 300)
    rows, which = clusters((400, 300, 200, 100))
    chosen = select_typical(Pool(vectors=rows, budget=40))
    assert set(which[chosen]) == {0, 1, 2, 3}
    assert len(set(chosen.tolist())) == 40


def pool_variance(rows: np.ndarray, chosen: np.ndarray, known: np.ndarray) -> float:
    """Summed variance of ridge regression over the pool, by the textbook formula."""
    deviation = np.sqrt(rows.std(axis=0, dtype=np.float64))
    centred = (rows - rows.mean(axis=0)) / deviation
    length = np.sqrt((centred**2).sum(axis=1).mean())
    scaled = centred / length
    seen = np.concatenate([scaled[chosen], (known - rows.mean(axis=0)) / deviation / length])
    inverse = np.linalg.inv(seen.T @ seen + np.eye(rows.shape[1]))
    return float(np.einsum("nd,de,ne->", scaled, inverse, scaled))


def test_each_step_lowers_the_variance_as_much_as_any_sample_could() -> None:
    rows, known = vectors(30), vectors(5, 1)
    chosen = select_informative(Pool(vectors=rows, budget=6, known_vectors=known))
    for step in range(6):
        before = chosen[:step]
        rest = np.setdiff1d(np.arange(30), before)
        best = min(pool_variance(rows, np.append(before, one), known) for one in rest)
        assert pool_variance(rows, chosen[: step + 1], known) == pytest.approx(best, rel=1e-4)


def test_informative_beats_chance_at_its_own_aim_also_where_candidates_are_drawn(
    monkeypatch,
) -> None:
    from visionloop.labeling.strategies import design

    rows, known = vectors(300), np.zeros((0, 12), np.float32)
    pool = Pool(vectors=rows, budget=20)
    by_chance = [
        pool_variance(rows, select_random(replace(pool, seed=seed)), known) for seed in range(20)
    ]
    assert pool_variance(rows, select_informative(pool), known) < min(by_chance)
    monkeypatch.setattr(design, "LARGE", 100)
    monkeypatch.setattr(design, "CANDIDATES", 100)
    assert pool_variance(rows, select_informative(pool), known) < min(by_chance)


def test_informative_passes_over_what_is_annotated_already() -> None:
    rng = np.random.default_rng(0)
    centres = np.array([[9, 0, 0], [-9, 0, 0], [0, 9, 0], [0, -9, 0]], np.float32)
    rows = np.repeat(centres, 20, axis=0) + rng.normal(0, 0.1, (80, 3)).astype(np.float32)
    known = np.repeat(centres[:2], 30, axis=0)
    chosen = select_informative(Pool(vectors=rows, budget=2, known_vectors=known))
    assert set(chosen // 20) <= {2, 3}


def test_samples_that_do_not_count_are_chosen_last() -> None:
    weights = np.where(np.arange(60) < 10, 1, 1e-6).astype(np.float32)
    chosen = choose_design(Pool(vectors=vectors(), budget=10), weights)
    assert set(chosen.tolist()) == set(range(10))


def test_identical_vectors_and_constant_features_are_no_obstacle() -> None:
    rows = np.ones((40, 4), np.float32)
    assert len(set(select_informative(Pool(vectors=rows, budget=10)).tolist())) == 10
    rows[:20, 0] = 2
    chosen = select_informative(Pool(vectors=rows, budget=2))
    assert {int(one) // 20 for one in chosen} == {0, 1}


def test_compressed_vectors_keep_the_distances_that_matter() -> None:
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(500, 6)) @ rng.normal(size=(6, 200))
    rows = (flat + rng.normal(0, 0.01, (500, 200))).astype(np.float32)
    small, others = compress(rows, 10, 0, rows[:7])
    assert small.shape == (500, 10)
    assert np.allclose(others, small[:7], atol=1e-3)
    before = np.linalg.norm(rows[:100] - rows[100:200], axis=1)
    after = np.linalg.norm(small[:100] - small[100:200], axis=1)
    assert np.allclose(after, before, rtol=1e-2)
