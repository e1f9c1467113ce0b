"""What a picture's file says about its exposure (EXIF)."""

from __future__ import annotations

import io
from typing import Any

__all__ = ["read_exposure"]

EXIF_FOLDER, EXPOSURE_TIME, ISO = 0x8769, 0x829A, 0x8827


def read_exposure(content: bytes | None) -> dict[str, Any]:
    """Exposure time in seconds and ISO sensitivity, as far as the file names them.

    Parameters
    ----------
    content : bytes or None
        A PNG or JPEG file; None where the picture did not come as a file.

    Returns
    -------
    dict
        ``exposure_s`` (float) and ``iso`` (int), each only if it is there and positive.
    """
    if content is None:
        return {}
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=["PNG", "JPEG"]) as picture:
            tags = picture.getexif().get_ifd(EXIF_FOLDER)
    except Exception:  # Pillow raises many kinds on damaged metadata; the picture itself is fine
        return {}
    found: dict[str, Any] = {}
    for name, tag, kind in (("exposure_s", EXPOSURE_TIME, float), ("iso", ISO, int)):
        value: Any = tags.get(tag)
        value = value[0] if isinstance(value, tuple) and value else value
        try:
            number = kind(value) if value is not None else 0
        except (TypeError, ValueError, ZeroDivisionError, OverflowError):
            continue
        if 0 < number < float("inf"):
            found[name] = number
    return found
