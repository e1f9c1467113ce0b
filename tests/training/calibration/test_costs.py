"""Thresholds by cost: dear misses lower them, dear false alarms raise them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionloop.training.calibration.costs import Statements, choose_threshold


def said(missed: int = 0) -> Statements:
    rng = np.random.default_rng(2)
    is_true = rng.random(400) < 0.4
    confidence = np.clip(rng.normal(np.where(is_true, 0.6, 0.35), 0.15), 0, 1)
    return Statements(confidence, is_true, missed)


def choose(statements: Statements, miss: float, alarm: float, **changes):
    options = {"default": 0.25, "min_support": 10} | changes
    return choose_threshold(statements, miss_cost=miss, false_alarm_cost=alarm, **options)


def test_what_costs_more_is_avoided() -> None:
    dear_misses, even, dear_alarms = (choose(said(), *c) for c in ((10, 1), (1, 1), (1, 10)))
    assert dear_misses.threshold < even.threshold < dear_alarms.threshold
    assert dear_misses.misses < even.misses < dear_alarms.misses
    assert even.cost < even.cost_of_default


@given(st.floats(0.1, 20), st.floats(0.1, 20))
def test_no_threshold_of_a_fine_grid_costs_less(miss, alarm) -> None:
    statements = said(missed=7)
    found = choose(statements, miss, alarm)
    total = statements.is_true.sum() + 7
    for threshold in np.linspace(0, 1, 201):
        shown = statements.confidence >= threshold
        cost = miss * (total - (shown & statements.is_true).sum())
        cost += alarm * (shown & ~statements.is_true).sum()
        assert found.cost <= cost + 1e-6


def test_a_class_with_few_cases_keeps_the_default() -> None:
    few = Statements(np.array([0.9, 0.2]), np.array([True, False]))
    found = choose(few, 1, 1)
    assert found.threshold == 0.25
    assert "1 true cases, fewer than 10" in found.why_not


def test_no_threshold_lies_where_nothing_was_collected() -> None:
    statements = Statements(np.array([0.3] * 20), np.array([True] * 20), lowest=0.05)
    assert choose(statements, 1, 1, default=0.5).threshold == pytest.approx(0.175)


def test_what_the_default_does_as_well_is_left() -> None:
    statements = Statements(np.array([0.9] * 20 + [0.1] * 20), np.repeat([True, False], 20))
    found = choose(statements, 1, 1)
    assert (found.threshold, found.cost) == (0.25, 0)
