"""What people said about CIFAR-10's pictures (``cifar10-labels.zip``).

File k of a class folder is the k-th picture of that class in the original order, so the
published arrays, which follow the original order, are found again by counting.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Annotation
from visionloop.core.errors import DataError
from visionloop.data.datasets.known import KNOWN
from visionloop.data.formats.archives import open_archive, read_member
from visionloop.data.formats.pictures import Loaded, Picture

__all__ = ["answers_of_many", "noisy_answers"]

NOISES = ("worse", "random1", "random2", "random3")
_CLASSES = KNOWN["cifar10-labels"].classes


def answers_of_many(loaded: Iterator[Loaded], labels: Path) -> Iterator[Loaded]:
    """CIFAR-10H: about 50 people a test picture, as probabilities; ``stated_class`` keeps the
    published class, ``is_verified_error`` says that a panel of five did not confirm it (54
    pictures), ``verified_class`` what most of the panel chose instead, where they agreed."""
    stated = _array(labels, "cl_cifar10_test_set_original_labels.npy").astype(int)
    counts = _array(labels, "c10h_cifar10h-counts.npy").astype(float)
    verified = _verified(labels)
    for picture, index in _indexed(loaded, stated):
        if not isinstance(picture, Picture):
            yield picture
            continue
        shares = counts[index] / counts[index].sum()
        # Where people are split evenly, the published class counts.
        best = stated[index] if shares[stated[index]] == shares.max() else int(shares.argmax())
        rows = tuple((_CLASSES[k], float(shares[k])) for k in range(10) if shares[k] > 0)
        columns = {
            "stated_class": _CLASSES[stated[index]],
            "is_verified_error": index in verified,
            "verified_class": verified.get(index, ""),
            "people": int(counts[index].sum()),
        }
        yield _answered(picture, Annotation("", _CLASSES[best], probabilities=rows), columns)


def noisy_answers(loaded: Iterator[Loaded], labels: Path) -> Iterator[Loaded]:
    """CIFAR-10N: the majority of three people (9 % wrong) is the annotation; ``stated_class``
    is the published class, ``worse``, ``random1``, ``random2``, ``random3`` noisier answers."""
    content = read_member_of(labels, "cifar10n_labels.npz")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        clean, majority = arrays["clean_label"].astype(int), arrays["aggre_label"]
        others = {
            name: arrays["worse_label" if name == "worse" else f"random_label{name[-1]}"]
            for name in NOISES
        }
    for picture, index in _indexed(loaded, clean):
        if not isinstance(picture, Picture):
            yield picture
            continue
        columns = {"stated_class": _CLASSES[clean[index]]}
        columns |= {name: _CLASSES[int(values[index])] for name, values in others.items()}
        yield _answered(picture, Annotation("", _CLASSES[int(majority[index])]), columns)


def read_member_of(labels: Path, name: str) -> bytes:
    """The bytes of a member of an archive that is opened for it alone."""
    archive = open_archive(labels)
    with archive:
        return read_member(archive, name)


def _array(labels: Path, name: str) -> NDArray[Any]:
    array: NDArray[Any] = np.load(io.BytesIO(read_member_of(labels, name)), allow_pickle=False)
    return array


def _verified(labels: Path) -> dict[int, str]:
    """Index of each picture whose stated class fewer than three of five people confirmed, to
    the class that at least three chose instead (empty if they chose both or neither)."""
    rows = json.loads(read_member_of(labels, "cl_cifar10_mturk.json"))
    return {
        int(row["id"]): str(row["our_guessed_label_name"]) * (row["mturk"]["guessed"] >= 3)
        for row in rows
        if row["mturk"]["given"] < 3
    }


def _indexed(loaded: Iterator[Loaded], stated: NDArray[np.int64]) -> Iterator[tuple[Loaded, int]]:
    """Each picture with its index in the original order."""
    by_class = [np.flatnonzero(stated == number) for number in range(len(_CLASSES))]
    for one in loaded:
        if not isinstance(one, Picture):
            yield one, -1
            continue
        place = PurePosixPath(one.file)
        try:
            number, k = _CLASSES.index(place.parent.name), int(place.stem)
            yield one, int(by_class[number][k])
        except (ValueError, IndexError):
            raise DataError(one.file, "is not named <class>/<number> as CIFAR-10's are") from None


def _answered(picture: Picture, annotation: Annotation, columns: dict[str, Any]) -> Picture:
    return replace(picture, annotations=(annotation,), attributes={**picture.attributes, **columns})
