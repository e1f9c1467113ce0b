"""Looking ahead: who would wait how long, and which requests go into one batch."""

from __future__ import annotations

import pytest

from visionloop.serving.http.pace import OF_IDLE, Pace


def paced(budget: float | None = None, **seconds: float) -> Pace:
    """A pace with durations by batch size, ``s1=0.01`` for one picture."""
    pace = Pace(budget)
    for name, value in seconds.items():
        for _ in range(5):
            pace.observe(int(name[1:]), value, is_alone=True)
    return pace


def test_sizes_that_were_never_seen_are_reckoned_from_those_that_were() -> None:
    assert Pace().seconds(4) == 0
    pace = paced(s1=0.010, s4=0.020)
    assert pace.seconds(4) == pytest.approx(0.020)
    assert pace.seconds(2) == pytest.approx(0.0133, abs=1e-4)  # between one and four
    assert pace.seconds(8) == pytest.approx(0.040)  # twice four


def test_without_a_budget_it_follows_what_a_picture_takes_alone() -> None:
    pace = paced(s1=0.1)
    assert pace.most_waiting == pytest.approx((OF_IDLE - 1) * 0.1)
    for _ in range(64):
        pace.observe(1, 0.13)  # under load everything is slower: the budget stays
    assert pace.most_waiting == pytest.approx(OF_IDLE * 0.1 - 0.13)
    for _ in range(64):
        pace.observe(1, 0.5)
    assert pace.most_waiting == 0  # only who finds a lane free is taken


def test_a_set_budget_leaves_what_the_own_picture_does_not_need() -> None:
    assert paced(0.25, s1=0.1).most_waiting == pytest.approx(0.15)
    assert paced(0.05, s1=0.1).most_waiting == 0


def test_the_wait_is_that_for_the_lane_that_is_free_first() -> None:
    pace = paced(s1=0.1)
    assert pace.wait(10.0, [10.0, 10.9], []) == 0
    assert pace.wait(10.0, [10.3, 10.2], []) == pytest.approx(0.2)
    # Three wait: at .2, .3 and .3, so the lanes are free at .4 and .4.
    assert pace.wait(10.0, [10.3, 10.2], [1, 1, 1]) == pytest.approx(0.4)
    assert pace.wait(10.0, [10.0], [4, 1]) == pytest.approx(0.5)


def test_batches_grow_where_that_is_faster_by_picture_and_within_the_budget() -> None:
    gpu = {"s1": 0.010, "s2": 0.011, "s4": 0.013, "s8": 0.017}
    assert paced(0.1, **gpu).choose([1] * 10, most=8, waited=0.0) == 8
    assert paced(0.1, **gpu).choose([1] * 10, most=4, waited=0.0) == 4
    assert paced(0.1, **gpu).choose([3, 3, 3], most=8, waited=0.0) == 2
    # 13.5 ms are left to the oldest: a batch of eight would come too late.
    assert paced(0.02, **gpu).choose([1] * 10, most=8, waited=0.0065) == 4
    processor = {"s1": 0.010, "s2": 0.020, "s4": 0.041}
    assert paced(0.1, **processor).choose([1] * 10, most=8, waited=0.0) == 1


def test_a_request_larger_than_a_batch_is_a_batch_of_its_own() -> None:
    assert paced(0.1, s1=0.01, s2=0.011).choose([40, 1], most=8, waited=5.0) == 1
