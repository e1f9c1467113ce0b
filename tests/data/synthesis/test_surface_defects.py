"""Scratches, dents, stains, pits: change only what their mask says, visibly, by seed."""

from __future__ import annotations

import numpy as np
import pytest

from visionloop.data.synthesis.cutouts import bounds_of
from visionloop.data.synthesis.surface_defects import SURFACE_KINDS, draw_surface_defect


@pytest.fixture(scope="module")
def surface() -> np.ndarray:
    return np.random.default_rng(0).normal(130, 9, (160, 220, 3)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", SURFACE_KINDS)
def test_mask_and_box_are_exact(surface, kind):
    for seed in range(12):
        drawn = draw_surface_defect(surface, kind, np.random.default_rng(seed))
        changed = (drawn.image != surface).any(axis=2)
        assert not (changed & ~drawn.mask).any() and changed.sum() > 0.55 * drawn.mask.sum()
        assert drawn.xyxy == bounds_of(drawn.mask)
        difference = np.abs(drawn.image[drawn.mask].astype(int) - surface[drawn.mask])
        assert np.quantile(difference, 0.9) > 6, "to be seen"


@pytest.mark.parametrize("kind", SURFACE_KINDS)
def test_grey_seed_and_strength(surface, kind):
    grey = surface[..., 0]
    one, same = (draw_surface_defect(grey, kind, np.random.default_rng(3)) for _ in range(2))
    assert one.image.shape == grey.shape and np.array_equal(one.image, same.image)
    faint, strong = (
        draw_surface_defect(surface, kind, np.random.default_rng(3), strength=value)
        for value in (0.2, 1.0)
    )
    assert np.array_equal(faint.mask, strong.mask)
    harm = [np.abs(one.image.astype(int) - surface).sum() for one in (faint, strong)]
    assert harm[0] < 0.5 * harm[1]


def test_stays_on_the_surface_and_away_from_others(surface):
    allowed = np.zeros(surface.shape[:2], bool)
    allowed[:, :110] = True
    taken = np.zeros(surface.shape[:2], bool)
    taken[:80] = True
    for seed in range(10):
        drawn = draw_surface_defect(
            surface, "pit", np.random.default_rng(seed), allowed=allowed, taken=taken
        )
        assert drawn is None or not (drawn.mask & (taken | ~allowed)).any()
    nowhere = np.zeros(surface.shape[:2], bool)
    rng = np.random.default_rng(0)
    assert draw_surface_defect(surface, "stain", rng, allowed=nowhere) is None


def test_wrong_numbers_are_refused(surface):
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="strength"):
        draw_surface_defect(surface, "dent", rng, strength=0)
    with pytest.raises(KeyError):
        draw_surface_defect(surface, "rust", rng)
