"""Whether a frame differs enough from what was kept: perceptual hash first, then embedding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visionloop.data.collection.cameras import DiversityParams
from visionloop.data.splits.near_duplicates import ImageHash

__all__ = ["KeptPictures", "Look"]


@dataclass(frozen=True, eq=False)
class Look:
    """What a frame is compared by.

    Attributes
    ----------
    hash : ImageHash
        64 bits and a 32 x 32 thumbnail.
    embedding : float32 array (D,) or None
        Of the backbone; None where there is none.
    """

    hash: ImageHash
    embedding: NDArray[np.float32] | None = None


class KeptPictures:
    """The newest kept pictures of one camera, in rings of fixed size.

    Parameters
    ----------
    limit : int
        So many are remembered; older ones are compared no more.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0
        self._bits = np.zeros((0, 8), np.uint8)
        self._thumbnails = np.zeros((0, 1024), np.float16)
        self._embeddings = np.zeros((0, 0), np.float32)

    def __len__(self) -> int:
        return min(self._count, self._limit)

    def add(self, look: Look) -> None:
        """Remember a kept picture."""
        row = self._count % self._limit
        if row >= len(self._bits):
            self._grow()
        self._bits[row] = _bits(look.hash)
        self._thumbnails[row] = look.hash.thumbnail
        if look.embedding is not None:
            if self._embeddings.shape[1] != len(look.embedding):
                self._embeddings = np.zeros((len(self._bits), len(look.embedding)), np.float32)
            self._embeddings[row] = _unit(look.embedding)
        elif self._embeddings.shape[1]:
            self._embeddings[row] = 0  # no vector: at distance 1 of everything
        self._count += 1

    def resembles(self, look: Look, params: DiversityParams) -> str:
        """Why a frame is too similar to a kept one; empty if it differs enough."""
        size = len(self)
        if not size:
            return ""
        if params.hash_bits is not None:
            differing = np.unpackbits(self._bits[:size] ^ _bits(look.hash), axis=1).sum(axis=1)
            near = np.flatnonzero(differing <= params.hash_bits)
            thumbnails = self._thumbnails[near].astype(np.float32)
            alike = thumbnails @ look.hash.thumbnail >= params.correlation
            if not look.hash.thumbnail.any():  # an even picture has no direction to correlate
                alike |= ~thumbnails.any(axis=1)
            if alike.any():
                return "hash"
        if (
            params.embedding_distance is not None
            and look.embedding is not None
            and self._embeddings.shape[1] == len(look.embedding)
        ):
            nearest = float((self._embeddings[:size] @ _unit(look.embedding)).max())
            if 1 - nearest < params.embedding_distance:
                return "embedding"
        return ""

    def _grow(self) -> None:
        rows = min(self._limit, max(64, 2 * len(self._bits)))
        for name in ("_bits", "_thumbnails", "_embeddings"):
            old = getattr(self, name)
            larger = np.zeros((rows, *old.shape[1:]), old.dtype)
            larger[: len(old)] = old
            setattr(self, name, larger)


def _bits(look: ImageHash) -> NDArray[np.uint8]:
    return np.frombuffer(look.bits.to_bytes(8, "big"), np.uint8)


def _unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    norm = float(np.linalg.norm(vector))
    return np.asarray(vector / norm if norm else vector, np.float32)
