"""Label Studio's results and our entities: percent and pixels, regions and annotations.

A *region* is one entry of a Label Studio result: the class of the whole image, one box, one
polygon or one brush mask. Label Studio measures in percent of the image; we measure in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from visionloop.core.entities import (
    AttributeProbabilities,
    ClassProbabilities,
    Detections,
    Prediction,
)
from visionloop.labeling.shapes import (
    XYXY,
    Ring,
    bounds,
    from_mask,
    from_polygon,
    from_rectangle,
    to_mask,
    to_points,
)

__all__ = [
    "BOX_CONTROL",
    "CLASS_CONTROL",
    "MASK_CONTROL",
    "POLYGON_CONTROL",
    "Region",
    "from_prediction",
    "from_result",
    "read_region",
    "to_result",
]

CLASS_CONTROL = "class"
BOX_CONTROL = "box"
POLYGON_CONTROL = "polygon"
MASK_CONTROL = "mask"
IMAGE_OBJECT = "image"

LABELS = {
    BOX_CONTROL: "rectanglelabels",
    POLYGON_CONTROL: "polygonlabels",
    MASK_CONTROL: "brushlabels",
}
"""Control of a shape to Label Studio's type of its results, under which the class stands."""


@dataclass(frozen=True)
class Region:
    """One statement about an image.

    Attributes
    ----------
    class_name : str
    xyxy : tuple of 4 floats or None
        Corners in pixels; None for the class of the whole image.
    polygon : tuple of rings
        Outline in pixels, of a polygon, a mask or a turned box; empty for a plain box.
    key : str
        Label Studio's id of the region; a person's change of a draft keeps it.
    confidence : float or None
        Of a draft.
    is_mask : bool
        Whether the outline is painted, not drawn as a polygon.
    """

    class_name: str
    xyxy: XYXY | None = None
    key: str = ""
    confidence: float | None = None
    polygon: tuple[Ring, ...] = ()
    is_mask: bool = False


def read_region(content: Mapping[str, Any]) -> Region:
    """A region as JSON keeps its fields: lists where it has tuples."""
    xyxy, polygon = content["xyxy"], content.get("polygon", ())
    return Region(
        **{
            **content,
            "xyxy": None if xyxy is None else tuple(xyxy),
            "polygon": tuple(map(tuple, polygon)),
        }
    )


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
        ambiguous box or attribute is from a confidence of one half (1 where there is
        none). Attributes give no regions: they have no labeling interface.
    """
    answer = prediction.answer
    if isinstance(answer, ClassProbabilities):
        region = Region(classes[answer.class_id], None, "class", answer.confidence)
        return [region], answer.confidence
    if isinstance(answer, AttributeProbabilities):
        return [], float(np.abs(2 * answer.probabilities - 1).min())
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
            control, value = _shape(region, width, height)
            entry |= {"from_name": control, "type": LABELS[control]}
            entry["value"] = value | {LABELS[control]: [region.class_name]}
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
        Shapes are clipped to the image; one without area (a stray click) is left out. A
        turned rectangle gives the upright box around it, and its corners as polygon.
        Problems name what cannot be understood.
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
        try:
            xyxy, polygon = _outline(entry, width, height)
        except ValueError as error:
            problems.append(str(error))
            continue
        if xyxy[2] > xyxy[0] and xyxy[3] > xyxy[1]:
            name = value[LABELS[entry["from_name"]]][0]
            is_mask = entry["from_name"] == MASK_CONTROL
            regions.append(Region(name, xyxy, key, entry.get("score"), polygon, is_mask))
    return regions, problems


def _problem(entry: dict[str, Any], width: int, height: int) -> str:
    value, control = entry.get("value", {}), entry.get("from_name")
    if entry.get("item_index") or value.get("item_index"):
        return "is on a further page: a sample has one"
    if control == CLASS_CONTROL:
        chosen = value.get("choices", [])
        return "" if len(chosen) == 1 else f"{len(chosen)} classes are chosen, one is expected"
    if control not in LABELS:
        return f"unknown control '{control}'"
    size = entry.get("original_width", width), entry.get("original_height", height)
    if size != (width, height):
        seen = f"annotated at {size[0]} x {size[1]}, the sample has {width} x {height} pixels"
        return f"{seen}; its file's EXIF data turn it" if size == (height, width) else seen
    turn = entry.get("image_rotation") or 0
    if turn not in (0, 90, 180, 270):
        return f"annotated on an image turned by {turn} degrees"
    if len(value.get(LABELS[control], [])) != 1:
        return f"a {control} has no class"
    return _shape_problem(control, value, turn)


def _shape_problem(control: str, value: dict[str, Any], turn: int) -> str:
    if control == MASK_CONTROL:
        if turn:
            return "a mask was drawn on a turned image"
        return "" if value.get("format") == "rle" and value.get("rle") else "a mask is empty"
    if control == POLYGON_CONTROL:
        points = value.get("points", [])
        if len(points) < 3:
            return f"a polygon has {len(points)} points"
        numbers = [number for point in points for number in point]
    else:
        numbers = [value.get(name, math.nan) for name in ("x", "y", "width", "height")]
    return "" if all(math.isfinite(number) for number in numbers) else f"a {control} is not finite"


def _outline(entry: dict[str, Any], width: int, height: int) -> tuple[XYXY, tuple[Ring, ...]]:
    value, turn = entry["value"], entry.get("image_rotation") or 0
    if entry["from_name"] == POLYGON_CONTROL:
        ring = from_polygon(value, width, height, turn)
        return bounds([ring]), (ring,)
    if entry["from_name"] == MASK_CONTROL:
        rings = from_mask(value["rle"], width, height)
        return (bounds(rings) if rings else (0.0, 0.0, 0.0, 0.0)), rings
    xyxy, ring = from_rectangle(value, width, height, turn)
    return xyxy, ((ring,) if ring else ())


def _shape(region: Region, width: int, height: int) -> tuple[str, dict[str, Any]]:
    """The control and value that draw a region: several outlines need a mask."""
    if region.is_mask or len(region.polygon) > 1:
        return MASK_CONTROL, {"format": "rle", "rle": to_mask(region.polygon, width, height)}
    if region.polygon:
        points = to_points(region.polygon[0], width, height)
        return POLYGON_CONTROL, {"points": points, "closed": True}
    assert region.xyxy is not None
    return BOX_CONTROL, {**_to_percent(region.xyxy, width, height), "rotation": 0}


def _to_percent(xyxy: XYXY, width: int, height: int) -> dict[str, Any]:
    x1, y1, x2, y2 = (float(value) for value in xyxy)
    return {
        "x": 100 * x1 / width,
        "y": 100 * y1 / height,
        "width": 100 * (x2 - x1) / width,
        "height": 100 * (y2 - y1) / height,
    }


def _four(values: Any) -> XYXY:
    x1, y1, x2, y2 = (float(value) for value in values)
    return x1, y1, x2, y2
