"""Events of the agent against the truth of the feeds of ``streams.py``: recall, delay, rates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from stream_feeds import Feed
from stream_scenes import FPS
from stream_watch import SETTLE_S, Sampled

from visionloop.core.workspace import Workspace
from visionloop.serving.edge.delivery.outbox import read_events
from visionloop.serving.edge.live import Live
from visionloop.serving.edge.record.store import DATABASE_NAME

__all__ = ["CORES", "judge"]

CORES = 2
GRACE_S = 1.5


@dataclass
class _Score:
    delays: list[float] = field(default_factory=list)
    missed: list[tuple[str, float, float]] = field(default_factory=list)
    false: list[tuple[str, float]] = field(default_factory=list)
    lengths: dict[int, float] = field(default_factory=dict)
    """Number of a drawn visit to its length, of those that were seen whole."""


def judge(place: Workspace, feeds: list[Feed], live: Live, sampled: Sampled) -> dict[str, Any]:
    """The figures; times are those of the feeds, whose clocks are read from the readers."""
    begin, end = sampled.moments[0] + SETTLE_S, sampled.moments[-1]
    first = int(np.searchsorted(sampled.moments, begin))
    cpu = sampled.cpu_s[-1] - sampled.cpu_s[first]
    wall = sampled.moments[-1] - sampled.moments[first]
    score = _score(place, feeds, sampled, begin, end)
    delays, lengths = score.delays, list(score.lengths.values())
    service, work = np.array(live.counts.service_ms), np.array(live.counts.work_ms)
    last, before = sampled.status[-1], sampled.status[first]
    packets = [last[name].packets - before[name].packets for name in last if name in before]
    offered = [last[name].offered - before[name].offered for name in last if name in before]
    rates = _rates(feeds, sampled, first, wall)
    visits = len(delays) + len(score.missed)
    return {
        "visits": visits,
        "different_visits": len(lengths),
        "visit_lengths_s": [float(q) for q in np.quantile(lengths, [0, 0.5, 1])] if lengths else [],
        "missed": len(score.missed),
        "missed_which": score.missed[:20],
        "false_events": len(score.false),
        "false_which": score.false[:20],
        "recall": len(delays) / max(1, visits),
        "delay_p50_s": float(np.percentile(delays, 50)) if delays else None,
        "delay_p95_s": float(np.percentile(delays, 95)) if delays else None,
        "service_p50_ms": float(np.percentile(service, 50)),
        "service_p95_ms": float(np.percentile(service, 95)),
        "work_p50_ms": float(np.percentile(work, 50)),
        "work_p95_ms": float(np.percentile(work, 95)),
        "frames_analysed": live.counts.frames,
        "offered_per_s": float(np.sum(offered) / wall),
        "analysed_per_s": float(np.sum(rates)),
        "fps_of_feeds": [float(q) for q in np.quantile(rates, [0, 0.5, 1])],
        "too_old": live.counts.too_old,
        "deepest_level": max(sampled.levels),
        "clips": live.counts.clips,
        "clip_faults": live.counts.clip_faults,
        "cpu_share": cpu / wall / CORES,
        "seconds": wall,
        "played_share": float(np.sum(packets) / FPS / wall / len(feeds)),
        "slowest_feed_share": float(np.min(packets) / FPS / wall),
        "restarts": live.fleet.restarts,
    }


def _score(
    place: Workspace, feeds: list[Feed], sampled: Sampled, begin: float, end: float
) -> _Score:
    """Which visits became an event, and which events nobody caused."""
    events: dict[str, list[float]] = {}
    for event in read_events(place.edge / DATABASE_NAME):
        if "rule" in event.payload:  # not what the device says of itself and of its cameras
            events.setdefault(event.payload["camera"], []).append(event.created_monotonic)
    score = _Score()
    for feed in feeds:
        name = feed.path.stem
        told = sorted(events.get(name, []))
        everywhere = _visits(feed, _clock(feed, sampled))
        for came, left, number in everywhere:
            if came < begin or left > end:
                continue
            score.lengths[number] = left - came
            hits = [moment for moment in told if came <= moment <= left + GRACE_S]
            if hits:
                score.delays.append(hits[0] - came)
            else:
                score.missed.append((name, round(came - begin, 1), round(left - came, 1)))
        score.false += [
            (name, round(moment - begin, 1))
            for moment in told
            if begin <= moment <= end
            and not any(came - 1 <= moment <= left + GRACE_S for came, left, _ in everywhere)
        ]
    return score


def _clock(feed: Feed, sampled: Sampled) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Monotonic moments, and seconds of the feed that had been played by then."""
    rows = [status.get(feed.path.stem) for status in sampled.status]
    pairs = sorted({(row.beat, row.packets / FPS) for row in rows if row and row.packets})
    moments, played = zip(*pairs, strict=True)
    return np.array(moments), np.array(played)


def _visits(feed: Feed, clock: Any) -> list[tuple[float, float, int]]:
    """When somebody is in the picture, on the monotonic clock, and which drawn visit it is;
    files are played in a loop."""
    moments, played = clock
    found = []
    for turn in range(int(played[-1] // feed.seconds) + 1):
        for visit in feed.visits:
            # The first packet is that of time 0, so n packets end at the (n - 1)th frame.
            places = np.array([visit.first, visit.last]) + turn * feed.seconds + 1 / FPS
            if places[1] >= played[0] and places[0] <= played[-1]:
                inside = np.clip(places, played[0], played[-1])
                a, b = np.interp(inside, played, moments) + (places - inside)
                found.append((float(a), float(b), visit.number))
    return found


def _rates(feeds: list[Feed], sampled: Sampled, first: int, wall: float) -> list[float]:
    """Frames a second that were analysed of each feed after the start."""
    before, after = sampled.analysed[first], sampled.analysed[-1]
    names = [feed.path.stem for feed in feeds]
    return [(after.get(name, 0) - before.get(name, 0)) / wall for name in names]
