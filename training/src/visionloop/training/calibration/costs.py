"""Thresholds by cost: where a miss and a false alarm cost different things."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ClassThreshold", "Statements", "choose_threshold"]


@dataclass(frozen=True, eq=False)
class Statements:
    """What a network said about one class on the samples thresholds are chosen on.

    Attributes
    ----------
    confidence : float array (N,)
    is_true : bool array (N,)
        Whether the class, attribute or object was there.
    missed : int
        Objects that no statement names (detection), whatever the threshold.
    lowest : float
        Smallest confidence of which statements were collected; no threshold lies below it.
    """

    confidence: NDArray[np.floating]
    is_true: NDArray[np.bool_]
    missed: int = 0
    lowest: float = 0.0


@dataclass(frozen=True)
class ClassThreshold:
    """The threshold of one class, and what it costs.

    Attributes
    ----------
    threshold : float
        Smallest confidence that counts.
    cost, cost_of_default : float
        Of all misses and false alarms, with this threshold and with the default one.
    misses, false_alarms : int
        With this threshold.
    support : int
        True cases.
    why_not : str
        Why the default was kept, empty where a threshold was chosen.
    """

    threshold: float
    cost: float
    cost_of_default: float
    misses: int
    false_alarms: int
    support: int
    why_not: str = ""


def choose_threshold(
    said: Statements,
    *,
    default: float,
    miss_cost: float,
    false_alarm_cost: float,
    min_support: int,
) -> ClassThreshold:
    """The threshold at which misses and false alarms together cost least.

    Thresholds lie half-way between neighbouring confidences; of several that cost the same
    the one nearest to ``default`` is taken.

    Parameters
    ----------
    said : Statements
    default : float
        Kept where fewer than ``min_support`` cases are true.
    miss_cost, false_alarm_cost : float
        In any unit, for example minutes or money.
    """
    order = np.argsort(-said.confidence, kind="stable")
    confidence = np.asarray(said.confidence, np.float64)[order]
    is_true = said.is_true[order]
    total = int(is_true.sum()) + said.missed

    def count(threshold: float) -> tuple[int, int]:
        shown = confidence >= threshold
        return total - int((shown & is_true).sum()), int((shown & ~is_true).sum())

    def priced(threshold: float) -> float:
        misses, alarms = count(threshold)
        return miss_cost * misses + false_alarm_cost * alarms

    kept = (priced(default), priced(default), *count(default), total)
    if total < min_support:
        return ClassThreshold(default, *kept, f"{total} true cases, fewer than {min_support}")
    cuts = _cuts(confidence, said.lowest)
    shown = np.searchsorted(-confidence, -cuts, side="right")
    right = np.concatenate([[0], np.cumsum(is_true)])[shown]
    costs = miss_cost * (total - right) + false_alarm_cost * (shown - right)
    cheapest = cuts[costs <= costs.min() + 1e-9]
    best = float(cheapest[np.abs(cheapest - default).argmin()])
    if priced(default) <= priced(best):
        return ClassThreshold(default, *kept, "no threshold costs less")
    return ClassThreshold(best, priced(best), priced(default), *count(best), total)


def _cuts(confidence: NDArray[np.float64], lowest: float) -> NDArray[np.float64]:
    """Half-way between neighbours, below the smallest and above the largest."""
    values = np.unique(confidence[confidence >= lowest])
    ends = np.concatenate([[lowest], values, [1.0]])
    cuts: NDArray[np.float64] = np.unique(np.round((ends[:-1] + ends[1:]) / 2, 6))
    return cuts
