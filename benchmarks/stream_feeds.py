"""Made camera feeds with a known truth: ``stream_scenes.py`` draws, this puts together.

A share of the time (5 %) one person is in the picture, for 3 to 20 s; when he comes and goes is
the truth. Each visit is drawn and encoded once, with empty seconds before and after it, and so
is a minute of each empty place. A feed is made of the packets of both, which costs no encoding:
each group of pictures begins with a key frame and needs no other. What was drawn is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from report import RESULTS
from stream_scenes import FPS, GOP, PLACES, Scene, encode

from visionloop.core.files import read_json, write_json
from visionloop.core.progress import track

__all__ = ["KEEP", "Feed", "Visit", "make_feeds"]

KEEP = RESULTS / "streams"
VISITS = 160
"""Different visits; more feeds than they suffice for see them again."""
SHORTEST_S, LONGEST_S = 3.0, 20.0
SETTLING, BEFORE, AFTER = 1, 2, 1
"""Groups of pictures around a visit: the encoder's first is thrown away; empty ones before and
after, so that no seam is near the moment at which somebody comes."""
EMPTY = 30
"""Groups of pictures of an empty place."""
BUSY_S = 120


@dataclass(frozen=True)
class Visit:
    """Somebody is in the picture, in seconds of the feed; ``number`` says which drawing it is."""

    first: float
    last: float
    number: int


@dataclass(frozen=True)
class Feed:
    """A file, its length, and when somebody is in the picture."""

    path: Path
    seconds: float
    visits: tuple[Visit, ...]


@dataclass(frozen=True)
class _Clip:
    """Encoded groups of pictures from ``begin`` on, and who is in them, from there."""

    path: Path
    begin: int
    groups: int
    visits: tuple[Visit, ...] = ()


def make_feeds(
    count: int, *, seconds: int = 180, activity: float = 0.05, folder: Path
) -> list[Feed]:
    """Feeds to play in a loop, each a file in ``folder``; what was drawn before is used again.

    Parameters
    ----------
    count : int
    seconds : int
        Length of a feed.
    activity : float
        Share of the time of all feeds in which somebody is there; 1: somebody always is.
    folder : Path
    """
    rng = np.random.default_rng(1)
    if activity >= 1:
        rows = [[_busy_clip(number % 2)] for number in range(count)]
    else:
        clips = _share_out(rng, count, seconds, activity)
        rows = [_lay_out(rng, number % PLACES, clips[number], seconds) for number in range(count)]
    folder.mkdir(parents=True, exist_ok=True)
    parts = _Parts()
    return [
        _write(row, folder / f"feed-{number:03d}.mp4", parts, int(rng.integers(10**6)))
        for number, row in track(list(enumerate(rows)), "feeds: putting them together")
    ]


def _share_out(
    rng: np.random.Generator, count: int, seconds: int, activity: float
) -> list[list[_Clip]]:
    """Which visits each feed has: so many that they fill the share of the time of all."""
    feeds: list[list[_Clip]] = [[] for _ in range(count)]
    left, number = activity * count * seconds, 0
    while left > 0:
        place = number % PLACES
        free = [
            feed
            for feed in range(place, count, PLACES)
            if sum(one.groups + 1 for one in feeds[feed]) + 16 < seconds * FPS // GOP
        ]
        if free:
            clip = _visit_clip(number % VISITS)
            feeds[int(rng.choice(free))].append(clip)
            left -= clip.visits[0].last - clip.visits[0].first
        number += 1
        if number > 100 * count * PLACES:
            raise SystemExit("the feeds are too short for so much activity")
    return feeds


def _lay_out(
    rng: np.random.Generator, place: int, visits: list[_Clip], seconds: int
) -> list[_Clip]:
    """The visits with empty stretches of random length before, between and after them."""
    empty = _empty_clip(place)
    spare = seconds * FPS // GOP - sum(one.groups for one in visits)
    inner = len(visits) - 1
    cuts = np.sort(rng.integers(0, spare - max(0, inner) + 1, len(visits)))
    lengths = np.diff([0, *cuts, spare - max(0, inner)])
    lengths[1:-1] += 1
    row: list[_Clip] = []
    for number, length in enumerate(lengths):
        row += _stretch(empty, int(rng.integers(EMPTY)), int(length))
        row += visits[number : number + 1]
    return row


def _stretch(empty: _Clip, begin: int, length: int) -> list[_Clip]:
    """So many empty groups of pictures, from any one on, over and over."""
    row = []
    while length > 0:
        part = min(length, EMPTY - begin)
        row.append(_Clip(empty.path, empty.begin + begin, part))
        begin, length = 0, length - part
    return row


def _visit_clip(number: int) -> _Clip:
    """A visit, drawn and encoded now or before."""
    path = KEEP / f"visit-{number:03d}.mp4"
    truth = path.with_suffix(".json")
    rng = np.random.default_rng([number, 7])
    seconds = float(np.exp(rng.uniform(np.log(SHORTEST_S), np.log(LONGEST_S))))
    offset = int(rng.integers(GOP))
    groups = int(np.ceil((offset + (seconds + 1) * FPS) / GOP)) + AFTER
    if not truth.is_file():
        scene = Scene(rng, number % PLACES)
        lead = (SETTLING + BEFORE) * GOP + offset

        def frames() -> Any:
            yield from scene.empty(lead)
            yield from scene.visit(groups * GOP - offset, seconds)

        total = lead + groups * GOP - offset
        _keep(path, track(frames(), f"visit {number}", total=total))
        write_json(truth, [(lead - SETTLING * GOP + one) / FPS for one in scene.visible])
    first, last = read_json(truth)
    return _Clip(path, SETTLING, BEFORE + groups, (Visit(first, last, number),))


def _empty_clip(place: int) -> _Clip:
    """A minute of a place with nobody."""
    path = KEEP / f"empty-{place}.mp4"
    if not path.is_file():
        count = (SETTLING + EMPTY) * GOP
        frames = Scene(np.random.default_rng([place, 8]), place).empty(count)
        _keep(path, track(frames, f"place {place}", total=count))
    return _Clip(path, SETTLING, EMPTY)


def _busy_clip(place: int) -> _Clip:
    """A place where somebody always is."""
    path = KEEP / f"busy-{place}.mp4"
    if not path.is_file():
        scene, count = Scene(np.random.default_rng([place, 9]), place), BUSY_S * FPS
        frames = scene.visit(count, BUSY_S)
        _keep(path, track(frames, f"busy place {place}", total=count))
    return _Clip(path, 0, count_groups(BUSY_S), (Visit(0.0, float(BUSY_S), place),))


def count_groups(seconds: float) -> int:
    """Groups of pictures in so many seconds."""
    return round(seconds * FPS) // GOP


def _keep(path: Path, frames: Any) -> None:
    """Encode into a file that is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"new-{path.name}")
    encode(new, frames)
    new.replace(path)


class _Parts:
    """Packets of clips as bytes, read once."""

    def __init__(self) -> None:
        self._kept: dict[Path, list[bytes]] = {}

    def read(self, clip: _Clip) -> list[bytes]:
        """The packets of the clip's groups of pictures, in order."""
        import av

        if clip.path not in self._kept:
            with av.open(str(clip.path)) as source:
                packets = [bytes(one) for one in source.demux(video=0) if one.dts is not None]
            self._kept[clip.path] = packets
        return self._kept[clip.path][clip.begin * GOP : (clip.begin + clip.groups) * GOP]


def _write(row: list[_Clip], path: Path, parts: _Parts, turn: int) -> Feed:
    """A feed of these clips, one after another; one of a single clip begins at any key frame."""
    import av

    packets = [packet for clip in row for packet in parts.read(clip)]
    if len(row) == 1:
        start = turn % row[0].groups * GOP
        packets = [*packets[start:], *packets[:start]]
    with av.open(str(row[0].path)) as source, av.open(str(path), "w") as output:
        template = source.streams.video[0]
        stream = output.add_stream_from_template(template)
        step = round(1 / FPS / template.time_base)
        for number, content in enumerate(packets):
            packet = av.Packet(content)
            packet.stream, packet.time_base = stream, template.time_base
            packet.pts = packet.dts = number * step
            packet.is_keyframe = number % GOP == 0
            output.mux(packet)
    visits, begin = [], 0.0
    for clip in row:
        visits += [Visit(begin + v.first, begin + v.last, v.number) for v in clip.visits]
        begin += clip.groups * GOP / FPS
    return Feed(path, begin, tuple(visits))
