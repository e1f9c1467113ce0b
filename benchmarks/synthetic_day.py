"""A day before a fixed camera in a hall, made from numbers: what must not be called a fault.

Used by ``camera_health.py`` and by its test. All is drawn from one seed.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["play_day"]

HEIGHT, WIDTH = 180, 320
GAMMA = 2.2
SUNRISE, SUNSET = 6.5, 19.5
LAMPS_ON, LAMPS_OFF = 5.6, 21.7
NIGHT_LIGHT = 0.02
AUTO_EXPOSURE_S = 3.0
MAX_GAIN = 12.0
READ_NOISE = 0.0006
SHOT_NOISE = 0.006

Picture = NDArray[np.float32]


def play_day(seed: int, hours: float = 24.0) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Second and frame (uint8 (180, 320, 3), BGR), one a second, from midnight."""
    generator = np.random.default_rng(seed)
    hall = make_hall(generator)
    windows, lamps = make_light(generator)
    comes, goes = generator.uniform(8, 11), generator.uniform(12.5, 16)
    place = int(generator.integers(20, 220))
    people = [Walker(generator) for _ in range(4)]
    cloud, gain = 0.8, 8.0
    for second in range(int(hours * 3600)):
        hour = (second / 3600) % 24
        cloud = float(np.clip(cloud + 0.02 * (0.75 - cloud) + 0.02 * generator.normal(), 0.25, 1.0))
        light = NIGHT_LIGHT + sun(hour) * cloud * wander(windows, hour)
        if LAMPS_ON <= hour < LAMPS_OFF:
            light = light + flicker(lamps, generator)
        scene = hall
        is_working = 6 <= hour < 20
        if is_working or comes <= hour < goes:
            scene = hall.copy()
        if comes <= hour < goes:
            scene[100:140, place : place + 44] = 0.35 * hall[60:100, 10:54] + (0.05, 0.12, 0.2)
        if is_working:
            for person in people:
                person.step(generator)
                person.draw(scene)
        radiance = scene * light[..., None]
        wanted = 0.18 / max(float(radiance[::4, ::4].mean()), 1e-4)
        gain += (min(MAX_GAIN, wanted) - gain) / AUTO_EXPOSURE_S
        yield second, develop(radiance, gain, generator)


def develop(radiance: Picture, gain: float, generator: np.random.Generator) -> NDArray[np.uint8]:
    """What the sensor makes of it: noise that grows with gain, clipping, gamma."""
    noise = generator.standard_normal((HEIGHT, WIDTH, 1), dtype=np.float32)
    spread = np.sqrt(SHOT_NOISE**2 * radiance + READ_NOISE**2)
    exposed = ((radiance + noise * spread) * gain).clip(0, 1)
    return np.asarray(np.rint(255 * exposed ** (1 / GAMMA)), np.uint8)


def make_hall(generator: np.random.Generator) -> Picture:
    """Floor, wall, shelves, marks, texture: reflectance, float32 (180, 320, 3)."""
    hall = np.empty((HEIGHT, WIDTH, 3), np.float32)
    hall[:70], hall[70:] = (0.5, 0.52, 0.55), (0.25, 0.28, 0.3)
    for _ in range(60):
        x, y = int(generator.integers(0, WIDTH - 30)), int(generator.integers(5, 60))
        size = generator.integers(6, 26, 2)
        hall[y : y + size[0], x : x + size[1]] = generator.uniform(0.05, 0.8, 3)
    for _ in range(12):
        x, y = generator.integers(0, WIDTH), generator.integers(80, HEIGHT)
        end = (int(x + generator.integers(-80, 80)), int(y + generator.integers(-30, 30)))
        cv2.line(hall, (int(x), int(y)), end, generator.uniform(0.05, 0.8, 3).tolist(), 2)
    grain = generator.standard_normal((HEIGHT, WIDTH, 1), dtype=np.float32)
    return np.asarray((hall * (1 + 0.06 * grain)).clip(0.02, 0.95), np.float32)


def make_light(generator: np.random.Generator) -> tuple[Picture, Picture]:
    """Light of a window on the floor, twice as wide as the view; pools of the lamps."""
    window = np.full((HEIGHT, 2 * WIDTH), 0.25, np.float32)
    for x in range(60, 2 * WIDTH - 60, 120):
        window[60:, x : x + 60] = 0.8
    window = np.asarray(cv2.GaussianBlur(window, (0, 0), 2), np.float32)
    lamps = np.full((HEIGHT, WIDTH), 0.05, np.float32)
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    for centre in (40, 160, 280):
        lamps += 0.3 * np.exp(-(((x - centre) / 60) ** 2 + ((y - 90) / 70) ** 2))
    return window, np.asarray(lamps, np.float32)


def sun(hour: float) -> float:
    """Height of the sun: 0 at night, 1 at noon."""
    part = (hour - SUNRISE) / (SUNSET - SUNRISE)
    return float(max(0.0, np.sin(np.pi * part))) if 0 < part < 1 else 0.0


def wander(window: Picture, hour: float) -> Picture:
    """The window's light moves over the floor in the course of the day."""
    part = np.clip((hour - SUNRISE) / (SUNSET - SUNRISE), 0, 1)
    shift = np.array([[1, 0, -float(part) * WIDTH], [0, 1, 0]], np.float32)
    return np.asarray(cv2.warpAffine(window, shift, (WIDTH, HEIGHT)), np.float32)


def flicker(lamps: Picture, generator: np.random.Generator) -> Picture:
    """Mains flicker under a rolling shutter: bands of another phase in every frame."""
    phase = generator.uniform(0, 2 * np.pi)
    rows = 1 + 0.12 * np.sin(np.linspace(0, 5, HEIGHT) + phase)
    return np.asarray(lamps * rows[:, None], np.float32)


class Walker:
    """Somebody who walks, stands, and leaves for a while."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.colour = generator.uniform(0.03, 0.6, 3).astype(np.float32)
        self.x, self.pace, self.rest = float(generator.uniform(0, WIDTH)), 0.0, 0
        self.height = int(generator.integers(45, 80))

    def step(self, generator: np.random.Generator) -> None:
        """One second."""
        self.rest -= 1
        if self.rest <= 0:
            self.rest = int(generator.integers(5, 400))
            self.pace = float(generator.choice([0.0, generator.uniform(-25, 25)]))
        self.x = (self.x + self.pace) % (3 * WIDTH)

    def draw(self, scene: Picture) -> None:
        """Into the view, if there."""
        x = int(self.x)
        if x + 18 < WIDTH:
            scene[160 - self.height : 160, x : x + 18] = self.colour
            scene[160 - self.height : 172 - self.height, x + 4 : x + 14] = self.colour * 0.5 + 0.25
