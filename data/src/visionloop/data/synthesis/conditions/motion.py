"""Conditions of motion: during the exposure (blur), or of the camera for good (shift, tilt)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.data.synthesis.conditions.changed import Changed, Generator, Image
from visionloop.data.synthesis.conditions.pixels import filter_picture

__all__ = ["blur_by_motion", "blur_by_vibration", "shift_camera", "tilt_camera"]

MOTION = (0.010, 0.016, 0.024, 0.034, 0.048)
"""blur: way of the image during one exposure, share of the shorter side."""
VIBRATION = (0.003, 0.005, 0.008, 0.012, 0.017)
"""vibration: amplitude, share of the shorter side."""
SHIFT = (0.02, 0.05, 0.09, 0.14, 0.20)
"""camera_shift: way of the picture, share of each side."""
TILT = (2.0, 4.0, 7.0, 11.0, 16.0)
"""tilt: degrees about the view axis; half as many about the other two."""
FOCAL = 1.2
"""tilt: focal length by the longer side of the picture."""

Track = NDArray[np.float64]


def blur_by_motion(image: Image, severity: int, generator: Generator) -> Image:
    """A belt or a push: the image moves along a straight line during the exposure."""
    length = max(1.5, MOTION[severity - 1] * min(image.shape[:2]))
    angle = generator.uniform(0, np.pi)
    steps = np.linspace(-length / 2, length / 2, 8 + int(4 * length))
    return _blur_along(image, np.stack([steps * np.cos(angle), steps * np.sin(angle)], axis=1))


def blur_by_vibration(image: Image, severity: int, generator: Generator) -> Image:
    """A machine that shakes: an ellipse of two sine waves, some turns in one exposure."""
    reach = max(0.8, VIBRATION[severity - 1] * min(image.shape[:2]))
    time = np.linspace(0, 2 * np.pi * generator.uniform(1.2, 3.0), 64 + int(16 * reach))
    faster, phase = generator.uniform(1.1, 2.5), generator.uniform(0, 2 * np.pi)
    minor = generator.uniform(0.3, 0.8)
    x, y = np.sin(time), minor * np.sin(faster * time + phase)
    turn = generator.uniform(0, np.pi)
    track = np.stack(
        [x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], axis=1
    )
    track -= track.mean(axis=0)  # things stay where they are
    return _blur_along(image, reach * track)


def _blur_along(image: Image, track: Track) -> Image:
    """Average of the image along a track of (x, y) offsets in pixels."""
    middle = int(np.ceil(np.abs(track).max())) + 1
    kernel = np.zeros((2 * middle + 1, 2 * middle + 1))
    places = track + middle
    left = np.floor(places).astype(int)
    right = places - left
    for down in (0, 1):
        for along in (0, 1):
            weight = np.abs(1 - along - right[:, 0]) * np.abs(1 - down - right[:, 1])
            np.add.at(kernel, (left[:, 1] + down, left[:, 0] + along), weight)
    return filter_picture(image, kernel / kernel.sum())


def shift_camera(image: Image, severity: int, generator: Generator) -> Changed:
    """The camera was pushed aside: the picture shows another part of the scene."""
    height, width = image.shape[:2]
    angle = generator.uniform(0, 2 * np.pi)
    share = SHIFT[severity - 1] * generator.uniform(0.85, 1.15)
    matrix = np.eye(3)
    matrix[:2, 2] = round(share * width * np.cos(angle)), round(share * height * np.sin(angle))
    return _warp(image, matrix)


def tilt_camera(image: Image, severity: int, generator: Generator) -> Changed:
    """The camera was turned in its mount: roll, with half as much pitch and yaw."""
    height, width = image.shape[:2]
    angles = np.deg2rad(TILT[severity - 1]) * np.array([0.5, 0.5, 1.0])
    pitch, yaw, roll = angles * generator.uniform(0.7, 1.0, 3) * generator.choice((-1.0, 1.0), 3)
    turn = _rotation(0, pitch) @ _rotation(1, yaw) @ _rotation(2, roll)
    focal = FOCAL * max(height, width)
    camera = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    return _warp(image, camera @ turn @ np.linalg.inv(camera))


def _rotation(axis: int, angle: float) -> NDArray[np.float64]:
    first, second = [one for one in range(3) if one != axis]
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix


def _warp(image: Image, matrix: NDArray[np.float64]) -> Changed:
    """Move pixels; what was outside the picture is not known: black."""
    height, width = image.shape[:2]
    done = cv2.warpPerspective(
        image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
    )
    return Changed(np.asarray(done, np.uint8), matrix=matrix)
