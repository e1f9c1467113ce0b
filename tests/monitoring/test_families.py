"""One decision a family, one verdict over them, and silence where nothing can be said."""

from __future__ import annotations

import numpy as np
import pytest

from visionloop.monitoring.families import compare_windows
from visionloop.monitoring.null import null_draws
from visionloop.monitoring.params import DriftParams

PARAMS = DriftParams(permutations=500)
ALPHA = 0.01


def decide(first, second, **changes):
    params = PARAMS.model_copy(update=changes)
    return compare_windows(first, second, params=params, alpha=ALPHA)


def by_name(decision):
    return {family.name: family for family in decision.families}


def test_a_shift_fires_in_every_family(make_window) -> None:
    decision = decide(
        make_window("reference", 150, seed=1), make_window("current", 150, seed=2, shift=1)
    )
    assert decision.is_drift
    assert {family.status for family in decision.families} == {"drift"}


def test_false_alarm_rate_of_the_whole_decision(make_window) -> None:
    """120 independent pairs at alpha .05: no more than chance allows (three standard errors)."""
    alarms = 0
    for seed in range(120):
        first = make_window("reference", 60, seed=2 * seed)
        second = make_window("current", 60, seed=2 * seed + 1)
        alarms += compare_windows(first, second, params=PARAMS, alpha=0.05, seed=seed).is_drift
    assert alarms / 120 <= 0.11


def test_at_most_one_of_twenty_null_draws_fires(make_window) -> None:
    null = null_draws(make_window("reference", 200, seed=3), params=PARAMS, alpha=ALPHA, n=20)
    assert null.draws == 20
    assert null.false_alarms <= 1


@pytest.mark.parametrize("count", [0, 3])
def test_small_windows_give_no_verdict(make_window, count: int) -> None:
    small = make_window("current", count, seed=2, shift=5)
    decision = decide(make_window("reference", 150, seed=1), small)
    assert decision.verdict == "insufficient data"
    assert not decision.is_drift
    assert decision.p_value is None
    assert all(f"{count} frames" in family.note for family in decision.families)
    null = null_draws(small, params=PARAMS, alpha=ALPHA)
    assert null.draws == 0
    assert "insufficient data" in null.note


def test_missing_and_constant_columns_do_not_alarm_and_are_named(make_window) -> None:
    first, second = make_window("reference", 80, seed=1), make_window("current", 80, seed=2)
    second.frames.drop(columns="blur", inplace=True)
    for window in (first, second):
        window.frames["noise"] = 3.0
    tests = {test.name: test for test in by_name(decide(first, second))["image_statistics"].tests}
    assert tests["blur"].p_value is None
    assert tests["blur"].note == "missing in window current"
    assert tests["noise"].p_value is None
    assert tests["noise"].note == "constant in both windows"
    assert tests["luminance"].p_value is not None
    assert not decide(first, second).is_drift


def test_a_family_without_any_column_says_why(make_window) -> None:
    first, second = make_window("reference", 80, seed=1), make_window("current", 80, seed=2)
    second.frames["embedding"] = None
    for name in ("luminance", "contrast", "blur", "noise"):
        second.frames[name] = np.nan
    families = by_name(decide(first, second))
    assert families["embeddings"].status == "insufficient data"
    assert families["embeddings"].note == "no embeddings in window current"
    assert "luminance: missing in window current" in families["image_statistics"].note
    assert families["predictions"].status == "steady"


def test_answers_of_different_packages_are_not_compared(make_window) -> None:
    first = make_window("reference", 80, seed=1)
    second = make_window("current", 80, seed=2, shift=2, package="b" * 64)
    families = by_name(decide(first, second))
    assert families["predictions"].status == "not comparable"
    assert families["embeddings"].status == "not comparable"
    assert families["image_statistics"].status == "drift"


def test_a_family_left_out_does_not_change_the_others(make_window) -> None:
    first, second = make_window("reference", 80, seed=1), make_window("current", 80, seed=2)
    whole = by_name(decide(first, second))
    alone = by_name(decide(first, second, families=["embeddings"]))
    assert alone["embeddings"].p_value == whole["embeddings"].p_value


def test_one_drifting_family_is_enough(make_window) -> None:
    first, second = make_window("reference", 150, seed=1), make_window("current", 150, seed=2)
    second.frames["luminance"] -= 40
    decision = decide(first, second)
    statuses = {name: family.status for name, family in by_name(decision).items()}
    assert decision.is_drift
    assert statuses == {
        "embeddings": "steady",
        "image_statistics": "drift",
        "predictions": "steady",
    }


def test_large_windows_are_thinned_evenly(make_window) -> None:
    window = make_window("reference", 1000, seed=1).thinned(100)
    assert len(window) == 100
    assert window.frames["sequence"].iloc[[0, -1]].tolist() == [0, 999]
