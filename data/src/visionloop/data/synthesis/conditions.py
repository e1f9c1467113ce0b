"""Bad light, fog, vibration, sensor noise, dirt: what a plant does to an image.

Every condition takes an image and a severity of 1 to 5 and gives an image of the same
shape and dtype: nothing moves, so boxes stay true. The same seed gives the same pixels.
The parameters are physical (share of the light, pixels of motion per exposure, electrons
per pixel) and stand in one table per condition.
"""

from __future__ import annotations

import zlib
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.core.plugins import resolve

__all__ = ["CONDITIONS", "apply_condition"]

Image = NDArray[np.uint8]
Generator = np.random.Generator

CONDITIONS = {
    "darkness": "visionloop.data.synthesis.conditions:darken",
    "blur": "visionloop.data.synthesis.conditions:blur_by_motion",
    "defocus": "visionloop.data.synthesis.conditions:blur_by_defocus",
    "noise": "visionloop.data.synthesis.conditions:add_sensor_noise",
    "occlusion": "visionloop.data.synthesis.conditions:occlude",
    "fog": "visionloop.data.synthesis.conditions:add_fog",
    "compression": "visionloop.data.synthesis.conditions:compress",
}
"""Name to function ``(image, severity, generator) -> image``."""

LIGHT_LEFT = (0.60, 0.45, 0.30, 0.20, 0.12)
"""darkness: share of the light that still reaches the sensor."""
MOTION = (0.010, 0.016, 0.024, 0.034, 0.048)
"""blur: way of the image during one exposure, share of the shorter side."""
DEFOCUS = (0.004, 0.007, 0.011, 0.016, 0.023)
"""defocus: radius of the circle of confusion, share of the shorter side."""
FULL_WELL = (1500.0, 700.0, 300.0, 130.0, 60.0)
"""noise: electrons of a white pixel (shot noise); READ_NOISE is added."""
READ_NOISE = (4.0, 6.0, 8.0, 10.0, 12.0)
"""noise: electrons of the read-out, standard deviation (below the shot noise of white)."""
COVERED = (0.03, 0.06, 0.10, 0.16, 0.24)
"""occlusion: share of the image that something covers."""
EXTINCTION = (0.20, 0.35, 0.50, 0.65, 0.78)
"""fog: share of the light scattered away (Koschmieder: I t + A (1 - t), t = 1 - share)."""
JPEG_QUALITY = (40, 25, 15, 9, 5)
"""compression: JPEG quality."""


def apply_condition(image: Image, name: str, severity: int, seed: int) -> Image:
    """Put an image under a condition.

    Parameters
    ----------
    image : uint8 array (H, W, 3) BGR or (H, W)
    name : str
        A row of ``CONDITIONS``.
    severity : int
        1 (mild) to 5 (as bad as it gets).
    seed : int
        With the name and severity it decides everything random.

    Returns
    -------
    uint8 array of the same shape

    Raises
    ------
    ConfigError
        Unknown name.
    ValueError
        Severity outside 1..5, or an image that is not uint8 of that shape.
    """
    if severity not in (1, 2, 3, 4, 5):
        raise ValueError(f"severity must be 1 to 5, not {severity!r}")
    if image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise ValueError(
            f"image must be uint8 (H, W, 3) or (H, W), not {image.dtype} {image.shape}"
        )
    function = resolve(CONDITIONS, name, kind="condition")
    generator = np.random.default_rng([seed, severity, zlib.crc32(name.encode())])
    return cast(Image, function(image, severity, generator))


def darken(image: Image, severity: int, generator: Generator) -> Image:
    """Less light: every pixel keeps a share of it, in linear light (display gamma 2.2)."""
    share = LIGHT_LEFT[severity - 1] * generator.uniform(0.92, 1.08)
    table = (np.arange(256) / 255) ** 2.2 * share
    curve = np.round(255 * table ** (1 / 2.2)).clip(0, 255).astype(np.uint8)
    return cast(Image, cv2.LUT(image, curve))


def blur_by_motion(image: Image, severity: int, generator: Generator) -> Image:
    """Vibration: the image moves along a straight line during the exposure."""
    length = max(1.5, MOTION[severity - 1] * min(image.shape[:2]))
    angle = generator.uniform(0, np.pi)
    reach = length / 2
    size = 2 * int(np.ceil(reach)) + 3
    kernel = np.zeros((size, size), np.float32)
    middle = size // 2
    for step in np.linspace(-reach, reach, 8 + int(4 * length)):
        x, y = middle + step * np.cos(angle), middle + step * np.sin(angle)
        left, top = int(np.floor(x)), int(np.floor(y))
        right, down = x - left, y - top
        kernel[top, left] += (1 - right) * (1 - down)
        kernel[top, left + 1] += right * (1 - down)
        kernel[top + 1, left] += (1 - right) * down
        kernel[top + 1, left + 1] += right * down
    return cast(
        Image, cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101)
    )


def blur_by_defocus(image: Image, severity: int, generator: Generator) -> Image:
    """Out of focus: each point becomes a disc."""
    radius = max(0.8, DEFOCUS[severity - 1] * min(image.shape[:2]) * generator.uniform(0.9, 1.1))
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1).astype(np.float32)
    return cast(
        Image, cv2.filter2D(image, -1, disc / disc.sum(), borderType=cv2.BORDER_REFLECT_101)
    )


def add_sensor_noise(image: Image, severity: int, generator: Generator) -> Image:
    """Few photons: shot noise of the signal and read noise of the sensor.

    The Poisson noise of N electrons is drawn as a normal of variance N, in float32.
    """
    well, read = FULL_WELL[severity - 1], READ_NOISE[severity - 1]
    electrons = image.astype(np.float32) * (well / 255)
    spread = np.sqrt(electrons + min(read, well**0.5) ** 2)
    noise = generator.standard_normal(image.shape, dtype=np.float32) * spread
    return cast(
        Image, np.clip(np.rint((electrons + noise) * (255 / well)), 0, 255).astype(np.uint8)
    )


def occlude(image: Image, severity: int, generator: Generator) -> Image:
    """Something lies on the glass: one to three opaque patches of a common grey."""
    height, width = image.shape[:2]
    patches = int(generator.integers(1, 4))
    area = COVERED[severity - 1] * height * width / patches
    covered = image.copy()
    for _ in range(patches):
        aspect = generator.uniform(0.5, 2.0)
        across = min(width, max(1, round((area * aspect) ** 0.5)))
        down = min(height, max(1, round(area / across)))
        left = int(generator.integers(0, width - across + 1))
        top = int(generator.integers(0, height - down + 1))
        covered[top : top + down, left : left + across] = int(generator.integers(20, 90))
    return covered


def add_fog(image: Image, severity: int, generator: Generator) -> Image:
    """Fog on the lens: light is scattered away and a grey veil is added, in soft clouds."""
    height, width = image.shape[:2]
    clouds = np.zeros((height, width), np.float32)
    for cells in (2, 4, 8):
        coarse = generator.random((cells, cells), dtype=np.float32)
        clouds += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) / cells
    clouds -= clouds.mean()
    share = np.clip(EXTINCTION[severity - 1] * (1 + 0.35 * clouds), 0, 0.97)
    if image.ndim == 3:
        share = share[..., None]
    veil = 210.0
    return cast(Image, np.rint(image * (1 - share) + veil * share).clip(0, 255).astype(np.uint8))


def compress(image: Image, severity: int, generator: Generator) -> Image:
    """A narrow link: JPEG at low quality (nothing random)."""
    done, coded = cv2.imencode(
        ".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY[severity - 1]]
    )
    if not done:
        raise ValueError(f"OpenCV cannot encode an image of shape {image.shape}")
    flag = cv2.IMREAD_GRAYSCALE if image.ndim == 2 else cv2.IMREAD_COLOR
    return cast(Image, cv2.imdecode(coded, flag))
