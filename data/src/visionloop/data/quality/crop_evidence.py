"""What the picture itself says about a box, beside the detector's answers.

A detector that learned little is a poor witness. What is inside a box can be judged without it: a
small classifier reads the crop (gradients and a thumbnail) and says which class it looks like,
whether it looks like background, or like an object that the box does not fit. It learns from the
annotations of other images and from errors planted on them, so it needs no weights from elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.data.quality.planted_errors import BOX_KINDS, SpoiltImage

__all__ = ["CropEvidence", "Picture", "describe_crops"]

SIDE = 32
"""Pixels of a crop after scaling."""
AROUND = 1.5
"""Side of a crop by the longer side of its box: an edge is only seen with what is beside it."""
THUMBNAIL = 8
MISTAKABLE = 6
"""Places of each image, from the surest of the detector to the faintest, that teach what is
background although it looks like more."""
MOST_LESSONS = 6000
"""Crops that one reader learns from."""
FLOOR = 1e-3

Picture = Callable[[], NDArray[np.uint8]]
"""Reads one image: uint8 (H, W) grey."""
Rows = NDArray[np.float32]


def describe_crops(picture: NDArray[np.uint8], xyxy: Rows) -> NDArray[np.float16]:
    """Features (N, 390) of what is in and around each box.

    Histograms of oriented gradients (Dalal and Triggs, CVPR 2005), grey levels of a thumbnail,
    and the size of the box.

    Parameters
    ----------
    picture : uint8 array (H, W)
        Grey.
    xyxy : float32 array (N, 4)
        Pixels.
    """
    gradients = cv2.HOGDescriptor((SIDE, SIDE), (16, 16), (8, 8), (8, 8), 9)
    rows = []
    for x1, y1, x2, y2 in xyxy.tolist():
        side = max(x2 - x1, y2 - y1, 1.0) * AROUND
        scale = SIDE / side
        turn = np.array([
            [scale, 0, SIDE / 2 - (x1 + x2) / 2 * scale],
            [0, scale, SIDE / 2 - (y1 + y2) / 2 * scale],
        ])  # fmt: skip
        way = cv2.INTER_AREA if side > SIDE else cv2.INTER_LINEAR
        crop = cv2.warpAffine(picture, turn, (SIDE, SIDE), flags=way, borderMode=cv2.BORDER_REFLECT)
        small = cv2.resize(crop, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
        size = np.log([max(x2 - x1, 1.0), max(y2 - y1, 1.0)])
        edges = np.asarray(gradients.compute(crop)).ravel()
        rows.append(np.concatenate([edges, small.ravel() / 255, size]))
    width = int(gradients.getDescriptorSize()) + THUMBNAIL**2 + 2
    return np.array(rows, np.float16).reshape(-1, width)


@dataclass(frozen=True, eq=False)
class CropEvidence:
    """Reads boxes of every image; without pictures it has no columns.

    Attributes
    ----------
    classes : int
    rows : list of dict
        Of each image, box (its bytes) to features.
    readers : list
        Of each image, a classifier that was fitted to other images, or None.
    """

    classes: int
    rows: list[dict[bytes, NDArray[np.float16]]]
    readers: list[Any]

    @classmethod
    def learn(
        cls,
        pictures: Sequence[Picture] | None,
        boxes: Sequence[Rows],
        unannotated: Sequence[Rows],
        rounds: Sequence[Sequence[SpoiltImage]],
        classes: int,
        fold_of: NDArray[np.int64],
        seed: int,
    ) -> CropEvidence:
        """Describe all boxes and fit one reader for each fold, to the other folds.

        Parameters
        ----------
        pictures : sequence of Picture, or None
            One an image; each is read once.
        boxes : sequence of float32 arrays (N, 4)
            Boxes of each image that will be asked about, beside those of the rounds.
        unannotated : sequence of float32 arrays (M, 4)
            Of these boxes, where the detector sees something and nobody annotated anything.
        rounds : sequence of rounds of planted errors
            Each holds every image.
        classes : int
        fold_of : int64 array
            Of each image.
        seed : int
        """
        if pictures is None:
            return cls(classes, [], [])
        rows = []
        for image, read in enumerate(pictures):
            every = [boxes[image], *(one[image].boxes[0] for one in rounds)]
            xyxy = np.unique(np.concatenate(every).astype(np.float32), axis=0)
            found = describe_crops(read(), xyxy)
            rows.append({_key(box): row for box, row in zip(xyxy, found, strict=True)})
        lessons = [
            _lessons(rows[image], unannotated[image], [one[image] for one in rounds], classes)
            for image in range(len(rows))
        ]
        of_fold = {
            fold: _fit([lessons[n] for n in np.flatnonzero(fold_of != fold)], seed)
            for fold in sorted({int(one) for one in fold_of})
        }
        return cls(classes, rows, [of_fold[int(fold)] for fold in fold_of])

    def read(self, image: int, xyxy: Rows, class_id: NDArray[np.int64]) -> Rows:
        """Columns (N, 6), or (N, 0) without pictures.

        Log probability of the class given, how much likelier it is than the likeliest other
        class, of that other class, of background, of an object that the box does not fit, and
        of background that a detector takes for more.
        """
        if not self.rows:
            return np.zeros((len(xyxy), 0), np.float32)
        if not len(xyxy) or self.readers[image] is None:
            return np.zeros((len(xyxy), 6), np.float32)
        known = self.rows[image]
        found = np.stack([known[_key(box)] for box in xyxy])
        model, told = self.readers[image], np.full((len(xyxy), self.classes + 3), FLOOR)
        told[:, model.classes_] += model.predict_proba(found.astype(np.float32))
        log = np.log(told)
        number = np.arange(len(xyxy))
        own = log[number, class_id]
        rest = log[:, : self.classes].copy()
        rest[number, class_id] = -np.inf
        best = rest.max(axis=1, initial=np.log(FLOOR))
        others = log[:, self.classes :]
        return np.column_stack([own, own - best, best, others]).astype(np.float32)


def _key(box: Rows) -> bytes:
    """The same for 0 and -0."""
    return (np.asarray(box, np.float32) + 0).tobytes()


def _lessons(
    rows: dict[bytes, NDArray[np.float16]],
    unannotated: Rows,
    rounds: Sequence[SpoiltImage],
    classes: int,
) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
    """Crops of an image with what they show.

    A class, background, a box that does not fit, or background that a detector takes for more:
    a few of those, as they are many.
    """
    few = np.linspace(0, len(unannotated) - 1, min(len(unannotated), MISTAKABLE)).astype(int)
    shows: dict[bytes, int] = {_key(box): classes + 2 for box in unannotated[few]}
    for one in rounds:
        for box, class_id, kind in zip(*one.boxes, one.kind, strict=True):
            name = BOX_KINDS[int(kind)]
            if name == "right":
                shows[_key(box)] = int(class_id)
            elif name in ("spurious", "shifted"):
                shows[_key(box)] = classes + (name == "shifted")
    found = [rows[box] for box in shows]
    return np.array(found, np.float16), np.array(list(shows.values()), np.int64)


def _fit(lessons: Sequence[tuple[NDArray[np.float16], NDArray[np.int64]]], seed: int) -> Any:
    """A kernel machine on principal components; None if there is too little to learn from."""
    from sklearn.decomposition import PCA
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    lessons = [one for one in lessons if len(one[1])]
    if not lessons:
        return None
    found = np.concatenate([rows for rows, _ in lessons]).astype(np.float32)
    shows = np.concatenate([shown for _, shown in lessons])
    if len(shows) > MOST_LESSONS:
        chosen = np.random.default_rng(seed).choice(len(shows), MOST_LESSONS, replace=False)
        found, shows = found[chosen], shows[chosen]
    if len(shows) < 100 or len(np.unique(shows)) < 2:
        return None
    return make_pipeline(
        StandardScaler(),
        PCA(60, random_state=seed),
        Nystroem(gamma=1 / 400, n_components=min(400, len(shows)), random_state=seed),
        LogisticRegression(C=10.0, max_iter=300),
    ).fit(found, shows)
