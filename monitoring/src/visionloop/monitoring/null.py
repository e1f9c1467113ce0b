"""Does the check stay silent when nothing changed? Random halves of one window tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from visionloop.monitoring.families import compare_windows
from visionloop.monitoring.params import DriftParams
from visionloop.monitoring.windows import Window

__all__ = ["NullDraws", "null_draws"]


@dataclass(frozen=True)
class NullDraws:
    """Comparisons of random halves of one window.

    Attributes
    ----------
    draws : int
        How many were made; 0 where a half is too small.
    false_alarms : int
    p_values : tuple of float
        Smallest p-value of each draw after correction.
    note : str
        Why none were made.
    """

    draws: int
    false_alarms: int
    p_values: tuple[float, ...] = ()
    note: str = ""


def null_draws(
    window: Window, *, params: DriftParams, alpha: float, n: int = 20, seed: int = 0
) -> NullDraws:
    """Split a window into random halves ``n`` times and count how often drift is found.

    At alpha .01 two or more alarms of 20 come by chance in 1.7 % of all cases.
    """
    window = window.thinned(2 * params.max_frames)
    half = len(window) // 2
    if half < params.min_frames:
        needed = 2 * params.min_frames
        return NullDraws(0, 0, note=f"insufficient data: {len(window)} frames, {needed} are needed")
    rng = np.random.default_rng([seed, len(window)])
    smallest = []
    alarms = 0
    for draw in range(n):
        order = rng.permutation(len(window))
        first, second = window.take(np.sort(order[:half])), window.take(np.sort(order[half:]))
        decision = compare_windows(first, second, params=params, alpha=alpha, seed=seed + draw + 1)
        if decision.p_value is not None:
            smallest.append(decision.p_value)
        alarms += decision.is_drift
    return NullDraws(len(smallest), alarms, tuple(smallest))
