"""One view at other exposures is found by its texture; streaks that all parts share fool nobody."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from visionloop.core.tables import read_table
from visionloop.data.splits.near_duplicates import find_near_duplicates, hash_image, join_groups
from visionloop.data.splits.same_view import compare_textures, find_same_views, read_texture
from visionloop.data.splits.split import SPLITS, split


def surface(seed: int, size: int = 420) -> np.ndarray:
    """A ground surface: vertical streaks at fixed places, and a grain of its own."""
    streaks = np.random.default_rng(99).normal(0, 30, (1, size))
    grain = cv2.GaussianBlur(np.random.default_rng(seed).normal(0, 1, (size, size)), (0, 0), 2)
    return np.clip(120 + streaks + 90 * grain, 0, 255)


def shoot(scene: np.ndarray, *, gain: float, left: int, top: int, seed: int) -> np.ndarray:
    """A crop of the scene at an exposure, lit from one side, with sensor noise."""
    part = scene[top : top + 300, left : left + 280]
    light = np.linspace(0.6, 1.3, part.shape[1])[None]
    noise = np.random.default_rng(seed).normal(0, 2, part.shape)
    return np.clip(part * light * gain + noise, 0, 255).astype(np.uint8)


def shoot_all(scenes: int) -> list[np.ndarray]:
    """Four exposures of each scene, cropped by hand: never quite alike."""
    return [
        shoot(surface(scene), gain=gain, left=10 + 9 * number, top=25 - 6 * number, seed=number)
        for scene in range(scenes)
        for number, gain in enumerate((0.3, 0.6, 1.0, 1.5))
    ]


def test_exposures_of_one_view_join_and_others_do_not():
    images = shoot_all(12)
    textures = [read_texture(image, scale=0.4) for image in images]
    pairs = find_same_views(textures, min_correlation=0.45, candidates=8)
    roots = join_groups(len(images), [(first, second) for first, second, _ in pairs])
    assert list(roots) == [4 * (number // 4) for number in range(48)]
    assert all(0.45 <= fit <= 1 for _, _, fit in pairs)
    hashes = [hash_image(image) for image in images]
    by_hash = find_near_duplicates(hashes, max_distance=4)
    assert len(by_hash) < 12  # of 72: the perceptual hash sees light and crop


def test_a_shift_of_nothing_fits_perfectly_and_too_little_overlap_does_not():
    scene = surface(5, 800)
    first = read_texture(scene[:300, :300].astype(np.uint8), scale=0.4).whitened
    assert compare_textures(first, first) == pytest.approx(1)
    beside = read_texture(scene[:300, 60:360].astype(np.uint8), scale=0.4).whitened
    apart = read_texture(scene[400:700, 400:700].astype(np.uint8), scale=0.4).whitened
    assert compare_textures(first, beside) > 0.6
    assert compare_textures(first, beside) == pytest.approx(compare_textures(beside, first))
    assert compare_textures(first, apart) < 0.3


def test_tiny_and_even_images_fit_nothing():
    tiny = read_texture(np.zeros((20, 20, 3), np.uint8), scale=0.25)
    even = read_texture(np.full((200, 200), 90, np.uint8), scale=0.25)
    assert compare_textures(tiny.whitened, even.whitened) == 0
    assert compare_textures(even.whitened, even.whitened) == 0
    assert find_same_views([tiny, tiny], min_correlation=0.4, candidates=5) == []
    assert find_same_views([even, even, tiny], min_correlation=0.4, candidates=5) == []


def test_split_keeps_exposures_together(fill, make, workspace):
    make.set_params(workspace, split={"same_view": {"enabled": True, "scale": 0.4}})
    fill([make.raw_sample(make.png(image), "functional") for image in shoot_all(10)])
    report = split(workspace=workspace)
    assert report.groups == 10 and report.largest_group == 4
    assert report.ties["same view"] > 20
    frame = read_table(workspace.root / "data" / "splits.parquet", SPLITS)
    assert frame.groupby("group")["split"].nunique().max() == 1
