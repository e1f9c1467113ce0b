"""Corruptions of ImageNet-C with their published numbers, for comparison with other people.

Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations", 2019. Written anew in 8 bit and float32: tables by grey level and OpenCV's
filters instead of double precision. ``benchmarks/corruptions.py`` compares speed and pixels.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.data.synthesis.conditions.changed import Generator, Image
from visionloop.data.synthesis.conditions.pixels import add_noise, filter_picture

__all__ = [
    "add_gaussian_noise",
    "add_impulse_noise",
    "add_shot_noise",
    "add_speckle_noise",
    "blur_along_line",
    "blur_by_disk",
    "blur_by_gaussian",
    "blur_by_zoom",
    "brighten",
    "compress_jpeg",
    "lower_contrast",
    "pixelate",
]

GAUSSIAN = (0.08, 0.12, 0.18, 0.26, 0.38)
SHOT = (60, 25, 12, 5, 3)
IMPULSE = (0.03, 0.06, 0.09, 0.17, 0.27)
SPECKLE = (0.15, 0.2, 0.35, 0.45, 0.6)
BLUR = (1, 2, 3, 4, 6)
DISK = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))
LINE = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))
ZOOM = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))
BRIGHT = (0.1, 0.2, 0.3, 0.4, 0.5)
CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)
QUALITY = (25, 18, 15, 10, 7)
PIXELS = (0.6, 0.5, 0.4, 0.3, 0.25)

QUANTILES = 4096
"""shot_noise: how finely the Poisson distribution of a grey level is tabled."""


def add_gaussian_noise(image: Image, severity: int, generator: Generator) -> Image:
    """Additive noise of one strength everywhere."""
    return add_noise(image, 255 * GAUSSIAN[severity - 1], generator)


def add_shot_noise(image: Image, severity: int, generator: Generator) -> Image:
    """Poisson noise of few photons, drawn from a table of quantiles of each grey level."""
    table = _poisson_table(SHOT[severity - 1])
    draw = generator.integers(0, QUANTILES, image.shape, dtype=np.uint16)
    place = image.astype(np.int32) * QUANTILES + draw
    return cast(Image, table[place])


@lru_cache(maxsize=8)
def _poisson_table(photons: int) -> NDArray[np.uint8]:
    """Grey level and quantile to noisy grey level: uint8 (256 * QUANTILES,)."""
    quantile = (np.arange(QUANTILES) + 0.5) / QUANTILES
    count = np.arange(photons + 12 * int(photons**0.5) + 12)
    of_count = np.array([math.lgamma(one + 1) for one in count])
    table = np.empty((256, QUANTILES), np.uint8)
    for level in range(256):
        mean = max(level / 255 * photons, 1e-12)
        chance = np.exp(count * math.log(mean) - mean - of_count)
        drawn = np.searchsorted(np.cumsum(chance), quantile)
        table[level] = (drawn / photons).clip(0, 1) * 255
    return table.reshape(-1)


def add_impulse_noise(image: Image, severity: int, generator: Generator) -> Image:
    """Values that are black or white by chance, each channel on its own."""
    share = IMPULSE[severity - 1]
    draw = generator.integers(0, 65536, image.shape, dtype=np.uint16)
    dark = (draw >= round(share / 2 * 65536)).view(np.uint8) * np.uint8(255)
    bright = (draw >= 65536 - round(share / 2 * 65536)).view(np.uint8) * np.uint8(255)
    return np.asarray((image & dark) | bright, np.uint8)


def add_speckle_noise(image: Image, severity: int, generator: Generator) -> Image:
    """Noise in proportion to the light."""
    return add_noise(image, SPECKLE[severity - 1] * np.arange(256.0), generator)


def blur_by_gaussian(image: Image, severity: int, generator: Generator) -> Image:
    """A blur without direction."""
    sigma = BLUR[severity - 1]
    return cast(Image, cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE))


def blur_by_disk(image: Image, severity: int, generator: Generator) -> Image:
    """Defocus: a disc whose rim is smoothed."""
    radius, soft = DISK[severity - 1]
    reach = np.arange(-max(8, radius), max(8, radius) + 1)
    x, y = np.meshgrid(reach, reach)
    disc = (x**2 + y**2 <= radius**2).astype(np.float64)
    size = 3 if radius <= 8 else 5
    kernel = cv2.GaussianBlur(disc / disc.sum(), (size, size), soft)
    return filter_picture(image, np.asarray(kernel, np.float64))


def blur_along_line(image: Image, severity: int, generator: Generator) -> Image:
    """Motion with a fading trail, up to 45 degrees from the horizontal."""
    length, sigma = LINE[severity - 1]
    angle = np.deg2rad(generator.uniform(-45, 45))
    weights = np.exp(-(np.arange(2 * length + 1.0) ** 2) / (2 * sigma**2))
    middle = 2 * length + 1
    kernel = np.zeros((2 * middle + 1, 2 * middle + 1))
    for number, weight in enumerate(weights / weights.sum()):
        x = middle + round(number * np.cos(angle))
        y = middle + round(number * np.sin(angle))
        kernel[y, x] += weight
    return filter_picture(image, kernel, border=cv2.BORDER_REPLICATE)


def blur_by_zoom(image: Image, severity: int, generator: Generator) -> Image:
    """The mean of the picture and its enlargements about the middle."""
    height, width = image.shape[:2]
    end, step = ZOOM[severity - 1]
    total = image.astype(np.float32)
    factors = np.arange(1, end, step)
    for factor in factors:
        down, across = int(np.ceil(height / factor)), int(np.ceil(width / factor))
        top, left = (height - down) // 2, (width - across) // 2
        middle = image[top : top + down, left : left + across]
        cv2.accumulate(cv2.resize(middle, (width, height)), total)
    total *= np.float32(1 / (len(factors) + 1))
    return total.astype(np.uint8)


def brighten(image: Image, severity: int, generator: Generator) -> Image:
    """The value of HSV is raised; hue and saturation stay."""
    value = np.arange(256, dtype=np.float32)
    raised = np.minimum(value + 255 * BRIGHT[severity - 1], 255)
    if image.ndim == 2:
        return cast(Image, cv2.LUT(image, raised.astype(np.uint8)))
    gain = raised / np.maximum(value, 1)
    brightest = _brightest(image)
    done = image * gain.astype(np.float32)[brightest][..., None]
    done[brightest == 0] = raised[0]
    return np.asarray(done, np.uint8)


def _brightest(image: Image) -> NDArray[np.uint8]:
    return np.asarray(cv2.max(cv2.max(image[..., 0], image[..., 1]), image[..., 2]), np.uint8)


def lower_contrast(image: Image, severity: int, generator: Generator) -> Image:
    """Every channel moves towards its mean."""
    share = CONTRAST[severity - 1]
    value = np.arange(256)
    if image.ndim == 2:
        mean = float(image.mean())
        return cast(Image, cv2.LUT(image, ((value - mean) * share + mean).astype(np.uint8)))
    mean_of = np.array(cv2.mean(image), np.float64)[:3]
    table = (value[:, None] - mean_of) * share + mean_of
    return cast(Image, cv2.LUT(image, table.astype(np.uint8).reshape(1, 256, 3)))


def compress_jpeg(image: Image, severity: int, generator: Generator) -> Image:
    """JPEG (nothing random)."""
    _, coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY[severity - 1]])
    flag = cv2.IMREAD_GRAYSCALE if image.ndim == 2 else cv2.IMREAD_COLOR
    return cast(Image, cv2.imdecode(coded, flag))


def pixelate(image: Image, severity: int, generator: Generator) -> Image:
    """Fewer and larger pixels (nothing random)."""
    height, width = image.shape[:2]
    share = PIXELS[severity - 1]
    size = (max(1, int(width * share)), max(1, int(height * share)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cast(Image, cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST))
