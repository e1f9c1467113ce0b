"""What a look says against the camera's reference, in a handful of numbers.

Structure is what a high-pass leaves. Light that changes slowly multiplies it, which cancels;
people and vehicles change single blocks, and medians and shares over blocks leave them out.
Sensor noise is measured between two looks and taken off what counts as detail.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.serving.edge.health.look import Look, block_means, high_pass

__all__ = ["Measures", "Smoothed", "likeness_of", "measure"]

TEXTURED = 8.0
"""Variance of the high-passed coarse picture from which a block can be compared by one look."""
FEWEST_BLOCKS = 5
SAME = 0.5
"""Correlation of a textured block from which it shows what it showed."""
RECOGNISED = 0.3
"""Usual correlation with the reference from which a block with less structure counts too."""
STILL_RECOGNISED = 0.35
"""Share of its usual correlation from which such a block shows what it showed."""
FLAT_ENERGY = 0.25
"""Share of a block's energy, by its light, below which it is flat."""
NOISIER = 2.0
"""Times the reference's noise at which weak structure is no longer looked for."""
GONE = 0.08
"""Share of a block's structure that is only the memory of the looks before."""
WHITE = 248
NEWEST = 0.45
"""Weight of the newest look: noise and passers-by are averaged over about three."""

Blocks = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Measures:
    """One look in numbers.

    Attributes
    ----------
    light : float
        Mean grey level, 0 to 255.
    bright : float
        Grey level that 99 % of the pixels stay below.
    white : float
        Share of white pixels.
    change : float or None
        Mean difference to the look before, in grey levels.
    lost : float
        Share of the view, as far as it can be compared, that no longer shows what it showed.
    likeness : float32 array (6, 10)
        Correlation of each block with the reference.
    flat_share : float
        Share of the same blocks whose structure is gone without another one in its place.
    contrast : float
        Contrast where the view is the same, by the reference and by its light; 1 is unchanged.
    detail : float or None
        Fine detail by the reference, beyond what contrast explains; 1 is unchanged. None where
        noise hides it.
    is_textured : bool
        There are enough places with strong structure; else contrast and detail are those of the
        whole view.
    chroma : float or None
    """

    light: float
    bright: float
    white: float
    change: float | None
    lost: float
    likeness: Blocks
    flat_share: float
    contrast: float
    detail: float | None
    is_textured: bool
    chroma: float | None


@dataclass(eq=False)
class Smoothed:
    """The last looks, averaged.

    Attributes
    ----------
    structure : float32 array (90, 160)
        High-passed.
    detail : float32 array (6, 10)
        Energy of the Laplacian by block.
    noise : float
        Energy that sensor noise alone has there.
    light : float
    white : float
        Share of white pixels.
    """

    structure: NDArray[np.float32]
    detail: Blocks
    noise: float
    light: float
    white: float

    @classmethod
    def begin(cls, look: Look, before: Look | None = None) -> Smoothed:
        """From one look, and the one before it for the noise."""
        detail = block_means(look.laplacian**2)
        noise = 0.0
        if before is not None:  # light that changed as a whole is not in the Laplacian
            noise = 0.5 * float(
                np.percentile(block_means((look.laplacian - before.laplacian) ** 2), 25)
            )
        white = float(np.count_nonzero(look.fine >= WHITE)) / look.fine.size
        return cls(high_pass(look.coarse), detail, noise, float(look.coarse.mean()), white)

    def mix(self, other: Smoothed, weight: float) -> None:
        """Move towards another average by a share of the way."""
        cv2.accumulateWeighted(other.structure, self.structure, weight)
        self.detail += weight * (other.detail - self.detail)
        # A step of the whole picture is no noise: it may grow only by and by.
        noise = min(other.noise, 1.5 * self.noise + 1) if self.noise else other.noise
        self.noise += weight * (noise - self.noise)
        self.light += weight * (other.light - self.light)
        self.white += weight * (other.white - self.white)

    def copy(self) -> Smoothed:
        """An average of its own."""
        return Smoothed(
            self.structure.copy(), self.detail.copy(), self.noise, self.light, self.white
        )


def measure(
    look: Look,
    before: Look | None,
    now: Smoothed,
    reference: Smoothed,
    usual: Blocks | None = None,
) -> Measures:
    """Compare.

    Parameters
    ----------
    look, before : Look
        The newest and the one before it.
    now : Smoothed
        The last few looks.
    reference : Smoothed
        What the camera shows when it is well.
    usual : float32 array (6, 10) or None
        The likeness of its blocks while it is well: asphalt and bare walls have little structure,
        but the same for weeks. None: blocks with strong structure alone are compared.
    """
    counts = cv2.calcHist([look.fine], [0], None, [256], [0, 256]).ravel()
    pixels = look.fine.size
    bright = int(np.searchsorted(np.cumsum(counts), 0.99 * pixels))
    change = None if before is None else float(cv2.norm(look.fine, before.fine, cv2.NORM_L1))
    blocks = _Blocks.of(now, reference)
    textured = blocks.known > TEXTURED
    is_textured = bool(textured.sum() >= FEWEST_BLOCKS)
    if is_textured:
        contrast, detail = _compare(now, reference, blocks, textured)
    else:  # asphalt, a bare wall: what is there is fine and everywhere
        contrast, detail = _compare_plain(now, reference)
    lost, flat_share = _lost_shares(now, reference, blocks, usual)
    return Measures(
        light=float(look.coarse.mean()),
        bright=float(bright),
        white=float(counts[WHITE:].sum() / pixels),
        change=None if change is None else change / pixels,
        lost=lost,
        likeness=blocks.likeness,
        flat_share=flat_share,
        contrast=contrast,
        detail=detail,
        is_textured=is_textured,
        chroma=look.chroma,
    )


def likeness_of(now: Smoothed, reference: Smoothed) -> Blocks:
    """Correlation of each block with the reference: float32 (6, 10), in [-1, 1]."""
    return _Blocks.of(now, reference).likeness


class _Blocks(NamedTuple):
    """Energy of both by block, what of the reference is left, and how alike both are."""

    known: Blocks
    seen: Blocks
    shared: Blocks
    likeness: Blocks

    @classmethod
    def of(cls, now: Smoothed, reference: Smoothed) -> _Blocks:
        known = block_means(reference.structure**2)
        seen = block_means(now.structure**2)
        shared = block_means(now.structure * reference.structure)
        likeness = shared / np.sqrt(np.maximum(known * seen, 1e-6))
        return cls(known, seen, shared, np.asarray(likeness, np.float32))

    def is_same(self, limit: Blocks | float, light: float) -> NDArray[np.bool_]:
        """Whether a block is like the reference, and not only by what is remembered of it."""
        is_there = self.shared >= GONE * min(1.0, light) * self.known
        return np.asarray((self.likeness >= limit) & is_there)


def _lost_shares(
    now: Smoothed, reference: Smoothed, blocks: _Blocks, usual: Blocks | None
) -> tuple[float, float]:
    """Shares that are lost, and flat.

    Of the blocks that can be compared: those with strong structure, and those that the camera
    itself has been seen to show again and again, each by its own measure.
    """
    light = _light_ratio(now, reference)
    textured = blocks.known > TEXTURED
    counted, limit = textured, np.full_like(blocks.known, SAME)
    if usual is not None and now.noise <= NOISIER * reference.noise + 1:
        counted = textured | (usual >= RECOGNISED)
        limit = np.where(textured, SAME, np.minimum(SAME, STILL_RECOGNISED * usual))
    if counted.sum() < FEWEST_BLOCKS:
        return 0.0, 0.0
    is_same = blocks.is_same(limit, light)
    is_flat = blocks.seen < FLAT_ENERGY * light**2 * blocks.known
    return 1 - float(is_same[counted].mean()), float(is_flat[counted].mean())


def _compare(
    now: Smoothed, reference: Smoothed, blocks: _Blocks, textured: NDArray[np.bool_]
) -> tuple[float, float | None]:
    """Contrast and detail where the view is the same."""
    light = _light_ratio(now, reference)
    chosen = textured & blocks.is_same(SAME, light)
    if not chosen.any():
        return 1.0, None
    gain = np.maximum(blocks.shared[chosen] / blocks.known[chosen], 0.02)
    contrast = float(np.median(gain)) / light
    fine = reference.detail[chosen] - reference.noise
    left = now.detail[chosen] - now.noise
    is_seen = fine * gain**2 > 0.5 * now.noise
    if not is_seen.any():
        return contrast, None
    ratio = np.sqrt(np.maximum(left, 0)[is_seen] / np.maximum(fine[is_seen], 1e-3))
    return contrast, float(np.median(ratio / gain[is_seen]))


def _compare_plain(now: Smoothed, reference: Smoothed) -> tuple[float, float | None]:
    """Contrast and detail of a view without places that could be told apart."""
    contrast = _flatness(now, reference)
    gain = max(0.02, contrast * _light_ratio(now, reference))
    fine = float(np.median(reference.detail)) - reference.noise
    if fine * gain**2 <= 0.5 * now.noise or fine <= 0:
        return contrast, None
    left = max(0.0, float(np.median(now.detail)) - now.noise)
    return contrast, float(np.sqrt(left / fine)) / gain


def _flatness(now: Smoothed, reference: Smoothed) -> float:
    usual = float(np.median(np.abs(reference.structure)))
    seen = float(np.median(np.abs(now.structure)))
    return seen / max(usual * _light_ratio(now, reference), 1e-3)


def _light_ratio(now: Smoothed, reference: Smoothed) -> float:
    return (now.light + 4) / (reference.light + 4)
