"""CIFAR-10N: 10,000 pictures whose classes three people gave (9 % wrong), seen by the backbone.

Each picture and its mirror image is embedded; the vectors are kept in ``results/`` in parts, so
an interrupted run goes on.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from backbone import open_backbone
from numpy.typing import NDArray
from report import RESULTS

from visionloop.core.progress import track
from visionloop.data.datasets.archive_dataset import open_archive_dataset
from visionloop.serving.images import decode_image

__all__ = ["PeoplesClasses", "load_people"]

PART = 1000
BATCH = 50


@dataclass(frozen=True, eq=False)
class PeoplesClasses:
    """What people said and what is right.

    Attributes
    ----------
    views : list of float32 arrays (N, D)
        Vectors of the pictures, and of their mirror images.
    said, right : int64 arrays (N,)
    """

    views: list[NDArray[np.float32]]
    said: NDArray[np.int64]
    right: NDArray[np.int64]


def load_people() -> PeoplesClasses:
    """Embed what is not embedded yet and read the rest."""
    dataset = open_archive_dataset("cifar10n")
    samples = list(dataset)
    classes = list(dataset.classes)
    folder = RESULTS / "cifar_people"
    folder.mkdir(parents=True, exist_ok=True)
    missing = [
        start for start in range(0, len(samples), PART) if not (folder / f"{start}.npy").is_file()
    ]
    if missing:
        with open_backbone() as predictor:
            for start in track(missing, "embedding thousands of pictures and their mirror images"):
                images = [decode_image(one.content) for one in samples[start : start + PART]]
                both = np.stack([_embed(predictor, images), _embed(predictor, _mirror(images))])
                temporary = folder / f"{start}.tmp.npy"
                np.save(temporary, both.astype(np.float32))
                os.replace(temporary, folder / f"{start}.npy")
    parts = [np.load(folder / f"{start}.npy") for start in range(0, len(samples), PART)]
    views = np.concatenate(parts, axis=1)
    return PeoplesClasses(
        views=list(views),
        said=np.array([classes.index(one.annotations[0].class_name) for one in samples]),
        right=np.array([classes.index(one.attributes["stated_class"]) for one in samples]),
    )


def _embed(predictor: object, images: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    rows = [
        predictor.embed(images[start : start + BATCH])  # type: ignore[attr-defined]
        for start in range(0, len(images), BATCH)
    ]
    return np.concatenate(rows)


def _mirror(images: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    return [np.ascontiguousarray(image[:, ::-1]) for image in images]
