"""Made camera feeds with a known truth: people of a real video walk over real backgrounds.

640 x 360, 25 frames a second, H.264 at 400 kb/s, a key frame every 50 frames, sensor noise.
A share of the time (5 %) one person is in the picture, for 3 to 20 s; when he comes and goes
is the truth. Some feeds are drawn and encoded; the others are the same packets, begun at
another key frame, which costs no encoding. ``VISIONLOOP_VIDEOS`` names the folder of the
videos.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from report import RESULTS

from visionloop.core.files import read_json, write_json
from visionloop.core.progress import track

__all__ = ["FPS", "GOP", "Feed", "make_feeds"]

WIDTH, HEIGHT, FPS, GOP, BITS = 640, 360, 25, 50, 400_000
NOISE = 3.0
"""Standard deviation of the sensor noise, grey levels."""
KEEP = RESULTS / "streams"
PEOPLE_VIDEO = "one-by-one-person-detection.mp4"
BACKGROUNDS = (
    (PEOPLE_VIDEO, 1),
    ("bottle-detection.mp4", 1),
    ("worker-zone-detection.gif", 36),
    ("car-detection.mp4", 370),
)
"""Videos, and how many of their first frames are looked at: nobody stands still in these."""
VISIBLE = 0.5
"""Share of a person that must be in the picture for his first frame."""

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Feed:
    """A file, its length, and when somebody is in the picture: (first, last) seconds."""

    path: Path
    seconds: float
    visits: tuple[tuple[float, float], ...]


@dataclass(frozen=True, eq=False)
class Person:
    """A cut-out: pixels (h, w, 3) BGR and opacity float32 (h, w) in [0, 1]."""

    image: Image
    opacity: NDArray[np.float32]


def make_feeds(
    count: int, *, seconds: int = 120, bases: int = 8, activity: float = 0.05, folder: Path
) -> list[Feed]:
    """Feeds to play, each a file in ``folder``; what was drawn before is used again."""
    drawn = [_base(number, seconds, activity) for number in range(bases)]
    rng = np.random.default_rng(1)
    feeds = []
    for number in track(range(count), "feeds: beginning at other key frames"):
        base = drawn[number % bases]
        keys = round(base.seconds * FPS) // GOP
        feeds.append(_rotate(base, int(rng.integers(keys)), folder / f"feed-{number:03d}.mp4"))
    return feeds


def _base(number: int, seconds: int, activity: float) -> Feed:
    """One feed that is drawn and encoded, or was before."""
    path = KEEP / f"base-{number}-{seconds}-{round(100 * activity)}.mp4"
    truth = path.with_suffix(".json")
    if not truth.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(number)
        visits = _draw_visits(rng, seconds, activity)
        scene = _Scene(rng, _background(number), _people())
        _encode(
            path, track(scene.frames(visits, seconds * FPS), f"feed {number}", total=seconds * FPS)
        )
        write_json(truth, scene.truth)
    return Feed(path, float(seconds), tuple((a, b) for a, b in read_json(truth)))


def _draw_visits(rng: np.random.Generator, seconds: int, activity: float) -> list[tuple[int, int]]:
    """First and last frame of visits that fill a share of the time, none over the end."""
    if activity >= 1:
        return [(0, seconds * FPS)]
    visits: list[tuple[int, int]] = []
    left = activity * seconds
    while left > 0:
        length = float(min(20.0, max(3.0, min(left, rng.uniform(3, 20)))))
        for _ in range(1000):
            first = rng.uniform(1, seconds - length - 1)
            if all(first > b + 6 or first + length < a - 6 for a, b in visits):
                visits.append((first, first + length))  # type: ignore[arg-type]
                break
        left -= length
    return sorted((round(a * FPS), round(b * FPS)) for a, b in visits)


class _Scene:
    """Draws the frames of a feed and notes what is true."""

    def __init__(self, rng: np.random.Generator, background: Image, people: list[Person]) -> None:
        self._rng, self._background, self._people = rng, background.astype(np.float32), people
        noise = rng.normal(0, NOISE, (8, HEIGHT + 64, WIDTH + 64, 1))
        self._noise = noise.astype(np.float32)
        self.truth: list[tuple[float, float]] = []

    def frames(self, visits: list[tuple[int, int]], count: int) -> Any:
        """Frames uint8 (360, 640, 3), BGR."""
        plans = {}
        for number in range(count):
            image = self._background
            for visit in visits:
                if visit[0] <= number < visit[1]:
                    plan = plans.setdefault(visit, self._plan(visit))
                    image = self._draw(plan, number, visit)
            yield self._finish(image)

    def _plan(self, visit: tuple[int, int]) -> tuple[Person, bool, int, list[bool]]:
        person = self._people[int(self._rng.integers(len(self._people)))]
        scale = self._rng.uniform(0.8, 1.0)
        size = [round(scale * side) for side in person.image.shape[1::-1]]
        resized = Person(
            np.asarray(cv2.resize(person.image, size, interpolation=cv2.INTER_AREA), np.uint8),
            cv2.resize(person.opacity, size, interpolation=cv2.INTER_AREA).astype(np.float32),
        )
        y = int(self._rng.integers(HEIGHT // 8, max(HEIGHT // 8 + 1, HEIGHT - size[1] - 4)))
        return resized, bool(self._rng.integers(2)), y, []

    def _draw(self, plan: Any, number: int, visit: tuple[int, int]) -> NDArray[np.float32]:
        """The person at his place: in from a side within a second, about, and out again."""
        person, from_left, y, seen = plan
        height, width = person.opacity.shape
        first, last = visit
        begin, inside = -width, WIDTH // 3 + 40 * np.sin((number - first) / 40)
        enter, leave = (number - first) / FPS, (last - number) / FPS
        share = min(1.0, enter, leave)
        x = begin + share * (inside - begin)
        x = round(x if from_left else WIDTH - width - x)
        image = self._background.copy()
        a, b = max(0, x), min(WIDTH, x + width)
        bottom = min(HEIGHT, y + height)
        if b > a:
            alpha = person.opacity[: bottom - y, a - x : b - x, None]
            part = image[y:bottom, a:b]
            part += alpha * (person.image[: bottom - y, a - x : b - x] - part)
        if (b - a) >= VISIBLE * width:
            if not seen:
                self.truth.append((number / FPS, number / FPS))
                seen.append(True)
            self.truth[-1] = (self.truth[-1][0], number / FPS)
        return image

    def _finish(self, image: NDArray[np.float32]) -> Image:
        dy, dx = self._rng.integers(0, 64, 2)
        noise = self._noise[int(self._rng.integers(8)), dy : dy + HEIGHT, dx : dx + WIDTH]
        return np.clip(image + noise, 0, 255).astype(np.uint8)


def _encode(path: Path, frames: Any) -> None:
    import av

    options = {"preset": "veryfast", "g": str(GOP), "keyint_min": str(GOP), "sc_threshold": "0"}
    options |= {"bf": "0", "maxrate": str(BITS), "bufsize": str(BITS), "threads": "1"}
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.bit_rate = BITS
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def _rotate(base: Feed, keys: int, path: Path) -> Feed:
    """The same packets, begun at the nth key frame; a visit over the end goes on at the
    beginning, as the file is played in a loop."""
    import av

    begin = keys * GOP / FPS
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(base.path)) as source, av.open(str(path), "w") as output:
            stream = output.add_stream_from_template(source.streams.video[0])
            packets = [one for one in source.demux(video=0) if one.dts is not None]
            step = packets[1].dts - packets[0].dts
            order = packets[keys * GOP :] + packets[: keys * GOP]
            for number, packet in enumerate(order):
                packet.stream = stream
                packet.pts = packet.dts = number * step
                output.mux(packet)
    visits = []
    for first, last in base.visits:
        a, b = (first - begin) % base.seconds, (last - begin) % base.seconds
        visits.append((a, b) if a <= b else (a, b + base.seconds))
    return Feed(path, base.seconds, tuple(sorted(visits)))


def _video(name: str) -> Path:
    return Path(os.environ["VISIONLOOP_VIDEOS"]) / name


def _background(number: int) -> Image:
    """The median of a real video, cropped and turned another way for each feed."""
    import av

    name, first = BACKGROUNDS[number % len(BACKGROUNDS)]
    with av.open(str(_video(name))) as container:
        frames = [
            frame.to_ndarray(format="bgr24")
            for _, frame in zip(range(first), container.decode(video=0), strict=False)
        ]
    image = np.median(np.stack(frames[:: max(1, first // 36)]), axis=0).astype(np.uint8)
    height, width = image.shape[:2]
    inset = 0.04 * (number // len(BACKGROUNDS))
    image = image[int(inset * height) :, int(inset * width) :]
    if number % 2:
        image = image[:, ::-1]
    return np.asarray(cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)


def _people() -> list[Person]:
    """Cut-outs of whole people: what differs from the empty hall."""
    import av

    with av.open(str(_video(PEOPLE_VIDEO))) as container:
        frames = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    empty = frames[0].astype(np.float32)
    people = []
    for image in frames[::15]:
        difference = np.abs(image.astype(np.float32) - empty).max(axis=2)
        mask = (cv2.GaussianBlur(difference, (0, 0), 2) > 22).astype(np.uint8)
        mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
        count, labels, boxes, _ = cv2.connectedComponentsWithStats(mask)
        if count < 2:
            continue
        best = 1 + int(boxes[1:, cv2.CC_STAT_AREA].argmax())
        x, y, w, h, area = boxes[best]
        inside = x > 4 and y > 4 and x + w < mask.shape[1] - 4 and y + h < mask.shape[0] - 4
        if not inside or h < 220 or not 2.0 < h / w < 4.5 or area < 0.35 * w * h:
            continue
        shape = (labels == best).astype(np.float32)[y : y + h, x : x + w]
        opacity = cv2.GaussianBlur(shape, (0, 0), 1.5).astype(np.float32)
        size = (round(w * HEIGHT / 432), round(h * HEIGHT / 432))
        people.append(
            Person(
                np.asarray(cv2.resize(image[y : y + h, x : x + w], size), np.uint8),
                cv2.resize(opacity, size).astype(np.float32),
            )
        )
    if not people:
        raise SystemExit(f"no whole person was found in {PEOPLE_VIDEO}")
    return people
