"""What state the lens is in, judged from light, contrast and detail of one picture.

Four numbers cannot tell everything apart: defocus and a smeared lens both lose detail and are
both called dirty; a pale surface without structure is called fogged. Thresholds are parameters
because scenes differ: a plant sets them by pictures of its own.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from visionloop.core.image_statistics import measure_image
from visionloop.data.collection.params import LensParams

__all__ = ["LENS_STATES", "LensState", "judge_lens"]

LensState = Literal["dark", "overexposed", "fogged", "dirty", "clear"]
LENS_STATES: tuple[LensState, ...] = ("dark", "overexposed", "fogged", "dirty", "clear")
JUDGED_WIDTH = 320
"""Pictures are judged at this width, so that one threshold holds for every resolution."""


def judge_lens(image: NDArray[np.uint8], params: LensParams) -> LensState:
    """Judge a picture.

    Parameters
    ----------
    image : uint8 array (H, W, 3) BGR or (H, W)
    params : LensParams

    Returns
    -------
    str
        The first that fits: dark (mean grey level), overexposed (mean grey level), fogged
        (contrast, and the mean grey level that scattered light lifts), dirty (variance of the
        Laplacian over variance of the grey level), clear.
    """
    import cv2

    height, width = image.shape[:2]
    if width > JUDGED_WIDTH:
        size = (JUDGED_WIDTH, max(3, round(height * JUDGED_WIDTH / width)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    seen = measure_image(image)
    if seen.luminance < params.dark_below:
        return "dark"
    if seen.luminance > params.overexposed_above:
        return "overexposed"
    is_pale = seen.luminance > params.fogged_luminance_above
    if is_pale and seen.contrast < params.fogged_contrast_below:
        return "fogged"
    if seen.blur < params.dirty_detail_below * seen.contrast**2:
        return "dirty"
    return "clear"
