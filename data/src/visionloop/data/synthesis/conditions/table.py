"""The table of conditions, and the two functions that put pictures under them.

Every condition takes an image, a severity of 1 (mild) to 5 (as bad as it gets) and a
generator, and gives an image of the same shape and dtype. The same seed gives the same
pixels. Most conditions move nothing; those that do, or that hide things, say so, and
:func:`apply_condition_to_sample` keeps the boxes true.
"""

from __future__ import annotations

import zlib
from typing import cast

import numpy as np
from numpy.typing import NDArray

from visionloop.core.plugins import resolve
from visionloop.data.synthesis.conditions.changed import (
    Changed,
    ConditionedSample,
    Image,
    carry_boxes,
)

__all__ = [
    "CAUSES",
    "CONDITIONS",
    "ENGINE",
    "apply_condition",
    "apply_condition_to_sample",
    "changes_boxes",
    "check_condition",
]

_HERE = "visionloop.data.synthesis.conditions"

CAUSES = {
    "light": {
        "darkness": f"{_HERE}.light:darken",
        "overexposure": f"{_HERE}.light:overexpose",
        "glare": f"{_HERE}.light:add_glare",
        "flicker": f"{_HERE}.light:add_flicker",
        "colour_cast": f"{_HERE}.light:cast_colour",
    },
    "motion": {
        "blur": f"{_HERE}.motion:blur_by_motion",
        "vibration": f"{_HERE}.motion:blur_by_vibration",
        "camera_shift": f"{_HERE}.motion:shift_camera",
        "tilt": f"{_HERE}.motion:tilt_camera",
    },
    "optics": {
        "defocus": f"{_HERE}.optics:blur_by_defocus",
        "chromatic_aberration": f"{_HERE}.optics:split_colours",
    },
    "glass": {
        "fog": f"{_HERE}.glass:add_fog",
        "droplets": f"{_HERE}.glass:add_droplets",
        "dirt": f"{_HERE}.glass:add_dirt",
        "scratched_glass": f"{_HERE}.glass:scratch_glass",
        "occlusion": f"{_HERE}.occlusion:occlude",
        "occlusion_objects": f"{_HERE}.occlusion:occlude_by_objects",
    },
    "sensor": {
        "noise": f"{_HERE}.sensor:add_sensor_noise",
        "row_noise": f"{_HERE}.sensor:add_row_noise",
        "dead_pixels": f"{_HERE}.sensor:kill_pixels",
    },
    "link": {
        "compression": f"{_HERE}.link:compress",
        "low_resolution": f"{_HERE}.link:lower_resolution",
        "lost_packets": f"{_HERE}.link:lose_packets",
    },
    "common": {
        name: f"{_HERE}.common:{function}"
        for name, function in {
            "gaussian_noise": "add_gaussian_noise",
            "shot_noise": "add_shot_noise",
            "impulse_noise": "add_impulse_noise",
            "speckle_noise": "add_speckle_noise",
            "gaussian_blur": "blur_by_gaussian",
            "defocus_blur": "blur_by_disk",
            "motion_blur": "blur_along_line",
            "zoom_blur": "blur_by_zoom",
            "brightness": "brighten",
            "contrast": "lower_contrast",
            "jpeg_compression": "compress_jpeg",
            "pixelate": "pixelate",
        }.items()
    },
}
"""Cause to its conditions. ``common`` are those of ImageNet-C with their published numbers
(Hendrycks and Dietterich, 2019), for figures that compare with other people's."""

CONDITIONS = {name: path for rows in CAUSES.values() for name, path in rows.items()}
"""Name to function ``(image, severity, generator) -> image or Changed``."""

ENGINE = 2
"""Counts up whenever the pixels of a condition change, so that caches can tell."""

_BOXES_CHANGE = frozenset({"camera_shift", "tilt", "occlusion", "occlusion_objects"})


JOIN = "+"
"""Between the names of conditions that come together: ``darkness+occlusion``."""


def check_condition(name: str) -> None:
    """Refuse a name that is neither a condition nor several of them joined by ``+``.

    Raises
    ------
    ConfigError
        Naming the nearest known one.
    """
    for part in name.split(JOIN):
        resolve(CONDITIONS, part, kind="condition")


def changes_boxes(name: str) -> bool:
    """Whether a condition (or one of those joined) moves things or may hide them whole."""
    return not _BOXES_CHANGE.isdisjoint(name.split(JOIN))


def apply_condition(image: Image, name: str, severity: int, seed: int) -> Image:
    """Put an image under a condition.

    Parameters
    ----------
    image : uint8 array (H, W, 3) BGR or (H, W)
    name : str
        A row of ``CONDITIONS``, or several joined by ``+``: the second acts on what the
        first has left, as a dark hall does on what stands before the lens.
    severity : int
        1 (mild) to 5 (as bad as it gets).
    seed : int
        With the name it decides everything random: where a drop or a patch lies does not
        depend on the severity, so that severities can be compared.

    Returns
    -------
    uint8 array of the same shape

    Raises
    ------
    ConfigError
        Unknown name.
    ValueError
        Severity outside 1..5, or an image that is not uint8 of that shape.
    """
    for part in name.split(JOIN):
        image = _change(image, part, severity, seed).image
    return image


def apply_condition_to_sample(
    image: Image, xyxy: NDArray[np.float32], name: str, severity: int, seed: int
) -> ConditionedSample:
    """Put an image and its boxes under a condition; parameters as in :func:`apply_condition`.

    Parameters
    ----------
    xyxy : float32 array (N, 4)
        Boxes in pixels.

    Returns
    -------
    ConditionedSample
        The same pixels as :func:`apply_condition` gives, the boxes that are still to be seen
        where they are now, and which of the given ones these are.
    """
    boxes: NDArray[np.float32] = np.asarray(xyxy, np.float32).reshape(-1, 4)
    kept = np.ones(len(boxes), bool)
    for part in name.split(JOIN):
        changed = _change(image, part, severity, seed)
        image = changed.image
        boxes, still = carry_boxes(changed, boxes)
        kept[kept] = still
    return ConditionedSample(image, boxes, kept)


def _change(image: Image, name: str, severity: int, seed: int) -> Changed:
    if severity not in (1, 2, 3, 4, 5):
        raise ValueError(f"severity must be 1 to 5, not {severity!r}")
    if image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise ValueError(
            f"image must be uint8 (H, W, 3) or (H, W), not {image.dtype} {image.shape}"
        )
    function = resolve(CONDITIONS, name, kind="condition")
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    done = function(image, severity, generator)
    return done if isinstance(done, Changed) else Changed(cast(Image, done))
