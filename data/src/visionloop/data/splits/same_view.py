"""One view under other light: pictures whose fine texture fits after a shift.

A perceptual hash sees light; this looks at texture. Each picture is taken to local contrast
(logarithm, minus its blur, by its local deviation) and *whitened*: every spatial frequency counts
alike, so a pattern that all parts of a product share (grinding marks, grids) does not make two
parts look the same. This is band-limited phase-only correlation (Ito et al., "A fingerprint
matching algorithm using phase-only correlation", 2004; Kuglin and Hines, 1975), normalised by
the overlap.

Candidates come first: the magnitudes of a picture's spectrum do not change when it is shifted,
so the nearest neighbours among them are few and cheap; only these are compared in full. Pictures
must show the view at the same scale; crop and position may differ by half the smaller one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.core.progress import track

__all__ = ["Texture", "compare_textures", "find_same_views", "read_texture"]

MIN_OVERLAP = 0.5
"""Of the smaller picture."""
_MIN_SIDE = 16
_SPECTRUM = 64
_DIMENSIONS = 256
_CONTRAST_SIGMA = 4.0
_LOW_PASS = 0.25
_EVEN = 0.005  # in logarithms of grey: below it there is no texture, only rounding
_ROWS_AT_ONCE = 512

Grey = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Texture:
    """What two pictures are compared by.

    Attributes
    ----------
    whitened : float32 array (h, w)
        Whitened local contrast at the scale of the comparison; empty if it is too small.
    spectrum : float32 array (256,)
        Random projection of the log magnitudes of the spectrum: the same after a shift.
    """

    whitened: Grey
    spectrum: Grey


def read_texture(image: NDArray[np.uint8], *, scale: float) -> Texture:
    """The texture of an image: uint8 (H, W, 3) BGR or (H, W).

    Parameters
    ----------
    image
    scale : float
        Pixels of the comparison per pixel of the image; the same for all images.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) if image.ndim == 3 else image
    size = [max(1, round(side * scale)) for side in grey.shape[::-1]]
    if min(size) < _MIN_SIDE:
        return Texture(np.zeros((0, 0), np.float32), np.zeros(_DIMENSIONS, np.float32))
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    contrast = _local_contrast(small)
    return Texture(_whiten(contrast), _spectrum(contrast))


def _local_contrast(grey: NDArray[np.floating]) -> Grey:
    light = np.log1p(grey)
    detail = light - cv2.GaussianBlur(light, (0, 0), _CONTRAST_SIGMA)
    if float(np.abs(detail).max()) < _EVEN:
        return np.zeros_like(detail)
    deviation = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), 2 * _CONTRAST_SIGMA))
    return np.asarray(detail / (deviation + 0.02), np.float32)


def _window(shape: tuple[int, ...]) -> Grey:
    rows, columns = (np.hanning(side + 2)[1:-1] for side in shape)
    return np.asarray(np.outer(rows, columns), np.float32)


def _whiten(contrast: Grey) -> Grey:
    """All frequencies with the same weight, up to a Gaussian low-pass."""
    height, width = (cv2.getOptimalDFTSize(side) for side in contrast.shape)
    transform = np.fft.rfft2(contrast * _window(contrast.shape) ** 0.25, (height, width))
    magnitude = np.abs(transform)
    across, down = np.fft.rfftfreq(width)[None], np.fft.fftfreq(height)[:, None]
    band = np.exp(-(across**2 + down**2) / (2 * _LOW_PASS**2))
    flat = transform / (magnitude + 0.1 * magnitude.mean() + 1e-9) * band
    rows, columns = contrast.shape
    return np.asarray(np.fft.irfft2(flat, (height, width))[:rows, :columns], np.float32)


def _spectrum(contrast: Grey) -> Grey:
    shown = (contrast * _window(contrast.shape))[:_SPECTRUM, :_SPECTRUM]
    magnitude = np.abs(np.fft.rfft2(shown, (_SPECTRUM, _SPECTRUM)))
    logarithm = np.log(magnitude + 0.01 * magnitude.max() + 1e-9).reshape(-1)
    return np.asarray(logarithm.astype(np.float32) @ _projection(len(logarithm)), np.float32)


@lru_cache(maxsize=1)
def _projection(length: int) -> Grey:
    """Johnson and Lindenstrauss: distances survive a random projection. The same every time."""
    drawn = np.random.default_rng(0).standard_normal((length, _DIMENSIONS))
    return np.asarray(drawn / np.sqrt(_DIMENSIONS), np.float32)


def compare_textures(first: Grey, second: Grey) -> float:
    """Correlation of two whitened pictures at the shift where they fit best, in [-1, 1].

    The overlap is at least half of the smaller picture; 0 if one of them is empty.
    """
    if not first.size or not second.size:
        return 0.0
    height, width = (
        cv2.getOptimalDFTSize(one + other - 1)
        for one, other in zip(first.shape, second.shape, strict=True)
    )
    product = np.fft.rfft2(first, (height, width)) * np.conj(np.fft.rfft2(second, (height, width)))
    summed = np.fft.irfft2(product, (height, width))
    rows = _overlaps(first.shape[0], second.shape[0], height)
    columns = _overlaps(first.shape[1], second.shape[1], width)
    area = rows[:, None] * columns[None]
    enough = area >= MIN_OVERLAP * min(first.size, second.size)
    # Whitened pictures have the same energy everywhere, so the area stands for it.
    mean = np.where(enough, summed / np.maximum(area, 1), -np.inf)
    down, across = np.unravel_index(int(mean.argmax()), mean.shape)
    return _correlation_at(
        first, second, _signed(int(down), height, first), _signed(int(across), width, first, axis=1)
    )


def _overlaps(first: int, second: int, length: int) -> NDArray[np.int64]:
    """Common pixels along one axis for each circular shift of the second against the first."""
    circular = np.arange(length)
    shift = np.where(circular >= first, circular - length, circular)
    common = np.minimum(first, second + shift) - np.maximum(0, shift)
    return np.asarray(np.maximum(0, common), np.int64)


def _signed(shift: int, length: int, first: Grey, *, axis: int = 0) -> int:
    return shift - length if shift >= first.shape[axis] else shift


def _correlation_at(first: Grey, second: Grey, down: int, across: int) -> float:
    height = min(first.shape[0], second.shape[0] + down)
    width = min(first.shape[1], second.shape[1] + across)
    top, left = max(0, down), max(0, across)
    one = first[top:height, left:width]
    other = second[top - down : height - down, left - across : width - across]
    energy = float(np.sqrt((one * one).sum() * (other * other).sum()))
    return float((one * other).sum()) / energy if energy > 1e-9 else 0.0


def find_same_views(
    textures: Sequence[Texture], *, min_correlation: float, candidates: int
) -> list[tuple[int, int, float]]:
    """Pairs that show one view, with their correlation.

    Parameters
    ----------
    textures : sequence of N textures, all read at one scale
    min_correlation : float
    candidates : int
        Neighbours of each picture that are compared in full.

    Returns
    -------
    list of (first, second, correlation)
        Indices with first < second, in order.
    """
    pairs = _candidates(textures, candidates)
    found = []
    for first, second in track(pairs, "comparing views"):
        fit = compare_textures(textures[first].whitened, textures[second].whitened)
        if fit >= min_correlation:
            found.append((first, second, fit))
    return found


def _candidates(textures: Sequence[Texture], count: int) -> list[tuple[int, int]]:
    usable = np.flatnonzero([one.whitened.size > 0 for one in textures])
    if len(usable) < 2:
        return []
    spectra = np.stack([textures[number].spectrum for number in usable])
    spectra = spectra - spectra.mean(axis=0)
    spectra /= np.linalg.norm(spectra, axis=1, keepdims=True) + 1e-9
    count = min(count, len(usable) - 1)
    pairs: set[tuple[int, int]] = set()
    for start in range(0, len(usable), _ROWS_AT_ONCE):
        alike = spectra[start : start + _ROWS_AT_ONCE] @ spectra.T
        alike[np.arange(len(alike)), start + np.arange(len(alike))] = -2
        nearest = np.argpartition(-alike, count - 1, axis=1)[:, :count]
        pairs |= _pairs_of(usable, start, nearest)
    return sorted(pairs)


def _pairs_of(
    usable: NDArray[np.int64], start: int, nearest: Iterable[NDArray[np.int64]]
) -> set[tuple[int, int]]:
    return {
        (int(min(usable[start + row], other)), int(max(usable[start + row], other)))
        for row, others in enumerate(nearest)
        for other in usable[others]
    }
