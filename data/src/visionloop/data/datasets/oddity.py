"""What the checks of a set look at and what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from visionloop.data.splits.near_duplicates import ImageHash

__all__ = ["Facts", "Oddity"]


@dataclass(frozen=True, eq=False)
class Facts:
    """What is kept of a sample.

    Attributes
    ----------
    file : str
        Name in its source.
    sample_id : str
    said : tuple of (class name, rounded box)
        Its annotations, in order; an empty box for a class of the whole picture.
    split : str
        Official split or empty.
    image_hash : ImageHash
    probe : int16 array (64, 64)
        Grey thumbnail.
    mirrored : tuple of 4 ints
        Width of mirrored strips, see :func:`visionloop.data.datasets.mirrored.mirrored_borders`.
    """

    file: str
    sample_id: str
    said: tuple[tuple[str, tuple[float, ...]], ...]
    split: str
    image_hash: ImageHash
    probe: NDArray[Any]
    mirrored: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass(frozen=True)
class Oddity:
    """Something odd about a set.

    Attributes
    ----------
    kind : str
    files : tuple of str
        The files concerned, all of them.
    reason : str
        One sentence for a person.
    """

    kind: str
    files: tuple[str, ...]
    reason: str
