"""How a data set's samples are shared out over the phases of the story."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TypeVar

from visionloop.core.errors import ConfigError

__all__ = ["PHASES", "cap_phases", "check_phases", "fill_phases", "time_of"]

PHASES = ("commissioning", "acceptance", "production_1", "production_2")
"""Annotated by experts; annotated and held back for testing; not annotated; the shifted line."""

_FIRST_DAY = {
    "commissioning": "2026-01-05",
    "acceptance": "2026-02-02",
    "production_1": "2026-03-02",
    "production_2": "2026-04-06",
}
_SECONDS_APART = 30

Key = TypeVar("Key")


def check_phases(names: Iterable[str], subject: str) -> None:
    """Refuse a phase that the story does not have (ConfigError)."""
    wrong = [name for name in names if name not in PHASES]
    if wrong:
        raise ConfigError(
            subject,
            [f"there is no phase '{name}'" for name in wrong],
            f"phases: {', '.join(PHASES)}",
        )


def fill_phases(
    groups: Sequence[Sequence[Key]], sizes: Sequence[tuple[str, int | None]], seed: int
) -> dict[Key, str]:
    """Give whole groups to phases in random order until each phase has its size.

    Parameters
    ----------
    groups : sequence of groups of keys
        A group is never divided.
    sizes : sequence of (phase, size)
        Filled in this order; None takes all that is left.
    seed : int

    Returns
    -------
    dict of key to phase
        Keys of groups that no phase wanted are absent.
    """
    order = list(range(len(groups)))
    random.Random(seed).shuffle(order)
    waiting = iter(order)
    phase_of: dict[Key, str] = {}
    for phase, size in sizes:
        taken = 0
        while size is None or taken < size:
            group = next(waiting, None)
            if group is None:
                break
            phase_of |= dict.fromkeys(groups[group], phase)
            taken += len(groups[group])
    return phase_of


def cap_phases(phase_of: dict[Key, str], limits: Mapping[str, int]) -> dict[Key, str]:
    """Keep at most ``limits[phase]`` keys of a phase, evenly spread over its keys in order."""
    kept = dict(phase_of)
    for phase, limit in limits.items():
        keys = [key for key, name in phase_of.items() if name == phase]
        stay = {keys[number * len(keys) // limit] for number in range(min(limit, len(keys)))}
        for key in keys:
            if key not in stay:
                del kept[key]
    return kept


def time_of(phase: str, number: int) -> str:
    """When the ``number``-th sample of a phase was taken: UTC, RFC 3339 (simulated)."""
    first = datetime.fromisoformat(_FIRST_DAY[phase]).replace(tzinfo=timezone.utc)
    moment = first + timedelta(hours=6, seconds=number * _SECONDS_APART)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
