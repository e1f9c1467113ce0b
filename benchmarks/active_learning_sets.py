"""Four sets of pictures as frozen features, and a seed's pool and test rows of each.

Features of the default backbone, computed once and kept in ``results/active_learning_<set>.npz``.
CIFAR-10 is read from ``VISIONLOOP_MIRROR``, magnetic tiles too; Fashion-MNIST is Debian's package
``dataset-fashion-mnist``; the solar cells are those of ``ring.py``.

Strategies were tuned on draws that the report does not see: seeds from ``TUNING`` on, for CIFAR-10
the other half of the pictures, pool and test alike. Fashion-MNIST was not looked at for tuning.

    python benchmarks/active_learning_sets.py [--sets cifar10,fashion,elpv,tiles]
"""

from __future__ import annotations

import argparse
import gzip
import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from backbone import embed_files
from numpy.typing import NDArray
from report import RESULTS

from visionloop.core.privacy import set_quiet_environment
from visionloop.core.progress import say_step

__all__ = ["SETS", "TUNING", "Draw", "PictureSet", "draw_folds", "load_set"]

TUNING = 1000
"""Seeds from here on are for choosing strategies and their numbers; the report starts at 0."""

HALF, TEST = 5000, 2000
"""Pictures of CIFAR-10 and Fashion-MNIST in each half, for pools and for the test."""
POOL = 2500
"""Of the half, so many are a seed's pool."""
FOLDS = 3
"""Of the solar cells and tiles, by group."""
FASHION = Path("/usr/share/datasets/fashion-mnist")


@dataclass(frozen=True, eq=False)
class PictureSet:
    """All pictures of a set.

    Attributes
    ----------
    vectors : float32 array (N, D)
    class_ids : int64 array (N,)
    groups : int64 array (N,)
        Pictures of one group (a module's block, a view) never sit on both sides of a split.
    half : int64 array (N,)
        0 may be in the report's pool, 1 in the tuning pool; 2 and 3 the same for the test;
        -1 where the seed draws the groups.
    """

    vectors: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    groups: NDArray[np.int64]
    half: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Draw:
    """Rows of one seed's pool and test."""

    pool: NDArray[np.int64]
    test: NDArray[np.int64]


def load_set(name: str) -> PictureSet:
    """Features and classes of a set; embedded the first time."""
    path = RESULTS / f"active_learning_{name}.npz"
    if not path.is_file():
        say_step(f"{name}: embedding, the first time only")
        RESULTS.mkdir(exist_ok=True)
        made = SETS[name]()
        np.savez(path, **vars(made))
    with np.load(path) as stored:
        return PictureSet(**{key: stored[key] for key in stored.files})


def draw_folds(pictures: PictureSet, seed: int) -> list[Draw]:
    """Pool and test of this seed.

    One draw of ``POOL`` from a half where the set has halves; else ``FOLDS`` of whole
    groups, each tested once, because so few groups make a test of their own too noisy.
    """
    rng = np.random.default_rng(seed)
    is_tuning = seed >= TUNING
    if (pictures.half >= 0).any():
        pool = np.flatnonzero(pictures.half == int(is_tuning))
        test = np.flatnonzero(pictures.half == 2 + int(is_tuning))
        return [Draw(rng.permutation(pool)[:POOL], test)]
    names = rng.permutation(np.unique(pictures.groups))
    fold_of = np.zeros(int(names.max()) + 1, np.int64)
    sizes = np.bincount(pictures.groups, minlength=len(fold_of))[names]
    fold_of[names] = np.minimum(np.cumsum(sizes) * FOLDS // (sizes.sum() + 1), FOLDS - 1)
    folds = fold_of[pictures.groups]
    return [
        Draw(rng.permutation(np.flatnonzero(folds != one)), np.flatnonzero(folds == one))
        for one in range(FOLDS)
    ]


def _halves(
    contents: Sequence[bytes], class_ids: Sequence[int], kinds: NDArray[np.int64]
) -> PictureSet:
    count = len(contents)
    vectors = embed_files(contents)
    return PictureSet(vectors, np.array(class_ids, np.int64), np.arange(count), kinds)


def _choose_halves(
    pool_size: int, test_size: int, halves: int = 2
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the halves' pool and test pictures, and their kinds."""
    rng = np.random.default_rng(0)
    pool = rng.permutation(pool_size)[: halves * HALF]
    test = rng.permutation(test_size)[: halves * TEST]
    kinds = np.concatenate([np.repeat(range(halves), HALF), np.repeat(range(2, 2 + halves), TEST)])
    return np.concatenate([pool, pool_size + test]), kinds.astype(np.int64)


def _cifar10() -> PictureSet:
    mirror = Path(os.environ["VISIONLOOP_MIRROR"])
    names: list[tuple[zipfile.ZipFile, str]] = []
    counts = []
    for file in ("cifar10_train_first1000pc.zip", "cifar10_test.zip"):
        archive = zipfile.ZipFile(mirror / file)
        inside = sorted(one for one in archive.namelist() if one.endswith(".jpg"))
        names += [(archive, one) for one in inside]
        counts.append(len(inside))
    rows, kinds = _choose_halves(*counts)
    classes = sorted({name.split("/")[1] for _, name in names})
    contents = [names[row][0].read(names[row][1]) for row in rows]
    return _halves(contents, [classes.index(names[row][1].split("/")[1]) for row in rows], kinds)


def _fashion() -> PictureSet:
    pictures, class_ids = [], []
    for part in ("train", "t10k"):
        images = gzip.decompress((FASHION / f"{part}-images-idx3-ubyte.gz").read_bytes())
        labels = gzip.decompress((FASHION / f"{part}-labels-idx1-ubyte.gz").read_bytes())
        pictures.append(np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28))
        class_ids.append(np.frombuffer(labels, np.uint8, offset=8).astype(np.int64))
    rows, kinds = _choose_halves(len(pictures[0]), len(pictures[1]), halves=1)
    every, truth = np.concatenate(pictures), np.concatenate(class_ids)
    contents = [cv2.imencode(".png", every[row])[1].tobytes() for row in rows]
    return _halves(contents, truth[rows].tolist(), kinds)


def _elpv() -> PictureSet:
    from ring import load_cells

    cells = load_cells()
    groups = np.unique(cells.blocks, return_inverse=True)[1].astype(np.int64)
    half = np.full(len(groups), -1, np.int64)
    return PictureSet(cells.vectors, cells.is_defective.astype(np.int64), groups, half)


def _tiles() -> PictureSet:
    from splits import view_rows

    from visionloop.data.datasets.archive_dataset import open_archive_dataset

    tiles = list(open_archive_dataset("magnetic-tile"))
    names = [tile.annotations[0].class_name for tile in tiles]
    groups = np.array(view_rows(tiles, names)[0], np.int64)
    class_ids = np.unique(names, return_inverse=True)[1].astype(np.int64)
    vectors = embed_files([tile.content for tile in tiles])
    return PictureSet(vectors, class_ids, groups, np.full(len(tiles), -1, np.int64))


SETS: dict[str, Callable[[], PictureSet]] = {
    "elpv": _elpv,
    "cifar10": _cifar10,
    "fashion": _fashion,
    "tiles": _tiles,
}


def main() -> None:
    """Embed the sets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", default=",".join(SETS))
    options = parser.parse_args()
    set_quiet_environment()
    for name in options.sets.split(","):
        pictures = load_set(name)
        say_step(f"{name}: {pictures.vectors.shape}, classes {np.bincount(pictures.class_ids)}")


if __name__ == "__main__":
    main()
