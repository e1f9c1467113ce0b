"""What a soak's faults cost: the cameras they happened to, and their neighbours.

The agent's figures are refreshed once a second, at two places one after the other, so a single
look is up to two seconds old. The difference of two looks 15 seconds apart is a frame rate to no
better than a tenth (over any 15 calm seconds it was .87 to 1.16 of that before); rates are
therefore slopes through all looks of half a minute, camera by camera. When the last frame was
decoded is exact in every look, but of the frames of a second only the last is told: between two
such moments a neighbour certainly has a good frame for two seconds after the first, and was
without one for certain only if the next comes more than three seconds after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from report import make_row
from soak_report import Fault, Run, Sample

__all__ = ["UNHAPPY", "fault_rows", "follow"]

UNHAPPY = 2
"""Cameras behind the server to which things happen."""
NAMES = tuple(f"unhappy-{n}" for n in range(1, UNHAPPY + 1))
AFTER_S, RATE_S, BEFORE_S, FOLLOWED_S = 10.0, 30.0, 50.0, 60.0
"""Seconds: after a fault its neighbours may still notice it; over which a rate is measured, at
least; before a fault; for which a camera is followed after one."""
GOOD_AGE_S, REFRESH_S, TICK_S = 2.0, 1.0, 0.05


def fault_rows(run: Run) -> list[dict[str, Any]]:
    """How soon trouble is seen, how soon it is over, and what the neighbours notice."""
    if not run.faults:
        return []
    rows = []
    for kind in ("killed", "frozen", "flapping"):
        faults = [fault for fault in run.faults if fault.kind == kind]
        seen = [_seen_after(run, fault, name) for fault in faults for name in NAMES]
        if seen:
            claim = f"{kind}: seen after, s, at worst of {len(seen)}"
            rows.append(make_row(claim, max(seen), target=6.0, higher_is_better=False))
    pairs = [(fault, name) for fault in run.faults for name in NAMES]
    back = [_back_after(run, *pair) for pair in pairs]
    claim = f"first frame after the return, s, p95 of {len(back)}"
    value = float(np.quantile(back, 0.95, method="higher"))
    rows.append(make_row(claim, value, target=10.0, higher_is_better=False))
    for kind in dict.fromkeys(fault.kind for fault in run.faults):
        outages = [_own_outage(run, *pair) for pair in pairs if pair[0].kind == kind]
        claim = f"{kind}: longest without a good frame beyond the fault, s, of {len(outages)}"
        rows.append(make_row(claim, max(outages), target=16.0, higher_is_better=False))
    return rows + _neighbour_rows(run)


def _neighbour_rows(run: Run) -> list[dict[str, Any]]:
    shares = [_rate_shares(run, fault) for fault in run.faults]
    calm, troubled = _available(run, GOOD_AGE_S + REFRESH_S)
    surely_calm, surely_troubled = _available(run, GOOD_AGE_S)
    good = f"all neighbours had a frame at most {GOOD_AGE_S:g} s old"
    return [
        make_row("frame rate of the neighbours meanwhile, by that before: median, worst fault",
                 min(float(np.median(list(one.values()))) for one in shares), target=0.95),
        make_row("the same of the worst neighbour at the worst fault",
                 min(min(one.values()) for one in shares)),
        make_row(f"{good}: share of fault time, to the second that is told", troubled, target=1.0),
        make_row("the same between faults", calm),
        make_row(f"{good}: share of fault time in which that is certain", surely_troubled),
        make_row("the same between faults", surely_calm),
        make_row("bad camera-minutes of neighbours since the first fault",
                 _bad_minutes(run), target=0.0, higher_is_better=False),
    ]  # fmt: skip


def follow(run: Run, fault: Fault) -> dict[str, Any]:
    """What was seen of the second server's cameras: second, up, packets, age; and the
    neighbours' frame rates by those before."""
    inside = list(_between(run, fault.began - 3, _end_of(run, fault)))
    rows: dict[str, Any] = {
        name: [
            (round(one.second, 1), one.up.get(name), one.packets.get(name), one.age_s.get(name))
            for one in inside
        ]
        for name in NAMES
    }
    return {**rows, "neighbours": _rate_shares(run, fault)}


def _seen_after(run: Run, fault: Fault, name: str) -> float:
    during = _between(run, fault.began, float("inf"))
    gone = (one.second - fault.began for one in during if not one.up.get(name, True))
    return next(gone, float("inf"))


def _back_after(run: Run, fault: Fault, name: str) -> float:
    after = list(_between(run, fault.ended, float("inf")))
    first = after[0].packets.get(name, 0.0) if after else 0.0
    came = (
        one.second - fault.ended
        for one in after
        if one.up.get(name) and one.packets.get(name, 0.0) != first
    )
    return next(came, float("inf"))


def _own_outage(run: Run, fault: Fault, name: str) -> float:
    """The longest stretch without a new decoded frame, without what of it lay in the fault."""
    end = _end_of(run, fault)
    came = {one.second - one.age_s[name] for one in _between(run, fault.began - 3, end)
            if name in one.age_s}  # fmt: skip
    moments = [*sorted(came), end]
    beyond = [
        b - a - max(0.0, min(b, fault.ended) - max(a, fault.began)) for a, b in pairwise(moments)
    ]
    return max(beyond, default=float("inf"))


def _rate_shares(run: Run, fault: Fault) -> dict[str, float]:
    """Packets a second of each neighbour during and after the fault, by those before it."""
    before = _rates(run, fault.began - BEFORE_S, fault.began)
    last = max(fault.ended + AFTER_S, fault.began + RATE_S)
    meanwhile = _rates(run, fault.began, last)
    return {name: round(meanwhile.get(name, 0.0) / rate, 4) for name, rate in before.items()}


def _rates(run: Run, first: float, last: float) -> dict[str, float]:
    """Slope of each neighbour's packets over the looks of a stretch."""
    inside = list(_between(run, first, last))
    seconds = np.array([one.second for one in inside])
    rates = {}
    for name in inside[0].packets:
        if name in NAMES:
            continue
        steps = np.diff([one.packets.get(name, 0.0) for one in inside], prepend=0.0)
        steps[0] = 0.0
        # A process that began anew counts from nothing.
        anew = steps < 0
        steps[anew] = [one.packets.get(name, 0.0) for one, is_new in zip(inside, anew, strict=True)
                       if is_new]  # fmt: skip
        rates[name] = float(np.polyfit(seconds, np.cumsum(steps), 1)[0])
    return rates


def _available(run: Run, age_s: float) -> tuple[float, float]:
    """Share of the time, between faults and in them (with what follows), in which no neighbour's
    last frame that is known of was older."""
    begin = max(run.faults[0].began - BEFORE_S, run.samples[0].second) + age_s
    looks = [one for one in run.samples if one.second >= begin - age_s]
    moments = np.arange(begin, looks[-1].second - age_s, TICK_S)
    is_good = np.ones(len(moments), bool)
    for name in looks[-1].up:
        if name not in NAMES:
            frames = np.array(sorted(one.second - one.age_s[name] for one in looks
                                     if name in one.age_s))  # fmt: skip
            last = np.searchsorted(frames, moments, side="right") - 1
            is_good &= (last >= 0) & (moments - frames[last] <= age_s)
    in_fault = np.zeros(len(moments), bool)
    for fault in run.faults:
        in_fault |= (moments >= fault.began) & (moments <= fault.ended + AFTER_S)
    return float(is_good[~in_fault].mean()), float(is_good[in_fault].mean())


def _bad_minutes(run: Run) -> float:
    """As the agent itself counts them."""
    first = next(_between(run, run.faults[0].began, float("inf"))).bad_minutes
    last = run.samples[-1].bad_minutes
    return sum(count - first.get(name, 0.0) for name, count in last.items() if name not in NAMES)


def _between(run: Run, first: float, last: float) -> Iterator[Sample]:
    return (one for one in run.samples if first <= one.second <= last)


def _end_of(run: Run, fault: Fault) -> float:
    """How far a camera is followed: not into the next fault."""
    later = [one.began for one in run.faults if one.began > fault.began]
    return min([fault.ended + FOLLOWED_S, *later, run.samples[-1].second])
