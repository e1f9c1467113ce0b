"""What a soak gave: samples of the agent's metrics, and the rows about memory and queues."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from report import make_row

__all__ = ["Fault", "Run", "Sample", "rows_of"]


@dataclass
class Sample:
    """One look at the metrics and at the memory; by camera: up, packets, age of its last frame
    in seconds (not there before the first), bad minutes."""

    second: float
    memory_mb: float
    up: dict[str, bool]
    packets: dict[str, float]
    age_s: dict[str, float]
    bad_minutes: dict[str, float]


@dataclass
class Fault:
    """One thing that happened, in seconds since the start."""

    kind: str
    began: float
    ended: float = float("inf")


@dataclass
class Run:
    """What a run gave."""

    samples: list[Sample] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    queues: dict[str, tuple[float, float]] = field(default_factory=dict)
    level: int = 0


def rows_of(run: Run, given: Any) -> list[dict[str, Any]]:
    """The table."""
    warm = [one for one in run.samples if one.second >= 60 * given.warm_up]
    seconds = np.array([one.second for one in warm])
    memory = np.array([one.memory_mb for one in warm])
    slope = float(np.polyfit(seconds, memory, 1)[0]) * 60
    tenth = max(1, len(memory) // 10)
    growth = float(np.median(memory[-tenth:]) - np.median(memory[:tenth]))
    minutes = (seconds[-1] - seconds[0]) / 60
    return [
        make_row(f"memory grown in {minutes:.0f} min after {given.warm_up:g} min, MB", growth,
                 target=5.0, higher_is_better=False),
        make_row("its trend, MB a minute", slope),
        make_row("memory at the end, MB", float(memory[-1])),
        make_row("queues with a bound and a metric", float(len(run.queues))),
        make_row("queues that were longer than their bound",
                 float(sum(most > bound for most, bound in run.queues.values())), target=0.0,
                 higher_is_better=False),
        make_row("deepest level of the ladder", float(run.level)),
    ]  # fmt: skip
