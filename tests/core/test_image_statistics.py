"""Image statistics move with what they are named after."""

from __future__ import annotations

import cv2
import numpy as np

from visionloop.core.image_statistics import measure_image


def scene(seed: int = 0) -> np.ndarray:
    image = np.full((120, 160, 3), 90, np.uint8)
    generator = np.random.default_rng(seed)
    for _ in range(12):
        x, y, w, h = generator.integers(5, 60, 4)
        colour = [int(value) for value in generator.integers(40, 220, 3)]
        cv2.rectangle(image, (int(x), int(y)), (int(x + w), int(y + h)), colour, -1)
    return image


def test_luminance_and_contrast_of_flat_images() -> None:
    flat = measure_image(np.full((20, 30), 100, np.uint8))
    assert flat.luminance == 100
    assert flat.contrast == flat.blur == flat.noise == 0


def test_blur_falls_when_defocused() -> None:
    image = scene()
    assert measure_image(cv2.GaussianBlur(image, (9, 9), 0)).blur < measure_image(image).blur / 4


def test_noise_is_estimated_in_grey_levels() -> None:
    generator = np.random.default_rng(0)
    noisy = np.clip(128 + generator.normal(0, 8, (200, 200)), 0, 255).astype(np.uint8)
    assert abs(measure_image(noisy).noise - 8) < 0.8


def test_darkness_lowers_luminance() -> None:
    image = scene()
    assert measure_image(image // 3).luminance < measure_image(image).luminance / 2
