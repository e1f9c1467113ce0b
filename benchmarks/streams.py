"""Many cameras on two cores: are people seen, how fast, at what cost; Ultralytics beside it.

``stream_feeds.py`` makes the feeds; ``stream_detector.py`` the detector, YOLOv8n at 320 x 192.
The edge agent's own loop watches all feeds at once, decoding processes and all, for
``--seconds`` (``stream_watch.py``); a person who comes must become an event
(``stream_truth.py``). Times are those of the feed: how much of a file was played at which moment
is read from the reader.

The peer plays the same files with ``predict(stream=True, vid_stride=5)``, one after another as
fast as it can: the feeds it could sustain are the seconds of video it gets through in a second.
Called like this it makes pictures 640 pixels wide and counts on one thread, which are its
defaults; a second row has it at 320, where both see the same pixels, a third gives it a thread
for each core.

    python benchmarks/streams.py --feeds 110 --seconds 300
    python benchmarks/streams.py --feeds 100 --seconds 60 --busy     # somebody always there

With ``--busy`` every camera may have five frames a second analysed, as often as its gate sees
something move: what the cores can do must be shared out fairly, and none of it may take longer.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from report import make_row, save_results
from stream_detector import HEIGHT, WIDTH, make_release, weights
from stream_feeds import Feed, make_feeds
from stream_scenes import FPS, GOP
from stream_truth import CORES, judge
from stream_watch import ASKED_FPS, watch

from visionloop.core.privacy import set_quiet_environment
from visionloop.core.workspace import Workspace

PEER_FPS = 5
PEER_DEFAULT_PIXELS = 640
PEER_WAYS = ((PEER_DEFAULT_PIXELS, 0), (WIDTH, 0), (PEER_DEFAULT_PIXELS, CORES))
"""Pixels, and threads; 0 leaves them to it."""


def main() -> None:
    """Measure, print the table, write ``results/streams.json``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--feeds", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--busy", action="store_true", help="somebody is always there")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--peer-seconds", type=float, default=30, help="for each way to call it")
    given = parser.parse_args()
    set_quiet_environment()
    with tempfile.TemporaryDirectory() as name:
        place = Workspace(Path(name))
        activity = 1.0 if given.busy else 0.05
        feeds = make_feeds(given.feeds, activity=activity, folder=place.root / "feeds")
        make_release(place.releases)
        ours = judge(place, feeds, *watch(place, feeds, given.seconds))
        ways = [] if given.no_peer else PEER_WAYS
        peers = [play_with_peer(feeds, given.peer_seconds, *way) for way in ways]
    name = "streams_busy" if given.busy else "streams"
    rows = [*rows_of(ours, given), *peer_rows(peers, given)]
    save_results(name, rows, feeds=given.feeds, ours=ours, peers=peers)


def play_with_peer(feeds: list[Feed], seconds: float, pixels: int, threads: int) -> dict[str, Any]:
    """Ultralytics on the same files: seconds of video that it gets through in a second."""
    import torch
    from ultralytics import YOLO

    network = YOLO(str(weights()))
    fields = {"stream": True, "vid_stride": FPS // PEER_FPS, "verbose": False, "device": "cpu"}
    if pixels != PEER_DEFAULT_PIXELS:  # the default stays its own
        fields["imgsz"] = pixels
    for _ in zip(range(5), network.predict(str(feeds[0].path), **fields), strict=False):
        pass  # the first frames load and fuse
    if threads:  # it sets its own when it loads
        torch.set_num_threads(threads)
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
        "pixels": pixels,
        "is_default": pixels == PEER_DEFAULT_PIXELS and not threads,
        "threads": torch.get_num_threads(),
        "feeds": frames / PEER_FPS / wall,
        "frames_per_s": frames / wall,
        "cpu_share": (time.process_time() - cpu) / wall / CORES,
    }


def rows_of(ours: dict[str, Any], given: Any) -> list[dict[str, Any]]:
    """The table of ours."""
    what = f"{given.feeds} feeds{', somebody always there' if given.busy else ''}"
    rows = [
        make_row(f"{what}: service time p95, ms", ours["service_p95_ms"], target=50.0,
                 higher_is_better=False),
        make_row(f"{what}: the same in processor time, p95, ms", ours["work_p95_ms"]),
        make_row(f"{what}: processor, share of {CORES} cores", ours["cpu_share"], target=0.85,
                 higher_is_better=False),
        make_row(f"{what}: share of each second that was played", ours["played_share"],
                 target=0.98),
        make_row(f"{what}: deepest level of the ladder", float(ours["deepest_level"])),
    ]  # fmt: skip
    return rows + (busy_rows(what, ours, given) if given.busy else visit_rows(what, ours))


def busy_rows(what: str, ours: dict[str, Any], given: Any) -> list[dict[str, Any]]:
    """How fairly the cores are shared out."""
    least, _, greatest = ours["fps_of_feeds"]
    asked = given.feeds * ASKED_FPS
    return [
        make_row(f"{what}: frames/s that the gates let through, of {asked:.0f} at most",
                 ours["offered_per_s"]),
        make_row(f"{what}: frames/s that were analysed", ours["analysed_per_s"]),
        make_row(f"{what}: least frame rate of a camera, frames/s", least),
        make_row(f"{what}: greatest frame rate of a camera, frames/s", greatest),
        make_row(f"{what}: least by greatest frame rate", least / max(greatest, 1e-9)),
        make_row(f"{what}: frames that were too old to be analysed", float(ours["too_old"])),
    ]  # fmt: skip


def visit_rows(what: str, ours: dict[str, Any]) -> list[dict[str, Any]]:
    """What of the truth became events."""
    shortest, middle, longest = ours["visit_lengths_s"] or [0.0, 0.0, 0.0]
    lengths = f"{shortest:.1f} to {longest:.1f} s, median {middle:.1f}"
    return [
        make_row(f"{what}: visits that became an event ({ours['visits']})", ours["recall"],
                 target=0.99),
        make_row(f"{what}: different visits among them ({lengths})",
                 float(ours["different_visits"])),
        make_row(f"{what}: first frame to event p95, s, key frames every {GOP / FPS:.0f} s",
                 ours["delay_p95_s"] or 1e9, target=2.5, higher_is_better=False),
        make_row(f"{what}: events without anybody", float(ours["false_events"])),
    ]  # fmt: skip


def peer_rows(peers: list[dict[str, Any]], given: Any) -> list[dict[str, Any]]:
    """The peer as it comes, which has the target, at our size, and with more threads."""
    rows = []
    for peer in peers:
        threads = f"{peer['threads']} thread{'s' if peer['threads'] > 1 else ''}"
        size = f"{peer['pixels']} px, {threads}{', its defaults' if peer['is_default'] else ''}"
        call = "" if peer["pixels"] == PEER_DEFAULT_PIXELS else f", imgsz={peer['pixels']}"
        rows.append(
            make_row(
                f"feeds at {PEER_FPS} frames/s, ours at {WIDTH} x {HEIGHT}, the peer at {size}",
                float(given.feeds),
                peer=peer["feeds"],
                peer_name=f"Ultralytics predict(stream=True, vid_stride=5{call})",
                target=20 * peer["feeds"] if peer["is_default"] and not given.busy else None,
            )
        )
    return rows


if __name__ == "__main__":
    main()
