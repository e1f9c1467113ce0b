"""Which images give INT8 its ranges, and which layers stay in float."""

from __future__ import annotations

import time

import numpy as np

from visionloop.serving.quantization import choose_for_coverage, find_sensitive_layers

LAYERS = [f"Conv_{number}" for number in range(40)]


def test_images_are_chosen_far_from_each_other() -> None:
    rng = np.random.default_rng(0)
    places = np.repeat([[0, 0], [9, 0], [0, 9], [9, 9]], 25, axis=0) + rng.normal(0, 0.2, (100, 2))
    chosen = choose_for_coverage(places, 4)
    assert len({one // 25 for one in chosen}) == 4
    assert choose_for_coverage(places, 4) == chosen
    assert sorted(choose_for_coverage(places, 1000)) == list(range(100))
    assert len(choose_for_coverage(np.ones((5, 3)), 3)) == 3  # all alike


def test_the_sensitive_layers_are_found_and_nothing_else_is_kept() -> None:
    cost = {"Conv_3": 0.3, "Conv_37": 0.2}
    search = find_sensitive_layers(
        LAYERS,
        lambda kept: sum(one for name, one in cost.items() if name not in kept),
        budget=0.01,
        seconds=60,
    )
    assert search.kept == ["Conv_3", "Conv_37"]
    assert search.is_complete and search.distance == 0
    assert search.distance_full == 0.5
    assert search.tried < len(LAYERS)


def test_a_kind_of_layers_that_are_no_neighbours() -> None:
    deep = LAYERS[::5]
    search = find_sensitive_layers(
        LAYERS,
        lambda kept: 0.0 if set(deep) <= set(kept) else 0.4,
        budget=0.01,
        seconds=60,
        kinds=[deep],
    )
    assert search.kept == deep and search.is_complete


def test_nothing_is_kept_where_nothing_is_lost_and_time_is_kept_to() -> None:
    search = find_sensitive_layers(LAYERS, lambda kept: 0.0, budget=0.01, seconds=60)
    assert search.kept == [] and search.tried == 1

    def slow(kept: list[str]) -> float:
        time.sleep(0.02)
        return 1.0

    start = time.monotonic()
    search = find_sensitive_layers(LAYERS, slow, budget=0.01, seconds=0.1)
    assert time.monotonic() - start < 3
    assert not search.is_complete
