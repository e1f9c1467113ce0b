"""Thresholds of drafts: showing what they let through costs least, class by class."""

from __future__ import annotations

import numpy as np
import pytest

from visionloop.labeling.answers import PRICES
from visionloop.labeling.thresholds import NEVER, choose_thresholds, seconds_saved


def calibrated(rng, count, *, classes=1, power=1.0):
    """Boxes that are right with probability ``confidence ** power``, tight or loose by halves."""
    confidence = rng.uniform(0.01, 1, count)
    is_right = rng.random(count) < confidence**power
    iou = np.where(is_right, rng.choice([0.65, 0.9], count), 0.0)
    return confidence, rng.integers(classes, size=count), iou


def test_prices_of_a_box() -> None:
    saved = seconds_saved(np.array([0.9, 0.6, 0.2]))
    assert saved.tolist() == pytest.approx([6.9, 3.4, -1.0])
    wrong_class = seconds_saved(np.array([0.9]), is_class_right=np.array([False]))
    assert wrong_class.tolist() == pytest.approx([5.4])


def test_a_calibrated_model_is_cut_where_showing_begins_to_pay() -> None:
    """Right boxes save 5.15 s on average, wrong ones cost 1: worth it from p = 0.163 on."""
    confidence, class_id, iou = calibrated(np.random.default_rng(0), 40_000)
    assert choose_thresholds(confidence, class_id, iou, 1)[0] == pytest.approx(0.163, abs=0.04)


def test_dearer_deletions_raise_the_threshold() -> None:
    rows = calibrated(np.random.default_rng(1), 20_000)
    cheap, dear = (
        choose_thresholds(*rows, 1, {**PRICES, "delete": price})[0] for price in (0.5, 8.0)
    )
    assert cheap < 0.16 < 0.4 < dear


def test_each_class_has_its_own_and_costs_less_than_one_for_all() -> None:
    """Class 0 is sure of itself without reason; class 1 is better than it says."""
    rng = np.random.default_rng(2)
    over, under = calibrated(rng, 3000, power=6), calibrated(rng, 3000, power=0.2)
    confidence, iou = (
        np.concatenate([a, b]) for a, b in ((over[0], under[0]), (over[2], under[2]))
    )
    class_id = np.repeat([0, 1], 3000)
    chosen = choose_thresholds(confidence, class_id, iou, 2)
    assert chosen[0] > 0.6 > 0.1 > chosen[1]
    unseen = [calibrated(rng, 3000, power=6), calibrated(rng, 3000, power=0.2)]

    def saved(limits) -> float:
        return sum(
            seconds_saved(rows[2][rows[0] >= limit]).sum()
            for rows, limit in zip(unseen, limits, strict=True)
        )

    one_for_all = max(saved([limit, limit]) for limit in np.linspace(0, 1, 101))
    assert saved(chosen) > one_for_all
    assert saved(chosen) > 1.2 * saved([0.5, 0.5])


def test_a_rare_class_borrows_from_the_others() -> None:
    """Two wrong boxes do not silence a class; two hundred do."""
    rng = np.random.default_rng(3)
    confidence, class_id, iou = calibrated(rng, 2000)

    def with_wrong(count) -> float:
        return choose_thresholds(
            np.append(confidence, rng.uniform(0.5, 0.9, count)),
            np.append(class_id, np.full(count, 1)),
            np.append(iou, np.zeros(count)),
            2,
        )[1]

    assert with_wrong(2) < 0.5
    assert with_wrong(200) > 0.85


def test_a_model_that_is_never_right_shows_nothing() -> None:
    confidence = np.linspace(0.1, 1, 50)
    nothing = choose_thresholds(confidence, np.zeros(50, int), np.zeros(50), 2)
    assert (nothing == NEVER).all()
    empty = choose_thresholds(np.zeros(0), np.zeros(0, int), np.zeros(0), 2)
    assert (empty == NEVER).all()


def test_equal_confidences_stand_or_fall_together() -> None:
    confidence = np.array([0.9, 0.5, 0.5, 0.5])
    iou = np.array([0.9, 0.9, 0.0, 0.0])
    assert choose_thresholds(confidence, np.zeros(4, int), iou, 1)[0] <= 0.5
