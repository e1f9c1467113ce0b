"""Strategies that ask models, mind what is missing, or spread one budget over cameras."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from visionloop.labeling.strategies.disagreement import divergence, select_disagreement
from visionloop.labeling.strategies.mix import SAME_VIEW, quotas, select_mix
from visionloop.labeling.strategies.phases import (
    TYPICAL_EACH,
    is_far,
    select_phases,
    select_recommended,
)
from visionloop.labeling.strategies.pool import Pool
from visionloop.labeling.strategies.uncertainty import (
    select_doubtful_boxes,
    select_entropy,
    select_margin,
)
from visionloop.labeling.strategies.wanted import select_drifted, select_rare_class


def vectors(samples: int, seed: int = 0, size: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(samples, size)).astype(np.float32)


def pool_of(rows: list[list[float]], budget: int, **more: object) -> Pool:
    answers = np.array(rows, np.float32)
    return Pool(vectors=vectors(len(rows)), budget=budget, probabilities=answers, **more)


def test_margin_takes_the_smallest_margin_and_entropy_the_flattest_row() -> None:
    rows = [[0.9, 0.1, 0.0], [0.5, 0.5, 0.0], [0.4, 0.3, 0.3], [0.6, 0.35, 0.05]]
    assert select_margin(pool_of(rows, 2)).tolist() == [1, 2]
    assert select_entropy(pool_of(rows, 2)).tolist() == [2, 3]


def test_boxes_near_one_half_count_and_many_faint_ones_do_not_outweigh_them() -> None:
    boxes = [
        np.array([0.99, 0.98, 0.97]),  # all sure
        np.array([0.5, 0.52]),  # two open questions
        np.full(5, 0.05),  # faint ones
        np.array([]),  # nothing there
        np.array([0.55, 0.99]),  # one open question
    ]
    pool = replace(pool_of([[0.5, 0.5]] * 5, 5), box_confidences=boxes)
    assert select_doubtful_boxes(pool).tolist() == [1, 4, 2, 0, 3]


def test_disagreement_finds_where_two_packages_differ_not_where_both_doubt() -> None:
    first = [[0.5, 0.5], [0.95, 0.05], [0.9, 0.1]]
    second = np.array([[0.5, 0.5], [0.1, 0.9], [0.8, 0.2]], np.float32)
    assert select_disagreement(pool_of(first, 3, challenger=second)).tolist() == [1, 2, 0]
    opposite = divergence(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))
    assert opposite == pytest.approx(np.log(2))


def test_for_boxes_packages_disagree_about_what_is_there() -> None:
    seen = np.array([[0.9, 0.9], [0.9, 0.0]], np.float32)
    other = np.array([[0.9, 0.8], [0.1, 0.0]], np.float32)
    pool = pool_of([[0.5, 0.5]] * 2, 2, presence=seen, challenger=other)
    assert select_disagreement(pool).tolist() == [1, 0]


def test_the_rare_class_comes_first_and_does_not_take_everything() -> None:
    answers = [[0.9, 0.1, 0.0]] * 20 + [[0.1, 0.9, 0.0]] * 20 + [[0.1, 0.0, 0.9]] * 20
    pool = pool_of(answers, 12, class_counts=np.array([500, 4, 2]))
    shown = np.asarray(select_rare_class(pool)) // 20
    assert shown[0] == 2
    assert set(shown.tolist()) == {1, 2}


def test_drifted_takes_what_monitoring_wants_most_and_fills_the_rest() -> None:
    wanted = np.zeros(60, np.float32)
    wanted[:20], wanted[20:25] = 0.01, 1.0
    pool = Pool(vectors=vectors(60), budget=30, wanted=wanted)
    chosen = select_drifted(pool)
    assert set(chosen[:25].tolist()) == set(range(25))
    assert set(select_drifted(replace(pool, budget=4)).tolist()) <= set(range(20, 25))


def test_quotas_are_equal_and_small_groups_give_theirs_to_the_others() -> None:
    assert quotas(np.array([100, 3, 50]), 33).tolist() == [15, 3, 15]
    assert quotas(np.array([100, 100, 100]), 8).sum() == 8
    assert max(quotas(np.array([100, 100, 100]), 8)) - min(quotas(np.array([9, 9, 9]), 8)) == 1
    assert quotas(np.array([2, 3]), 50).tolist() == [2, 3]


def test_the_mix_honours_quotas_and_takes_no_view_twice() -> None:
    rng = np.random.default_rng(0)
    views = rng.normal(size=(90, 12))
    rows = np.concatenate([views, views + rng.normal(0, 0.001, views.shape)]).astype(np.float32)
    groups = np.tile(np.repeat([0, 1, 2], [60, 24, 6]), 2)
    known = rows[:5]
    pool = Pool(vectors=rows, budget=36, groups=groups, known_vectors=known)
    chosen = select_mix(pool)
    assert np.bincount(groups[chosen], minlength=3).tolist() == [15, 15, 6]
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    alike = unit[chosen] @ unit[chosen].T
    np.fill_diagonal(alike, 0)
    assert alike.max() < SAME_VIEW
    assert not set(chosen.tolist()) & {0, 1, 2, 3, 4, 90, 91, 92, 93, 94}  # annotated views
    assert len(set(groups[chosen[:3]].tolist())) == 3  # in turns, so any first part is a mix


def test_phases_change_from_typical_to_uncertain_with_the_number_of_annotations() -> None:
    rng = np.random.default_rng(0)
    answers = rng.dirichlet((1, 1), 200).astype(np.float32)
    pool = Pool(vectors=vectors(200), budget=10, probabilities=answers)
    by_margin = select_margin(pool).tolist()
    few, many = vectors(3, 1), vectors(2 * TYPICAL_EACH, 1)
    assert select_phases(replace(pool, known_vectors=many)).tolist() == by_margin
    early = select_phases(replace(pool, known_vectors=few)).tolist()
    assert len(set(early) & set(by_margin)) < 5
    crossing = select_phases(replace(pool, known_vectors=many[:-4])).tolist()
    assert crossing[4:] == [one for one in by_margin if one not in crossing[:4]][:6]


def test_recommended_asks_near_the_boundary_but_not_the_same_question_twice() -> None:
    rng = np.random.default_rng(0)
    which = np.repeat(np.arange(4), 50)
    centres = rng.normal(size=(4, 12)) * 3
    rows = (centres[which] + rng.normal(0, 0.2, (200, 12))).astype(np.float32)
    sure = np.where(which < 2, 0.55, 0.99)  # the model doubts two of four kinds
    answers = np.stack([sure, 1 - sure], axis=1).astype(np.float32)
    pool = Pool(vectors=rows, budget=6, probabilities=answers, known_vectors=rows[::4] + 0.01)
    chosen = which[select_recommended(pool)]
    assert set(chosen.tolist()) == {0, 1}


def test_far_from_everything_annotated_the_model_is_not_asked() -> None:
    rng = np.random.default_rng(0)
    old, new = rng.normal(size=(2, 24)) * 3
    rows = np.concatenate([old + rng.normal(size=(60, 24)), new + rng.normal(size=(40, 24))])
    known = (old + rng.normal(size=(50, 24))).astype(np.float32)
    # Of the old product the model doubts ten samples; of the new one it is sure, without reason.
    answers = np.tile(np.array([[0.999, 0.001]], np.float32), (100, 1))
    answers[:10] = 0.5
    pool = Pool(
        vectors=rows.astype(np.float32), budget=10, probabilities=answers, known_vectors=known
    )
    far = is_far(pool)
    assert far[60:].all() and far[:60].mean() < 0.1
    chosen = select_recommended(pool)
    assert (chosen >= 60).sum() == round(10 * far.mean())
    assert set(chosen[chosen < 60].tolist()) <= set(range(18))  # the doubted ones and few more
    only_old = replace(pool.part(np.arange(60), 5), known_vectors=known)
    assert set(select_recommended(only_old).tolist()) <= set(range(10))


def test_with_few_annotations_nothing_is_called_far() -> None:
    rows, known = vectors(40) + 50, vectors(5, 1)
    assert not is_far(Pool(vectors=rows, budget=5, known_vectors=known)).any()
