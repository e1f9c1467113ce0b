"""What a look says against the camera's reference, in a handful of numbers.

Structure is what a high-pass leaves. Light that changes slowly multiplies it, which cancels;
people and vehicles change single blocks, and medians and shares over blocks leave them out.
Sensor noise is measured between two looks and taken off what counts as detail.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.serving.edge.health.look import Look, block_means, high_pass

__all__ = ["Measures", "Smoothed", "measure"]

TEXTURED = 8.0
"""Variance of the high-passed coarse picture from which a block can be compared."""
FEWEST_BLOCKS = 5
SAME = 0.5
"""Correlation of a block from which it shows what it showed."""
GONE = 0.08
"""Share of a block's structure that is only the memory of the looks before."""
WHITE = 248
NEWEST = 0.45
"""Weight of the newest look: noise and passers-by are averaged over about three."""

Blocks = NDArray[np.float32]


@dataclass(frozen=True)
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
        Share of the textured view that no longer shows what it showed.
    flat : float
        How strong the structure is in the middle of its distribution, by the reference; near 0
        something without texture hides most of the view.
    contrast : float
        Contrast where the view is the same, by the reference and by its light; 1 is unchanged.
    detail : float or None
        Fine detail by the reference, beyond what contrast explains; 1 is unchanged. None where
        noise hides it.
    is_comparable : bool
        There are enough places with structure; else nothing is known of what is lost, and
        contrast and detail are those of the whole view.
    chroma : float or None
    """

    light: float
    bright: float
    white: float
    change: float | None
    lost: float
    flat: float
    contrast: float
    detail: float | None
    is_comparable: bool
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


def measure(look: Look, before: Look | None, now: Smoothed, reference: Smoothed) -> Measures:
    """Compare.

    Parameters
    ----------
    look, before : Look
        The newest and the one before it.
    now : Smoothed
        The last few looks.
    reference : Smoothed
        What the camera shows when it is well.
    """
    counts = cv2.calcHist([look.fine], [0], None, [256], [0, 256]).ravel()
    pixels = look.fine.size
    bright = int(np.searchsorted(np.cumsum(counts), 0.99 * pixels))
    change = None if before is None else float(cv2.norm(look.fine, before.fine, cv2.NORM_L1))
    known = block_means(reference.structure**2)
    textured = known > TEXTURED
    is_comparable = bool(textured.sum() >= FEWEST_BLOCKS)
    if is_comparable:
        lost, contrast, detail = _compare(now, reference, known, textured)
    else:  # asphalt, a bare wall: what is there is fine and everywhere
        lost, contrast, detail = 0.0, *_compare_plain(now, reference)
    return Measures(
        light=float(look.coarse.mean()),
        bright=float(bright),
        white=float(counts[WHITE:].sum() / pixels),
        change=None if change is None else change / pixels,
        lost=lost,
        flat=_flatness(now, reference),
        contrast=contrast,
        detail=detail,
        is_comparable=is_comparable,
        chroma=look.chroma,
    )


def _compare(
    now: Smoothed, reference: Smoothed, known: Blocks, textured: NDArray[np.bool_]
) -> tuple[float, float, float | None]:
    seen = block_means(now.structure**2)[textured]
    shared = block_means(now.structure * reference.structure)[textured]
    known = known[textured]
    likeness = shared / np.sqrt(np.maximum(known * seen, 1e-6))
    light = _light_ratio(now, reference)
    is_same = (likeness >= SAME) & (shared / known >= GONE * min(1.0, light))
    lost = 1 - float(is_same.mean())
    if not is_same.any():
        return lost, 1.0, None
    gain = np.maximum(shared / known, 0.02)[is_same]
    contrast = float(np.median(gain)) / light
    fine = reference.detail[textured][is_same] - reference.noise
    left = now.detail[textured][is_same] - now.noise
    is_seen = fine * gain**2 > 0.5 * now.noise
    if not is_seen.any():
        return lost, contrast, None
    ratio = np.sqrt(np.maximum(left, 0)[is_seen] / np.maximum(fine[is_seen], 1e-3))
    return lost, contrast, float(np.median(ratio / gain[is_seen]))


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
