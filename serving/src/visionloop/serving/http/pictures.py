"""From the body of a request to the pictures in it: JSON, multipart, or the file itself."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import Field, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from visionloop.core.config import StrictModel
from visionloop.core.errors import DataError
from visionloop.serving.http.jobs import Picture
from visionloop.serving.images import read_header

__all__ = ["Asked", "AskedPicture", "PictureLimits", "PredictRequest", "RequestError", "read_asked"]

NAME_LENGTH = 200
FIELD = "minimum_confidence"
NOT_PICTURES = 8
"""Most parts of a form that are no pictures."""


class AskedPicture(StrictModel):
    """One picture inside JSON."""

    name: str = Field(
        default="", max_length=NAME_LENGTH, description="comes back with the answer; anything"
    )
    content: str = Field(min_length=1, description="a PNG or JPEG file, base64")


class PredictRequest(StrictModel):
    """The JSON form of a request."""

    images: list[AskedPicture] = Field(min_length=1, description="answered in this order")
    minimum_confidence: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="smallest confidence of a box, for all classes; null takes the thresholds "
        "of the package",
    )


class RequestError(Exception):
    """A request that cannot be answered as it is.

    Attributes
    ----------
    status : int
        400, 413, 415 or 422.
    problems : list of str
        All of them at once.
    """

    def __init__(self, status: int, problems: str | list[str]) -> None:
        self.status = status
        self.problems = [problems] if isinstance(problems, str) else problems
        super().__init__("; ".join(self.problems))


@dataclass(frozen=True)
class PictureLimits:
    """How many pictures a request may hold, and pixels of all of them together."""

    pictures: int
    pixels: int


@dataclass(frozen=True)
class Asked:
    """What was asked: pictures whose headers were checked, not decoded yet."""

    pictures: list[Picture]
    minimum_confidence: float | None = None


def read_asked(body: bytes, content_type: str, limits: PictureLimits) -> Asked:
    """Read a body by its content type, and check the pictures without decoding them.

    Raises
    ------
    RequestError
        If it is malformed, empty, of another type, or beyond a limit.
    """
    kind = content_type.partition(";")[0].strip().lower()
    reader = READERS.get(kind)
    if reader is None:
        known = ", ".join(READERS)
        raise RequestError(415, f"Content-Type '{kind[:80]}' is none of {known}")
    asked = reader(body, content_type, limits)
    if not asked.pictures:
        raise RequestError(422, "there is no picture in the request")
    if len(asked.pictures) > limits.pictures:
        raise RequestError(413, f"more than {limits.pictures} pictures in one request")
    _check_headers(asked.pictures, limits)
    return asked


def _check_headers(pictures: list[Picture], limits: PictureLimits) -> None:
    problems, pixels = [], 0
    for picture in pictures:
        try:
            header = read_header(picture.content, subject=picture.name)
            pixels += header.width * header.height
        except DataError as error:
            problems += [f"{error.subject}: {problem}" for problem in error.problems]
    if problems:
        raise RequestError(422, problems)
    if pixels > limits.pixels:
        text = f"{pixels / 1e6:.1f} megapixels in one request, more than {limits.pixels / 1e6:g}"
        raise RequestError(413, text)


def _read_json(body: bytes, _: str, limits: PictureLimits) -> Asked:
    try:
        asked = PredictRequest.model_validate_json(body)
    except ValidationError as error:
        raise RequestError(422, [_say(detail) for detail in error.errors()[:20]]) from None
    if len(asked.images) > limits.pictures:
        raise RequestError(413, f"more than {limits.pictures} pictures in one request")
    pictures, problems = [], []
    for number, image in enumerate(asked.images):
        try:
            content = base64.b64decode(image.content, validate=True)
            pictures.append(Picture(image.name or f"images.{number}", content))
        except (binascii.Error, ValueError):
            problems.append(f"images.{number}.content: is not base64")
    if problems:
        raise RequestError(422, problems)
    return Asked(pictures, asked.minimum_confidence)


def _say(detail: Any) -> str:
    """Place and message; never the value, which may be megabytes."""
    place = ".".join(str(part) for part in detail["loc"]) or "body"
    return f"{place}: {detail['msg'][:300]}"


def _read_file(body: bytes, _: str, limits: PictureLimits) -> Asked:
    return Asked([Picture("image", body)] if body else [])


def _read_multipart(body: bytes, content_type: str, limits: PictureLimits) -> Asked:
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise RequestError(400, "Content-Type multipart/form-data names no boundary")
    form = _Form(limits.pictures)
    try:
        parser = MultipartParser(boundary, form.callbacks(), max_size=len(body) or 1)
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise RequestError(400, f"the form is damaged: {error}") from None
    if not form.has_ended:
        raise RequestError(400, "the form is truncated: its closing boundary is missing")
    return Asked(form.pictures, form.minimum_confidence)


class _Form:
    """Collects the parts of a form: files are pictures, one field is known."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._parts = 0
        self._headers: dict[bytes, bytes] = {}
        self._name = self._value = self._content = b""
        self._pieces: list[bytes] = []
        self.pictures: list[Picture] = []
        self.minimum_confidence: float | None = None
        self.has_ended = False

    def callbacks(self) -> Any:
        """What the parser calls."""
        calls: dict[str, Callable[..., None]] = {
            "on_part_begin": self._begin,
            "on_header_field": self._add_name,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_part_data": self._add_data,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }
        return calls

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > self._most + NOT_PICTURES:
            raise RequestError(413, f"more than {self._most} pictures in one request")
        self._headers, self._pieces = {}, []

    def _add_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        self._pieces.append(data[start:end])

    def _end_part(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        content = b"".join(self._pieces)
        self._pieces = []
        if b"filename" in options:
            name = options[b"filename"].decode(errors="replace")[:NAME_LENGTH]
            self.pictures.append(Picture(name or f"images.{len(self.pictures)}", content))
            return
        field = options.get(b"name", b"").decode(errors="replace")
        if field != FIELD:
            raise RequestError(
                422, f"the field '{field[:80]}' is unknown: files, and '{FIELD}', are known"
            )
        self.minimum_confidence = _read_confidence(content)

    def _end(self) -> None:
        self.has_ended = True


def _read_confidence(content: bytes) -> float | None:
    if not content.strip():
        return None
    try:
        value = float(content[:40])
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise RequestError(422, f"{FIELD}: must be a number from 0 to 1")
    return value


READERS: dict[str, Callable[[bytes, str, PictureLimits], Asked]] = {
    "application/json": _read_json,
    "multipart/form-data": _read_multipart,
    "image/jpeg": _read_file,
    "image/png": _read_file,
}
"""Content type to the function that reads it."""
