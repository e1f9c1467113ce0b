"""An input of the cameras' own shape: a letterboxed picture of 16:9 is one third grey bars."""

from __future__ import annotations

from visionloop.serving.manifest import ImageInput

__all__ = ["STEP", "fit_input", "read_aspect"]

STEP = 32
"""Networks halve their input up to five times."""


def fit_input(spec: ImageInput, width: int, height: int) -> tuple[int, int] | None:
    """The smallest input in which a picture is as large as in the package's own.

    Pixels that show nothing are left out: 640 x 640 becomes 640 x 384 for a picture of
    1920 x 1080, at the same scale. A picture of another shape is letterboxed into it as into any
    input, smaller than before.

    Parameters
    ----------
    spec : ImageInput
        The package's own input.
    width, height : int
        Of the picture in pixels, or its proportions.

    Returns
    -------
    (int, int) or None
        Width and height in multiples of 32 pixels; None where nothing would be saved, or where
        pictures are stretched over the input anyway.
    """
    if spec.resize != "letterbox":
        return None
    scale = min(spec.width / width, spec.height / height)
    inside = (round(width * scale), round(height * scale))
    fitted = tuple(
        min(side, max(STEP, -(-used // STEP) * STEP))
        for side, used in zip((spec.width, spec.height), inside, strict=True)
    )
    return None if fitted == (spec.width, spec.height) else (fitted[0], fitted[1])


def read_aspect(text: str) -> tuple[int, int]:
    """Width and height of an aspect: ``16:9`` is (16, 9)."""
    width, height = text.split(":")
    return int(width), int(height)
