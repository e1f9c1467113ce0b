"""Draws what made cameras see: people of a real video walk over real backgrounds.

640 x 360, 25 frames a second, H.264 at 400 kb/s, a key frame every 50 frames, sensor noise.
``VISIONLOOP_VIDEOS`` names the folder of the videos.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["FPS", "GOP", "PLACES", "Scene", "encode"]

WIDTH, HEIGHT, FPS, GOP, BITS = 640, 360, 25, 50, 400_000
PLACES = 8
"""Backgrounds that are told apart."""
NOISE = 3.0
"""Standard deviation of the sensor noise, grey levels."""
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
MARGIN_S = 0.4
"""So much longer is somebody about than at least that share of him is seen."""

Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Person:
    """A cut-out: pixels (h, w, 3) BGR and opacity float32 (h, w) in [0, 1]."""

    image: Image
    opacity: NDArray[np.float32]


class Scene:
    """Draws the frames of a place and notes what is true.

    Parameters
    ----------
    rng : Generator
        Decides noise, person, side and height.
    place : int
        0 to ``PLACES`` - 1.
    """

    def __init__(self, rng: np.random.Generator, place: int) -> None:
        self._rng, self._background = rng, _background(place).astype(np.float32)
        noise = rng.normal(0, NOISE, (8, HEIGHT + 64, WIDTH + 64, 1))
        self._noise = noise.astype(np.float32)
        self.visible: list[int] = []

    def empty(self, count: int) -> Iterator[Image]:
        """Frames uint8 (360, 640, 3), BGR, with nobody."""
        for _ in range(count):
            yield self._finish(self._background)

    def visit(self, count: int, seconds: float) -> Iterator[Image]:
        """Somebody comes, is about and goes; he is seen for about so long.

        ``visible`` then holds the first and the last frame in which enough of him is seen.
        Frames uint8 (360, 640, 3), BGR; ``count`` of them, of which the last may be empty.
        """
        person, from_left, y = self._plan()
        last = round((seconds + MARGIN_S) * FPS)
        for number in range(count):
            image = self._background
            if number < last:
                image, share = self._draw(person, from_left, y, number, last)
                if share >= VISIBLE:
                    self.visible = [*self.visible[:1], number]
            yield self._finish(image)

    def _plan(self) -> tuple[Person, bool, int]:
        people = _people()
        person = people[int(self._rng.integers(len(people)))]
        scale = self._rng.uniform(0.8, 1.0)
        size = [round(scale * side) for side in person.image.shape[1::-1]]
        resized = Person(
            np.asarray(cv2.resize(person.image, size, interpolation=cv2.INTER_AREA), np.uint8),
            cv2.resize(person.opacity, size, interpolation=cv2.INTER_AREA).astype(np.float32),
        )
        y = int(self._rng.integers(HEIGHT // 8, max(HEIGHT // 8 + 1, HEIGHT - size[1] - 4)))
        return resized, bool(self._rng.integers(2)), y

    def _draw(
        self, person: Person, from_left: bool, y: int, number: int, last: int
    ) -> tuple[NDArray[np.float32], float]:
        """The person at his place: in from a side within a second, about, and out again; and
        the share of his width that is in the picture."""
        height, width = person.opacity.shape
        inside = WIDTH // 3 + 40 * np.sin(number / 40)
        share = min(1.0, number / FPS, (last - number) / FPS)
        x = share * (inside + width) - width
        x = round(x if from_left else WIDTH - width - x)
        image = self._background.copy()
        a, b = max(0, x), min(WIDTH, x + width)
        bottom = min(HEIGHT, y + height)
        if b > a:
            alpha = person.opacity[: bottom - y, a - x : b - x, None]
            part = image[y:bottom, a:b]
            part += alpha * (person.image[: bottom - y, a - x : b - x] - part)
        return image, (b - a) / width

    def _finish(self, image: NDArray[np.float32]) -> Image:
        dy, dx = self._rng.integers(0, 64, 2)
        noise = self._noise[int(self._rng.integers(8)), dy : dy + HEIGHT, dx : dx + WIDTH]
        return np.clip(image + noise, 0, 255).astype(np.uint8)


def encode(path: Path, frames: Iterator[Image]) -> None:
    """Write H.264 as cameras send it; every group of pictures can be decoded by itself."""
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


def _video(name: str) -> Path:
    return Path(os.environ["VISIONLOOP_VIDEOS"]) / name


@cache
def _background(number: int) -> Image:
    """The median of a real video, cropped and turned another way for each place."""
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


@cache
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
