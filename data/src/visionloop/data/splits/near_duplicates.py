"""Near-duplicates: the same view taken twice must not sit on both sides of a split.

Two images are near-duplicates if their 64-bit perceptual hashes (pHash: signs of the
lowest 8 x 8 cosine coefficients of a 32 x 32 thumbnail against their median, Zauner 2010)
differ in few bits *and* the thumbnails correlate; the second test keeps look-alikes of one
product apart, which the hash alone merges into giant groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["ImageHash", "cluster", "find_near_duplicates", "hash_image", "join_groups"]

MIN_CORRELATION = 0.98
"""Of the thumbnails. On the solar cells 79 % of the pairs above it are cells at most 12
places apart in their module; at .90 look-alikes chain into groups of hundreds."""

_THUMBNAIL = 32
_BITS = np.array([bin(number).count("1") for number in range(1 << 16)], np.uint8)
_ROWS_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class ImageHash:
    """What two images are compared by.

    Attributes
    ----------
    bits : int
        The 64-bit perceptual hash.
    thumbnail : float32 array (1024,)
        32 x 32 grey thumbnail, mean 0 and norm 1 (all 0 for an even image).
    """

    bits: int
    thumbnail: NDArray[np.float32]


def hash_image(image: NDArray[np.uint8]) -> ImageHash:
    """Hash an image: uint8 (H, W, 3) BGR or (H, W)."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) if image.ndim == 3 else image
    small = cv2.resize(grey, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
    small = small.astype(np.float32)
    coefficients = np.asarray(cv2.dct(small)[:8, :8], np.float32).reshape(-1)
    coefficients[0] = 0  # the mean: light, not content
    signs = np.packbits(coefficients > np.median(coefficients))
    centred = (small - small.mean()).reshape(-1)
    norm = float(np.linalg.norm(centred))
    thumbnail = centred / norm if norm > 1e-3 else np.zeros_like(centred)
    return ImageHash(int.from_bytes(signs.tobytes(), "big"), cast(NDArray[np.float32], thumbnail))


def find_near_duplicates(
    hashes: Sequence[ImageHash],
    *,
    max_distance: int,
    min_correlation: float = MIN_CORRELATION,
) -> list[tuple[int, int, int]]:
    """All pairs of near-duplicates.

    Parameters
    ----------
    hashes : sequence of N hashes
    max_distance : int
        Bits in which the 64-bit hashes may differ.
    min_correlation : float
        Of the thumbnails, in [-1, 1]. Two even images always count as alike.

    Returns
    -------
    list of (first, second, distance)
        Indices with first < second, in order.
    """
    return list(_pairs(hashes, max_distance, min_correlation))


def _pairs(
    hashes: Sequence[ImageHash], max_distance: int, min_correlation: float
) -> Iterator[tuple[int, int, int]]:
    if len(hashes) < 2:
        return
    bits = np.array([one.bits for one in hashes], np.uint64).view(np.uint16).reshape(-1, 4)
    thumbnails = np.stack([one.thumbnail for one in hashes])
    even = np.asarray(~thumbnails.any(axis=1), np.bool_)
    for start in range(0, len(hashes), _ROWS_AT_ONCE):
        rows = slice(start, min(start + _ROWS_AT_ONCE, len(hashes)))
        distance = np.zeros((rows.stop - start, len(hashes)), np.uint8)
        for word in range(4):
            distance += _BITS[bits[rows, None, word] ^ bits[None, :, word]]
        near = np.argwhere(distance <= max_distance)
        first, second = near[:, 0] + start, near[:, 1]
        ordered = first < second
        first, second = first[ordered], second[ordered]
        correlation = np.einsum("nd,nd->n", thumbnails[first], thumbnails[second])
        alike = (correlation >= min_correlation) | (even[first] & even[second])
        for one, other in zip(first[alike], second[alike], strict=True):
            yield int(one), int(other), int(distance[one - start, other])


def cluster(count: int, pairs: Sequence[tuple[int, int, int]]) -> NDArray[np.int64]:
    """Join pairs into clusters.

    Returns
    -------
    int64 array (count,)
        The smallest index of each one's cluster.
    """
    return join_groups(count, [(first, second) for first, second, _ in pairs])


def join_groups(count: int, links: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """Union-find over links; each element gets the smallest index of its group."""
    parent = list(range(count))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for first, second in links:
        low, high = sorted((root(first), root(second)))
        parent[high] = low
    return np.array([root(index) for index in range(count)], np.int64)
