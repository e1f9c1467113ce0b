"""The quick filters and noise are what they stand for."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from visionloop.data.synthesis.conditions.pixels import add_noise, draw_normal, filter_picture


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)


def line(side: int) -> np.ndarray:
    kernel = np.zeros((side, side))
    kernel[np.arange(side), np.arange(side)] = 1 / side
    return kernel


def disc(side: int) -> np.ndarray:
    y, x = np.mgrid[-(side // 2) : side // 2 + 1, -(side // 2) : side // 2 + 1]
    kernel = (x**2 + y**2 <= (side // 2) ** 2).astype(float)
    return kernel / kernel.sum()


@pytest.mark.parametrize("kernel", [line(5), line(21), disc(7), disc(21)], ids=str)
@pytest.mark.parametrize("border", [cv2.BORDER_REFLECT_101, cv2.BORDER_REPLICATE])
def test_a_filter_is_opencvs(picture, kernel, border):
    wanted = cv2.filter2D(picture.astype(np.float64), -1, kernel, borderType=border)
    found = filter_picture(picture, kernel, border=border)
    assert np.abs(found - wanted).max() <= 0.51
    assert filter_picture(picture[..., 0], kernel, border=border).shape == (60, 80)


def test_noise_is_normal_on_every_channel_and_decided_by_the_generator():
    noise = draw_normal((200, 200, 3), np.random.default_rng(1))
    assert np.array_equal(noise, draw_normal((200, 200, 3), np.random.default_rng(1)))
    for channel in range(3):
        assert abs(noise[..., channel].mean()) < 0.02
        assert noise[..., channel].std() == pytest.approx(1, abs=0.02)
    assert np.abs(np.corrcoef(noise.reshape(-1, 3).T) - np.eye(3)).max() < 0.02
    assert (np.abs(noise) > 3).mean() == pytest.approx(0.0027, abs=0.0008)


def test_noise_by_grey_level():
    grey = np.repeat(np.uint8([[60], [200]]), 4000, axis=1)
    spread = np.where(np.arange(256) > 128, 12.0, 3.0)
    done = add_noise(grey, spread, np.random.default_rng(0)).astype(float)
    assert done[0].std() == pytest.approx(3, rel=0.1) and done[1].std() == pytest.approx(
        12, rel=0.1
    )
    assert done.mean(axis=1) == pytest.approx([60, 200], abs=0.7)
