"""Many cameras on two cores: are people seen, how fast, at what cost; Ultralytics beside it.

``stream_feeds.py`` makes the feeds; ``stream_detector.py`` the detector, YOLOv8n at 320 x 192.
The edge agent's own loop watches all feeds at once, decoding processes and all, for
``--seconds``; a person who comes must become an event. Times are those of the feed: how much of
a file was played at which moment is read from the reader. The peer plays the same files with
``predict(stream=True, vid_stride=5)``, one after another as fast as it can: the feeds it could
sustain are the seconds of video it gets through in a second.

    python benchmarks/streams.py --feeds 100 --seconds 150
    python benchmarks/streams.py --feeds 12 --seconds 40 --busy      # somebody always there
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from report import make_row, save_results
from stream_detector import MODEL, make_release, weights
from stream_feeds import FPS, GOP, Feed, make_feeds

from visionloop.core.privacy import set_quiet_environment
from visionloop.core.progress import say_step
from visionloop.core.workspace import Workspace
from visionloop.serving.edge.cameras.messages import CameraStatus
from visionloop.serving.edge.delivery.outbox import read_events
from visionloop.serving.edge.device import Device
from visionloop.serving.edge.live import Live
from visionloop.serving.edge.record.recording import Recorder
from visionloop.serving.edge.record.store import DATABASE_NAME
from visionloop.serving.edge.settings import SettingsFile
from visionloop.serving.edge.updates.release_source import ReleaseFolder
from visionloop.serving.edge.updates.smaller_models import SmallerModels
from visionloop.serving.edge.updates.takeover import Updates

CORES = 2
SETTLE_S = 15.0
"""Starting up is not measured: decoding processes, first looks at everything."""
GRACE_S = 1.5
PEER_FPS = 5
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Sampled:
    """What is noted while the agent runs: status of the readers, and processor time."""

    moments: list[float] = field(default_factory=list)
    status: list[dict[str, CameraStatus]] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)


def main() -> None:
    """Measure, print the table, write ``results/streams.json``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--feeds", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--busy", action="store_true", help="somebody is always there")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--peer-seconds", type=float, default=30)
    given = parser.parse_args()
    set_quiet_environment()
    with tempfile.TemporaryDirectory() as name:
        place = Workspace(Path(name))
        activity = 1.0 if given.busy else 0.05
        bases = 2 if given.busy else 8
        feeds = make_feeds(given.feeds, activity=activity, bases=bases, folder=place.root / "feeds")
        make_release(place.releases)
        ours = watch(place, feeds, given.seconds)
        peer = None if given.no_peer else play_with_peer(feeds, given.peer_seconds)
    name = "streams_busy" if given.busy else "streams"
    save_results(name, rows_of(ours, peer, given), feeds=given.feeds, ours=ours, peer=peer)


def watch(place: Workspace, feeds: list[Feed], seconds: float) -> dict[str, Any]:
    """Let the agent watch the feeds; returns the figures."""
    config = _write_config(place, feeds)
    settings = SettingsFile(place, config)
    sampled = Sampled()
    with closing(Device(place.edge, place.root, settings.params)) as device:
        updates = Updates(
            folder=place.edge,
            releases=ReleaseFolder(place.releases),
            model=MODEL,
            params=settings.params,
            report=lambda what, facts: say_step(f"{what}: {facts}"),
        )
        model = updates.open()
        live = Live(
            workspace=place,
            settings=settings,
            updates=updates,
            model=model,
            smaller=SmallerModels(
                settings.params, ReleaseFolder(place.releases), folder=place.edge, full=model
            ),
            recorder=Recorder(place.edge, device.outbox),
            device=device,
        )
        ended = threading.Event()
        sampler = threading.Thread(target=_sample, args=(live, sampled, ended), daemon=True)
        sampler.start()
        say_step(f"watching {len(feeds)} feeds for {seconds:.0f} s")
        end = time.monotonic() + SETTLE_S + seconds
        live.run(lambda: time.monotonic() >= end)
        ended.set()
        sampler.join()
    return _judge(place, feeds, live, sampled)


def _write_config(place: Workspace, feeds: list[Feed]) -> Path:
    rule = {
        "name": "person",
        "kind": "forbidden_class",
        "class_name": "person",
        "minimum_confidence": 0.4,
        "cooldown_s": 2.5,
    }
    cameras = [
        {"name": feed.path.stem, "kind": "file", "path": str(feed.path), "loop": True}
        for feed in feeds
    ]
    content = {
        "model": MODEL,
        "threads": 1,
        "cameras": cameras,
        "rules": [rule],
        "evidence": {"clip_before_s": 2.0, "clip_after_s": 1.0},
    }
    config = place.root / "edge.yaml"
    config.write_text(yaml.safe_dump(content, sort_keys=False))
    return config


def _sample(live: Live, sampled: Sampled, ended: threading.Event) -> None:
    while not ended.wait(0.5):
        pids = [os.getpid(), *live.fleet.processes]
        sampled.moments.append(time.monotonic())
        sampled.status.append(dict(live.fleet.status))
        sampled.cpu_s.append(sum(_cpu_s(pid) for pid in pids))


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def _judge(place: Workspace, feeds: list[Feed], live: Live, sampled: Sampled) -> dict[str, Any]:
    """Compare events with the truth, on the clock of each feed."""
    begin, end = sampled.moments[0] + SETTLE_S, sampled.moments[-1]
    first = int(np.searchsorted(sampled.moments, begin))
    cpu = sampled.cpu_s[-1] - sampled.cpu_s[first]
    wall = sampled.moments[-1] - sampled.moments[first]
    events: dict[str, list[float]] = {}
    for event in read_events(place.edge / DATABASE_NAME):
        events.setdefault(event.payload["camera"], []).append(event.created_monotonic)
    delays: list[float] = []
    missed = false = 0
    late, false_which = [], []
    for feed in feeds:
        clock = _clock(feed, sampled)
        told = sorted(events.get(feed.path.stem, []))
        everywhere = _visits(feed, clock)
        visits = [v for v in everywhere if v[0] >= begin and v[1] <= end]
        for came, left in visits:
            hits = [moment for moment in told if came <= moment <= left + GRACE_S]
            if hits:
                delays.append(hits[0] - came)
            else:
                missed += 1
                late.append((feed.path.stem, round(came - begin, 1), round(left - came, 1)))
        alone = [
            moment
            for moment in told
            if begin <= moment <= end
            and not any(came - 1 <= moment <= left + GRACE_S for came, left in everywhere)
        ]
        false += len(alone)
        false_which += [(feed.path.stem, round(moment - begin, 1)) for moment in alone]
    service, work = np.array(live.counts.service_ms), np.array(live.counts.work_ms)
    last = sampled.status[-1]
    before = sampled.status[first]
    packets = [last[name].packets - before[name].packets for name in last if name in before]
    return {
        "visits": len(delays) + missed,
        "missed": missed,
        "missed_which": late[:20],
        "false_events": false,
        "false_which": false_which[:20],
        "recall": len(delays) / max(1, len(delays) + missed),
        "delay_p50_s": float(np.percentile(delays, 50)) if delays else None,
        "delay_p95_s": float(np.percentile(delays, 95)) if delays else None,
        "service_p50_ms": float(np.percentile(service, 50)),
        "service_p95_ms": float(np.percentile(service, 95)),
        "work_p50_ms": float(np.percentile(work, 50)),
        "work_p95_ms": float(np.percentile(work, 95)),
        "frames_analysed": live.counts.frames,
        "analysed_per_s": live.counts.frames / (wall + SETTLE_S),
        "too_old": live.counts.too_old,
        "clips": live.counts.clips,
        "clip_faults": live.counts.clip_faults,
        "cpu_share": cpu / wall / CORES,
        "seconds": wall,
        "played_share": float(np.sum(packets) / FPS / wall / len(feeds)),
        "slowest_feed_share": float(np.min(packets) / FPS / wall),
        "fps_of_feeds": _rates(live, wall + SETTLE_S),
        "restarts": live.fleet.restarts,
    }


def _clock(feed: Feed, sampled: Sampled) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Monotonic moments, and seconds of the feed that had been played by then."""
    rows = [status.get(feed.path.stem) for status in sampled.status]
    pairs = sorted({(row.beat, row.packets / FPS) for row in rows if row and row.packets})
    moments, played = zip(*pairs, strict=True)
    return np.array(moments), np.array(played)


def _visits(feed: Feed, clock: Any) -> list[tuple[float, float]]:
    """When somebody is in the picture, on the monotonic clock; files are played in a loop."""
    moments, played = clock
    found = []
    for turn in range(-1, int(played[-1] // feed.seconds) + 1):
        for visit in feed.visits:
            # The first packet is that of time 0, so n packets end at the (n - 1)th frame.
            places = np.array(visit) + turn * feed.seconds + 1 / FPS
            if places[1] >= played[0] and places[0] <= played[-1]:
                inside = np.clip(places, played[0], played[-1])
                a, b = np.interp(inside, played, moments) + (places - inside)
                found.append((float(a), float(b)))
    return found


def _rates(live: Live, seconds: float) -> list[float]:
    counts = sorted(live._records.sequences.values())
    return [
        round(count / seconds, 2) for count in (counts[0], counts[len(counts) // 2], counts[-1])
    ]


def play_with_peer(feeds: list[Feed], seconds: float) -> dict[str, Any]:
    """Ultralytics on the same files: seconds of video that it gets through in a second."""
    from ultralytics import YOLO

    network = YOLO(str(weights()))
    fields = {"stream": True, "vid_stride": FPS // PEER_FPS, "verbose": False, "device": "cpu"}
    for _ in zip(range(5), network.predict(str(feeds[0].path), **fields), strict=False):
        pass  # the first frames load and fuse
    frames, start, cpu = 0, time.monotonic(), time.process_time()
    for feed in feeds:
        for _ in network.predict(str(feed.path), **fields):
            frames += 1
            if time.monotonic() - start > seconds:
                break
        if time.monotonic() - start > seconds:
            break
    wall = time.monotonic() - start
    return {
        "feeds": frames / PEER_FPS / wall,
        "frames_per_s": frames / wall,
        "cpu_share": (time.process_time() - cpu) / wall / CORES,
    }


def rows_of(ours: dict[str, Any], peer: dict[str, Any] | None, given: Any) -> list[dict[str, Any]]:
    """The table."""
    what = f"{given.feeds} feeds{', somebody always there' if given.busy else ''}"
    rows = [
        make_row(f"{what}: service time p95, ms", ours["service_p95_ms"], target=50.0,
                 higher_is_better=False),
        make_row(f"{what}: the same in processor time, p95, ms", ours["work_p95_ms"]),
        make_row(f"{what}: processor, share of {CORES} cores", ours["cpu_share"], target=0.85,
                 higher_is_better=False),
        make_row(f"{what}: share of each second that was played", ours["played_share"],
                 target=0.98),
    ]  # fmt: skip
    if not given.busy:
        rows += [
            make_row(f"{what}: visits that became an event ({ours['visits']})", ours["recall"],
                     target=0.99),
            make_row(f"{what}: first frame to event p95, s, key frames every {GOP / FPS:.0f} s",
                     ours["delay_p95_s"] or 1e9, target=2.5, higher_is_better=False),
            make_row(f"{what}: events without anybody", float(ours["false_events"])),
        ]  # fmt: skip
    if peer is not None:
        rows.append(
            make_row(
                "feeds on two cores at 5 frames a second",
                float(given.feeds),
                peer=peer["feeds"],
                peer_name="Ultralytics predict(stream=True, vid_stride=5)",
                target=None if given.busy else 20 * peer["feeds"],
            )
        )
    return rows


if __name__ == "__main__":
    main()
