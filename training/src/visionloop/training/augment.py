"""Augmentation of every family: one module around albumentations, and the data stage's conditions.

Boxes and masks follow the picture. What is drawn depends on the seed and a key (epoch, place of
the sample) alone, so that a training that was interrupted sees the same pictures again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from visionloop.data.synthesis.conditions.changed import MIN_LEFT
from visionloop.data.synthesis.conditions.table import (
    apply_condition_to_sample,
    changes_boxes,
    check_condition,
)

if TYPE_CHECKING:
    from visionloop.training.params import AugmentParams

__all__ = ["Augmented", "Augmenter"]

Image = NDArray[np.uint8]

PAD = 114
"""Grey level beside a picture that was turned or shifted."""

STRENGTHS: dict[str, dict[str, float]] = {
    "none": {},
    "light": {},
    "medium": {"light": 0.15, "turn": 8, "scale": 0.08, "shift": 0.04, "blur": 0.1, "noise": 0.1},
    "strong": {"light": 0.3, "turn": 15, "scale": 0.2, "shift": 0.08, "blur": 0.2, "noise": 0.2},
}
"""How far each goes: share of brightness and contrast, degrees, shares of the side, and the
probability of blur and of sensor noise. ``light`` is flips and quarter turns alone."""


@dataclass(frozen=True, eq=False)
class Augmented:
    """A changed picture and what is still to be seen on it.

    Attributes
    ----------
    image : uint8 array (H', W', 3), BGR
    xyxy : float32 array (M, 4)
        Pixels; boxes of which less than a quarter is left are gone.
    class_id : int64 array (M,)
    mask : uint8 array (H', W') or None
    """

    image: Image
    xyxy: NDArray[np.float32]
    class_id: NDArray[np.int64]
    mask: Image | None = None


class Augmenter:
    """Changes pictures as the recipe says.

    Parameters
    ----------
    params : AugmentParams
    seed : int

    Raises
    ------
    ConfigError
        If a condition is unknown.
    """

    def __init__(self, params: AugmentParams, *, seed: int) -> None:
        for name in params.conditions:
            check_condition(name)
        self.params, self.seed = params, seed
        self._pipeline = _compose(params)

    def __call__(
        self,
        image: Image,
        *,
        key: tuple[int, ...],
        xyxy: NDArray[np.float32] | None = None,
        class_id: NDArray[np.int64] | None = None,
        mask: Image | None = None,
    ) -> Augmented:
        """One picture.

        Parameters
        ----------
        image : uint8 array (H, W, 3), BGR
        key : tuple of int
            With the seed it decides everything random, for example (epoch, sample).
        xyxy : float32 array (N, 4) or None
            Boxes in pixels.
        class_id : int64 array (N,) or None
            Of the boxes.
        mask : uint8 array (H, W) or None
        """
        boxes = np.zeros((0, 4), np.float32) if xyxy is None else np.asarray(xyxy, np.float32)
        ids = np.zeros(len(boxes), np.int64) if class_id is None else np.asarray(class_id)
        if self.params.strength == "none":
            return Augmented(image, boxes, ids, mask)
        rng = np.random.default_rng([self.seed, *key])
        done = self._compose_once(image, boxes, ids, mask, int(rng.integers(1 << 31)))
        return self._under_condition(done, rng)

    def _compose_once(
        self,
        image: Image,
        xyxy: NDArray[np.float32],
        class_id: NDArray[np.int64],
        mask: Image | None,
        seed: int,
    ) -> Augmented:
        # Compose would give all steps the same seed: they would then decide alike.
        for number, step in enumerate(self._pipeline.transforms):
            step.set_random_seed(seed + number)
        height, width = image.shape[:2]
        clipped = np.clip(xyxy, 0, [width, height, width, height]).reshape(-1, 4)
        given = np.flatnonzero((clipped[:, 2:] - clipped[:, :2] > 0).all(axis=1))
        values: dict[str, Any] = {"image": image, "bboxes": clipped[given], "rows": given}
        if mask is not None:
            values["mask"] = mask
        found = self._pipeline(**values)
        rows = np.asarray(found["rows"], np.int64).reshape(-1)
        boxes = np.asarray(found["bboxes"], np.float32).reshape(-1, 4)
        return Augmented(np.ascontiguousarray(found["image"]), boxes, class_id[rows],
                         found.get("mask"))  # fmt: skip

    def _under_condition(self, done: Augmented, rng: np.random.Generator) -> Augmented:
        """One of the recipe's conditions, with its probability; a mask allows only those that
        move and hide nothing."""
        names = [
            one for one in self.params.conditions if done.mask is None or not changes_boxes(one)
        ]
        if not names or rng.random() >= self.params.condition_share:
            return done
        name = names[int(rng.integers(len(names)))]
        severity = int(rng.integers(1, self.params.max_severity + 1))
        seed = int(rng.integers(1 << 31))
        changed = apply_condition_to_sample(done.image, done.xyxy, name, severity, seed)
        return Augmented(changed.image, changed.xyxy, done.class_id[changed.kept], done.mask)


def _compose(params: AugmentParams) -> Any:
    import albumentations as A

    amount = STRENGTHS[params.strength]
    steps: list[Any] = []
    if params.flip:
        steps.append(A.HorizontalFlip(p=0.5))
    if params.upside_down:
        steps.append(A.VerticalFlip(p=0.5))
    if params.quarter_turns:
        steps.append(A.RandomRotate90(p=0.75))
    if amount:
        steps += [
            A.Affine(
                rotate=(-amount["turn"], amount["turn"]),
                scale=(1 - amount["scale"], 1 + amount["scale"]),
                translate_percent=(-amount["shift"], amount["shift"]),
                border_mode=0,  # a mirrored border would show objects that have no box
                fill=PAD,
                p=0.7,
            ),
            A.RandomBrightnessContrast(amount["light"], amount["light"], p=0.7),
            A.GaussianBlur(blur_limit=(3, 5), p=amount["blur"]),
            A.GaussNoise(std_range=(0.01, 0.04), p=amount["noise"]),
        ]
    boxes = A.BboxParams(
        format="pascal_voc", label_fields=["rows"], min_visibility=MIN_LEFT, min_width=1,
        min_height=1, clip=True,
    )  # fmt: skip
    return A.Compose(steps, bbox_params=boxes)
