"""Strict reading of image files: what is damaged is refused, not guessed.

OpenCV reads half a JPEG as a whole image with a grey bottom and spends gigabytes on a
109 kB PNG of 30,000 x 30,000 pixels, so headers and ends are checked before it decodes.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import DataError

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "ImageHeader",
    "decode_image",
    "read_header",
    "read_image",
]

MAX_PIXELS = 64_000_000
IMAGE_SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
"""Suffixes of the formats that are read."""

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_JPEG_MAGIC = b"\xff\xd8\xff"
_JPEG_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_HINT = "take the image again or remove the file"


@dataclass(frozen=True)
class ImageHeader:
    """What a file says about itself: format ("PNG", "JPEG"), width and height in pixels."""

    format: str
    width: int
    height: int


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read a PNG or JPEG file.

    Returns
    -------
    uint8 array (H, W, 3), BGR
        16-bit images are scaled to 8 bit, grey ones repeated, transparency dropped.

    Raises
    ------
    DataError
        If the file is missing, empty, truncated, damaged, larger than 64 megapixels,
        no image, or of another format than its suffix says.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(str(path), f"cannot be read: {error.strerror}") from None
    return decode_image(content, subject=str(path), suffix=path.suffix)


def decode_image(
    content: bytes, *, subject: str = "image", suffix: str | None = None
) -> NDArray[np.uint8]:
    """Decode the bytes of a PNG or JPEG file; see :func:`read_image`.

    Parameters
    ----------
    content : bytes
    subject : str
        Names the image in errors.
    suffix : str or None
        File name suffix that must fit the content; None does not check it.
    """
    import cv2

    header = read_header(content, subject=subject)
    if suffix is not None and IMAGE_SUFFIXES.get(suffix.lower()) != header.format:
        raise DataError(
            subject, f"is a {header.format} file, not what '{suffix}' says", "rename the file"
        )
    problem = _png_problem(content) if header.format == "PNG" else _jpeg_problem(content)
    if problem:
        raise DataError(subject, problem, _HINT)
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise DataError(subject, f"cannot be decoded: {error.err}", _HINT) from None
    if image is None:
        raise DataError(subject, "cannot be decoded", _HINT)
    return np.asarray(image, np.uint8)


def read_header(content: bytes, *, subject: str = "image") -> ImageHeader:
    """Format and size, read from the first bytes without decoding.

    Raises
    ------
    DataError
        If it is no PNG or JPEG, has no pixels, or has more than 64 megapixels.
    """
    if not content:
        raise DataError(subject, "is empty (0 bytes)", _HINT)
    if content.startswith(_PNG_MAGIC):
        header = _png_header(content)
    elif content.startswith(_JPEG_MAGIC):
        header = _jpeg_header(content)
    else:
        raise DataError(subject, "is neither a PNG nor a JPEG file, whatever its name", _HINT)
    if header is None or header.width < 1 or header.height < 1:
        raise DataError(subject, "has a damaged header or is truncated", _HINT)
    if header.width * header.height > MAX_PIXELS:
        size = f"{header.width} x {header.height}"
        limit = f"{MAX_PIXELS // 1_000_000} megapixels"
        raise DataError(subject, f"has {size} pixels, more than {limit}", "make it smaller")
    return header


def _png_header(content: bytes) -> ImageHeader | None:
    if len(content) < 33 or content[12:16] != b"IHDR":
        return None
    width, height = struct.unpack(">II", content[16:24])
    return ImageHeader("PNG", width, height)


def _png_problem(content: bytes) -> str:
    """Walk the chunks to the end and check each CRC-32 (PNG specification, section 5.3)."""
    place = len(_PNG_MAGIC)
    while place + 12 <= len(content):
        size, kind = struct.unpack(">I4s", content[place : place + 8])
        end = place + 12 + size
        if end > len(content):
            break
        (expected,) = struct.unpack(">I", content[end - 4 : end])
        if zlib.crc32(content[place + 4 : end - 4]) != expected:
            return "is damaged: a checksum does not fit"
        if kind == b"IEND":
            return ""
        place = end
    return "is truncated: the end of the file is missing"


def _jpeg_header(content: bytes) -> ImageHeader | None:
    place = 2
    while place + 9 <= len(content):
        if content[place] != 0xFF:
            return None
        marker = content[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without a length
            place += 2
            continue
        (size,) = struct.unpack(">H", content[place + 2 : place + 4])
        if marker in _JPEG_SIZE_MARKERS:
            height, width = struct.unpack(">HH", content[place + 5 : place + 9])
            return ImageHeader("JPEG", width, height)
        if marker in (0xD9, 0xDA) or size < 2:
            return None
        place += 2 + size
    return None


def _jpeg_problem(content: bytes) -> str:
    """Walk the segments (ITU-T T.81, annex B) until the end-of-image marker."""
    place, end = 2, len(content)
    while place + 2 <= end:
        if content[place] != 0xFF:
            return "is damaged: a segment does not start where it should"
        marker = content[place + 1]
        if marker == 0xD9:
            return ""
        if marker == 0xFF:
            place += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            place += 2
            continue
        if place + 4 > end:
            break
        (size,) = struct.unpack(">H", content[place + 2 : place + 4])
        place += 2 + size
        if marker == 0xDA:
            place = _end_of_scan(content, place)
    return "is truncated: the end of the image is missing"


def _end_of_scan(content: bytes, place: int) -> int:
    """Place of the marker that ends entropy-coded data (FF00 and RSTn belong to the data)."""
    while True:
        place = content.find(b"\xff", place)
        if place < 0 or place + 1 >= len(content):
            return len(content)
        following = content[place + 1]
        if following == 0x00 or 0xD0 <= following <= 0xD7:
            place += 2
        elif following == 0xFF:
            place += 1
        else:
            return place
