"""What a soak gave: samples of the agent's metrics, what happened, and the rows of the table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from report import make_row

__all__ = ["UNHAPPY", "Fault", "Run", "Sample", "follow", "rows_of"]

UNHAPPY = 2
"""Cameras behind the server to which things happen."""


@dataclass
class Sample:
    """One look at the metrics and at the memory."""

    second: float
    memory_mb: float
    up: dict[str, bool]
    packets: dict[str, float]


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
    rows = [
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
    return rows + fault_rows(run)


def fault_rows(run: Run) -> list[dict[str, Any]]:
    """How soon trouble is seen, how soon it is over, and what the neighbours notice."""
    seen, back, shares = [], [], []
    for fault in run.faults:
        during = [one for one in run.samples if one.second >= fault.began]
        for name in (f"unhappy-{n}" for n in range(1, UNHAPPY + 1)):
            gone = (one.second - fault.began for one in during if not one.up.get(name, True))
            seen.append(next(gone, float("inf")))
            after = [one for one in during if one.second >= fault.ended]
            first = after[0].packets.get(name, 0.0) if after else 0.0
            came = (
                one.second - fault.ended
                for one in after
                if one.up.get(name) and one.packets.get(name, 0.0) != first
            )
            back.append(next(came, float("inf")))
        shares.append(neighbours_share(run, fault))
    rows = []
    for kind in ("killed", "frozen"):
        owners = [fault.kind for fault in run.faults for _ in range(UNHAPPY)]
        found = [one for one, owner in zip(seen, owners, strict=True) if owner == kind]
        if found:
            claim = f"{kind}: seen after, s, at worst of {len(found)}"
            rows.append(make_row(claim, max(found), target=6.0, higher_is_better=False))
    if back:
        claim = f"first frame after the return, s, p95 of {len(back)}"
        value = float(np.quantile(back, 0.95, method="higher"))
        rows.append(make_row(claim, value, target=10.0, higher_is_better=False))
        claim = "frame rate of the neighbours meanwhile, by that before, at worst"
        rows.append(make_row(claim, min(shares), target=0.95))
    return rows


def follow(run: Run, fault: Fault) -> dict[str, list[tuple[float, bool, float]]]:
    """What was seen of the second server's cameras: second, up, packets; to 60 s after it."""
    inside = [one for one in run.samples if fault.began - 3 <= one.second <= fault.ended + 60]
    return {
        name: [(round(one.second, 1), one.up[name], one.packets[name]) for one in inside]
        for name in (f"unhappy-{n}" for n in range(1, UNHAPPY + 1))
    }


def neighbours_share(run: Run, fault: Fault) -> float:
    """Packets a second of all other cameras from the fault to 10 s after it, by those before."""

    def rate(first: float, last: float) -> float:
        inside = [one for one in run.samples if first <= one.second <= last]
        a, b = inside[0], inside[-1]
        names = [name for name in a.packets if not name.startswith("unhappy")]
        grown = sum(b.packets[name] - a.packets[name] for name in names)
        return float(grown / (b.second - a.second))

    return rate(fault.began, fault.ended + 10) / rate(fault.began - 30, fault.began)
