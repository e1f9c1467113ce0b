"""Heat maps of anomaly packages, as small pictures inside the answer."""

from __future__ import annotations

import base64

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from visionloop.serving.http.pictures import RequestError

__all__ = ["LONGEST_SIDE", "HeatMapAnswer", "describe_map", "read_maps"]

LONGEST_SIDE = 256
"""Pixels of a map: with 64 kB before compression, sixteen pictures stay below 1.5 MB."""

WORDS = {"": False, "true": True, "1": True, "false": False, "0": False}


class HeatMapAnswer(BaseModel):
    """Where a picture is anomalous."""

    png: str = Field(
        description="base64 of a grey PNG over the whole picture that was sent: stretch it to its "
        f"size; black is 0, white is 1. At most {LONGEST_SIDE} pixels a side"
    )
    width: int = Field(description="of the PNG, pixels")
    height: int = Field(description="of the PNG, pixels")
    highest: float = Field(description="largest value of the map, in [0, 1]")


def read_maps(word: str) -> bool:
    """Whether ``?maps=`` asks for heat maps.

    Raises
    ------
    RequestError
        422, if it is neither true nor false.
    """
    asked = WORDS.get(word.strip().lower())
    if asked is None:
        raise RequestError(422, f"maps: '{word[:40]}' is neither true nor false")
    return asked


def describe_map(heatmap: NDArray[np.float32]) -> dict[str, object]:
    """As :class:`HeatMapAnswer`.

    Parameters
    ----------
    heatmap : float32 array (h, w), or (1, h, w), in [0, 1]
    """
    values = np.clip(np.nan_to_num(np.asarray(heatmap, np.float32)), 0, 1)
    values = values.reshape(values.shape[-2:])
    highest = float(values.max(initial=0.0))
    longest = max(values.shape)
    if longest > LONGEST_SIDE:
        height, width = (max(1, round(side * LONGEST_SIDE / longest)) for side in values.shape)
        values = np.asarray(cv2.resize(values, (width, height), interpolation=cv2.INTER_AREA))
    grey = np.rint(values * 255).astype(np.uint8)
    content = cv2.imencode(".png", grey)[1].tobytes()
    return {
        "png": base64.b64encode(content).decode("ascii"),
        "width": grey.shape[1],
        "height": grey.shape[0],
        "highest": round(highest, 6),
    }
