"""A detector's answer from four mirror images of a picture, fused: tighter boxes than from one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np
from box_detectors import LOWEST_CONFIDENCE
from numpy.typing import NDArray

from visionloop.core.geometry import box_iou
from visionloop.training.precision import half_precision, lay_out

__all__ = ["answer_by_views", "fuse_boxes"]

VIEWS = (None, 1, 0, -1)
"""As it is, mirrored left to right, upside down, both (OpenCV's codes)."""
SAME_IOU = 0.6

Boxes = NDArray[np.float32]


def answer_by_views(
    model: Any, contents: Sequence[bytes], images: Iterable[int], *, pixels: int
) -> dict[str, Any]:
    """Answers on these PNG images down to a confidence of .01, as ``answer_boxes`` gives them."""
    _compute_in_half(model)
    found: dict[str, list[Any]] = {"image": [], "xyxy": [], "class_id": [], "confidence": []}
    for image in images:
        picture = cv2.imdecode(np.frombuffer(contents[image], np.uint8), cv2.IMREAD_COLOR)
        views = [picture if code is None else cv2.flip(picture, code) for code in VIEWS]
        answers = model.predict(
            views, imgsz=pixels, conf=LOWEST_CONFIDENCE, iou=SAME_IOU, agnostic_nms=True,
            device="cpu", verbose=False,
        )  # fmt: skip
        xyxy, class_id, confidence = fuse_boxes(
            [
                _mirror(one.boxes.xyxy.numpy(), code, picture.shape[:2])
                for one, code in zip(answers, VIEWS, strict=True)
            ],
            [one.boxes.cls.numpy().astype(np.int64) for one in answers],
            [one.boxes.conf.numpy() for one in answers],
        )
        found["image"].append(np.full(len(xyxy), image, np.int64))
        for name, values in (("xyxy", xyxy), ("class_id", class_id), ("confidence", confidence)):
            found[name].append(values)
    return {name: np.concatenate(values) for name, values in found.items()}


def fuse_boxes(
    xyxy: Sequence[Boxes], class_id: Sequence[NDArray[np.int64]], confidence: Sequence[Boxes]
) -> tuple[Boxes, NDArray[np.int64], NDArray[np.float32]]:
    """Weighted boxes fusion (Solovyev et al., 2021, arXiv 1910.13302) whatever the class.

    Parameters
    ----------
    xyxy, class_id, confidence : one array (N, 4), (N,), (N,) a view
        Boxes in pixels of the same picture.

    Returns
    -------
    Fused boxes above LOWEST_CONFIDENCE, most confident first. Corners are means weighted by
    confidence; the class is the one with most confidence in sum, whose sum over the number of
    views is the new confidence.
    """
    boxes, classes, weights = (np.concatenate(one) for one in (xyxy, class_id, confidence))
    order = np.argsort(-weights, kind="stable")
    groups: list[list[int]] = []
    means = np.zeros((0, 4), np.float32)
    for number in order.tolist():
        iou = box_iou(boxes[number : number + 1], means)[0]
        best = int(iou.argmax()) if len(iou) else -1
        if best < 0 or iou[best] < SAME_IOU:
            groups.append([number])
            means = np.concatenate([means, boxes[number : number + 1]])
        else:
            groups[best].append(number)
            means[best] = np.average(boxes[groups[best]], axis=0, weights=weights[groups[best]])
    votes = [np.bincount(classes[one], weights[one]) for one in groups]
    chosen = np.array([int(one.argmax()) for one in votes], np.int64)
    sure = np.array([min(1.0, one.max() / len(xyxy)) for one in votes], np.float32)
    ranked = np.argsort(-sure, kind="stable")
    ranked = ranked[sure[ranked] >= LOWEST_CONFIDENCE]
    return means[ranked], chosen[ranked], sure[ranked]


def _mirror(xyxy: Boxes, code: int | None, shape: tuple[int, int]) -> Boxes:
    """Boxes of a mirrored picture, in pixels of the picture itself."""
    x1, y1, x2, y2 = xyxy.T
    height, width = shape
    if code in (1, -1):
        x1, x2 = width - x2, width - x1
    if code in (0, -1):
        y1, y2 = height - y2, height - y1
    return np.stack([x1, y1, x2, y2], axis=1).astype(np.float32)


def _compute_in_half(model: Any) -> None:
    """Features in bfloat16 where the processor has it; corners are computed in full precision."""
    import torch

    half = half_precision("mixed", "cpu")
    if half is None:
        return
    network = lay_out(model.model)
    body, head = network._predict_once, network.model[-1]
    place_boxes = head.forward

    def forward(features: list[Any]) -> Any:
        with torch.autocast("cpu", enabled=False):
            return place_boxes([one.float() for one in features])

    def predict(*arguments: Any, **options: Any) -> Any:
        with torch.autocast("cpu", half):
            return body(*arguments, **options)

    head.forward, network._predict_once = forward, predict
