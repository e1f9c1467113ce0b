"""Label Studio's results and our entities: percent and pixels, regions and annotations.

A *region* is one entry of a Label Studio result: the class of the whole image or one
box. Label Studio measures boxes in percent of the image; we measure in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from visionloop.core.entities import ClassProbabilities, Detections, Prediction
from visionloop.core.geometry import match_boxes

__all__ = [
    "BOX_CONTROL",
    "CLASS_CONTROL",
    "Region",
    "compare",
    "from_prediction",
    "from_result",
    "to_result",
]

CLASS_CONTROL = "class"
BOX_CONTROL = "box"
IMAGE_OBJECT = "image"

SAME_PIXELS = 0.5
"""Corners that moved less than half a pixel did not move."""

XYXY = tuple[float, float, float, float]


@dataclass(frozen=True)
class Region:
    """One statement about an image.

    Attributes
    ----------
    class_name : str
    xyxy : tuple of 4 floats or None
        Corners in pixels; None for the class of the whole image.
    key : str
        Label Studio's id of the region; a person's change of a draft keeps it.
    confidence : float or None
        Of a draft.
    """

    class_name: str
    xyxy: XYXY | None = None
    key: str = ""
    confidence: float | None = None


def from_prediction(
    prediction: Prediction, classes: list[str], *, minimum_confidence: float
) -> tuple[list[Region], float]:
    """A model's answer as regions of a draft, and how certain the model is.

    Parameters
    ----------
    prediction : Prediction
        Boxes may go below ``minimum_confidence``: these only count for the certainty.
    classes : list of str
        The package's classes.
    minimum_confidence : float
        Smallest confidence of a box that is shown to people.

    Returns
    -------
    regions, certainty
        Certainty in [0, 1]: probability of the class given, or how far the most
        ambiguous box is from a confidence of one half (1 where there is none).
    """
    answer = prediction.answer
    if isinstance(answer, ClassProbabilities):
        region = Region(classes[answer.class_id], None, "class", answer.confidence)
        return [region], answer.confidence
    certainty = float(np.abs(2 * answer.confidence - 1).min()) if len(answer) else 1.0
    shown = answer[answer.confidence >= minimum_confidence]
    return _box_regions(shown, classes), certainty


def _box_regions(boxes: Detections, classes: list[str]) -> list[Region]:
    return [
        Region(
            classes[int(boxes.class_id[number])],
            _four(boxes.xyxy[number]),
            f"box{number}",
            float(boxes.confidence[number]),
        )
        for number in range(len(boxes))
    ]


def to_result(
    regions: Iterable[Region], width: int, height: int, *, origins: dict[str, str] | None = None
) -> list[dict[str, Any]]:
    """Regions as a Label Studio result.

    Parameters
    ----------
    regions : iterable of Region
    width, height : int
        Pixels of the image.
    origins : dict or None
        Region key to Label Studio's ``origin`` ("prediction", "prediction-changed",
        "manual"), for annotations.
    """
    result = []
    for region in regions:
        entry: dict[str, Any] = {
            "id": region.key,
            "to_name": IMAGE_OBJECT,
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
        }
        if region.xyxy is None:
            entry |= {"from_name": CLASS_CONTROL, "type": "choices"}
            entry["value"] = {"choices": [region.class_name]}
        else:
            entry |= {"from_name": BOX_CONTROL, "type": "rectanglelabels"}
            entry["value"] = _to_percent(region.xyxy, width, height)
            entry["value"] |= {"rotation": 0, "rectanglelabels": [region.class_name]}
        if region.confidence is not None:
            entry["score"] = region.confidence
        if origins is not None:
            entry["origin"] = origins.get(region.key, "manual")
        result.append(entry)
    return result


def from_result(
    result: list[dict[str, Any]], width: int, height: int
) -> tuple[list[Region], list[str]]:
    """Read a Label Studio result.

    Parameters
    ----------
    result : list of dict
    width, height : int
        Pixels of the sample as it was imported.

    Returns
    -------
    regions, problems
        Boxes are clipped to the image; a box without area (a stray click) is left
        out. Problems name what cannot be understood.
    """
    regions: list[Region] = []
    problems: list[str] = []
    for entry in result:
        if entry.get("type") == "relation":
            continue
        problem = _problem(entry, width, height)
        if problem:
            problems.append(problem)
            continue
        value, key = entry["value"], str(entry.get("id", ""))
        if entry["from_name"] == CLASS_CONTROL:
            regions.append(Region(value["choices"][0], None, key, entry.get("score")))
            continue
        xyxy = _to_pixels(value, width, height)
        if xyxy[2] > xyxy[0] and xyxy[3] > xyxy[1]:
            regions.append(Region(value["rectanglelabels"][0], xyxy, key, entry.get("score")))
    return regions, problems


def compare(drafts: list[Region], answers: list[Region]) -> tuple[list[str], int]:
    """What a person did with the regions of a draft.

    Regions belong together by Label Studio's id, else by their overlap (IoU >= 0.5).

    Parameters
    ----------
    drafts, answers : list of Region

    Returns
    -------
    actions, deleted
        One action for each answer ("accepted", "adjusted", "relabelled", "added"), and
        how many regions of the draft are gone.
    """
    partners = _pair(drafts, answers)
    actions = [
        "added" if partner is None else _action(drafts[partner], answer)
        for partner, answer in zip(partners, answers, strict=True)
    ]
    return actions, len(drafts) - sum(partner is not None for partner in partners)


def _pair(drafts: list[Region], answers: list[Region]) -> list[int | None]:
    """For each answer the draft it came from, or None."""
    by_key = {region.key: number for number, region in enumerate(drafts) if region.key}
    partners: list[int | None] = []
    for answer in answers:
        if answer.xyxy is None:
            whole = (number for number, draft in enumerate(drafts) if draft.xyxy is None)
            partners.append(next(whole, None))
        else:
            partners.append(by_key.pop(answer.key, None))
    free = [n for n, draft in enumerate(drafts) if draft.xyxy is not None and n not in partners]
    open_ = [n for n, answer in enumerate(answers) if answer.xyxy and partners[n] is None]
    boxes = [np.array([rows[n].xyxy for n in ids], np.float32).reshape(-1, 4)
             for rows, ids in ((drafts, free), (answers, open_))]  # fmt: skip
    for draft, answer_number, _ in match_boxes(boxes[0], boxes[1], min_iou=0.5):
        partners[open_[answer_number]] = free[draft]
    return partners


def _action(draft: Region, answer: Region) -> str:
    if draft.class_name != answer.class_name:
        return "relabelled"
    if draft.xyxy is None or answer.xyxy is None:
        return "accepted"
    moved = max(abs(a - b) for a, b in zip(draft.xyxy, answer.xyxy, strict=True))
    return "accepted" if moved <= SAME_PIXELS else "adjusted"


def _problem(entry: dict[str, Any], width: int, height: int) -> str:
    value, control = entry.get("value", {}), entry.get("from_name")
    if control == CLASS_CONTROL:
        chosen = value.get("choices", [])
        return "" if len(chosen) == 1 else f"{len(chosen)} classes are chosen, one is expected"
    if control != BOX_CONTROL:
        return f"unknown control '{control}'"
    size = entry.get("original_width", width), entry.get("original_height", height)
    if size != (width, height):
        return f"annotated at {size[0]} x {size[1]}, the sample has {width} x {height} pixels"
    if len(value.get("rectanglelabels", [])) != 1:
        return "a box has no class"
    numbers = [value.get(name, math.nan) for name in ("x", "y", "width", "height")]
    return "" if all(math.isfinite(number) for number in numbers) else "a box is not finite"


def _to_percent(xyxy: XYXY, width: int, height: int) -> dict[str, Any]:
    x1, y1, x2, y2 = (float(value) for value in xyxy)
    return {
        "x": 100 * x1 / width,
        "y": 100 * y1 / height,
        "width": 100 * (x2 - x1) / width,
        "height": 100 * (y2 - y1) / height,
    }


def _to_pixels(value: dict[str, Any], width: int, height: int) -> XYXY:
    """Corners in pixels inside the image; a rotated box gives the upright box around it."""
    x, y = value["x"] * width / 100, value["y"] * height / 100
    w, h = value["width"] * width / 100, value["height"] * height / 100
    angle = math.radians(value.get("rotation") or 0)
    # Label Studio turns a rectangle clockwise about its top left corner.
    xs = [x + a * w * math.cos(angle) - b * h * math.sin(angle) for a in (0, 1) for b in (0, 1)]
    ys = [y + a * w * math.sin(angle) + b * h * math.cos(angle) for a in (0, 1) for b in (0, 1)]
    return (
        min(max(min(xs), 0.0), float(width)),
        min(max(min(ys), 0.0), float(height)),
        min(max(max(xs), 0.0), float(width)),
        min(max(max(ys), 0.0), float(height)),
    )


def _four(values: Any) -> XYXY:
    x1, y1, x2, y2 = (float(value) for value in values)
    return x1, y1, x2, y2
