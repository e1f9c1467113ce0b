"""Which layers of an INT8 form stay in float: those that lose most for the work they save.

Layers are ranked by what each alone, in INT8, does to the answers: a continuous measure, for
which a few images are enough. How many of them have to stay is then decided on the metric and on
decisions, for which it takes many.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Search", "find_sensitive_layers"]

PIECES = 80
"""Most pieces that are ranked; of larger graphs neighbouring layers are one piece."""

RANKING_SHARE = 0.6
"""Of the time; the rest is for the forms that are judged."""


@dataclass(frozen=True)
class Search:
    """What the search for sensitive layers found.

    Attributes
    ----------
    kept : list of str
        Layers that stay float32, in the order of the graph.
    distance_full, distance : float
        Of the form with every layer in INT8, and of the one that was chosen.
    tried : int
        Forms that were measured.
    is_complete : bool
        Whether the budget was reached.
    """

    kept: list[str]
    distance_full: float
    distance: float
    tried: int
    is_complete: bool


def find_sensitive_layers(
    layers: Sequence[str],
    *,
    noise: Callable[[list[str]], float],
    distance: Callable[[list[str]], float],
    budget: float,
    seconds: float,
    costs: Mapping[str, float] | None = None,
) -> Search:
    """Rank the layers, then keep as many of the first in float32 as the budget asks for.

    The noise of independent roundings adds up by its squares, so the square of what a layer
    adds, by the arithmetic that it saves, says which to give up first.

    Parameters
    ----------
    layers : sequence of str
        In the order of the graph.
    noise, distance : callables
        Of the form in which the given layers stay float32: how much its answers differ from
        FP32's, and what is lost of metric and decisions.
    budget : float
        The distance that is good enough.
    seconds : float
        No further form is measured after so long a time.
    costs : mapping of str to float, or None
        Share of each layer in the arithmetic; None takes all alike.
    """
    start = time.monotonic()
    full = distance([])
    if full <= budget or not layers:
        return Search([], full, full, 1, full <= budget)
    ranked = _rank(layers, noise, costs or {}, until=start + RANKING_SHARE * seconds)
    order = {name: place for place, name in enumerate(layers)}
    tried = {0: full}

    def keep(count: int) -> list[str]:
        return sorted((name for piece in ranked[:count] for name in piece), key=order.__getitem__)

    def is_good(count: int) -> bool:
        if count not in tried:
            tried[count] = distance(keep(count))
        return tried[count] <= budget

    end, low, high = start + seconds, 0, 1
    while high < len(ranked) and not is_good(high) and time.monotonic() < end:
        low, high = high, min(2 * high, len(ranked))
    if is_good(high):
        while high - low > 1 and time.monotonic() < end:
            middle = (low + high) // 2
            low, high = (low, middle) if is_good(middle) else (middle, high)
    good = [count for count in tried if tried[count] <= budget]
    best = min(good) if good else min(tried, key=tried.__getitem__)
    return Search(keep(best), full, tried[best], len(tried) + len(ranked), tried[best] <= budget)


def _rank(
    layers: Sequence[str],
    noise: Callable[[list[str]], float],
    costs: Mapping[str, float],
    *,
    until: float,
) -> list[list[str]]:
    """Pieces of the graph, those that lose most for what they save first.

    Those for which there was no time come last, dear ones at the end.
    """
    count = min(PIECES, len(layers))
    pieces = [list(one) for one in np.array_split(np.array(layers, object), count)]
    worth: list[float] = []
    for piece in pieces:
        saved = sum(costs.get(name, 1.0) for name in piece) or 1e-9
        if time.monotonic() >= until:
            worth.append(-saved)
            continue
        rest = set(piece)
        alone = noise([name for name in layers if name not in rest])
        worth.append(alone**2 / saved)
    by_worth = sorted(range(count), key=lambda place: -worth[place])
    return [pieces[place] for place in by_worth]
