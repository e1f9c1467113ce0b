"""Reads just enough of an ONNX file to refuse a dangerous one, without the onnx library.

An ONNX model can name other files ("external data"): `../` paths, symbolic and hard
links turn that into a way of reading what the package does not own. Devices load
models from bytes and refuse every mention of external data. Message and field numbers
are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["find_problems"]

PICKLE_MAGIC = re.compile(rb"\x80[\x02-\x05]")

# Message name -> field number -> message name: the ways that lead to a tensor.
_FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_MAX_DEPTH = 100


def find_problems(content: bytes) -> list[str]:
    """What forbids loading these bytes as a model; empty if nothing does.

    Refused are pickles, archives (``.pt``, ``.pt2``, ``.npz``), empty or cut files and
    ONNX models that keep weights in other files.
    """
    if not content:
        return ["the model is empty"]
    if content[:4] == b"PK\x03\x04":
        return ["the model is a zip archive (.pt, .pt2, .npz): it can run code on load"]
    if PICKLE_MAGIC.match(content):
        return ["the model is a pickle: it can run code on load"]
    try:
        external = [_text(name) for name in _external_tensors(memoryview(content), "model", 0)]
    except _MalformedError:
        return ["the model is not an ONNX file, or it is cut off"]
    if external:
        shown = ", ".join(external[:3])
        return [f"the model keeps weights in other files, which is refused (tensor {shown})"]
    return []


class _MalformedError(ValueError):
    """These bytes are not the protocol buffer they should be."""


def _external_tensors(message: memoryview, kind: str, depth: int) -> Iterator[bytes]:
    if depth > _MAX_DEPTH:
        raise _MalformedError
    if kind == "tensor":
        if any(
            field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value != 0)
            for field, value in _fields(message)
        ):
            yield next((bytes(v) for f, v in _fields(message) if f == 8 and _is_bytes(v)), b"")
        return
    known = _FIELDS[kind]
    has_graph = False
    for field, value in _fields(message):
        if field not in known:
            continue
        if not isinstance(value, memoryview):
            raise _MalformedError
        has_graph = has_graph or (kind == "model" and field == 7)
        yield from _external_tensors(value, known[field], depth + 1)
    if kind == "model" and not has_graph:
        raise _MalformedError


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Fields of a protocol buffer: number and value (numbers as int, the rest as bytes)."""
    place, end = 0, len(message)
    while place < end:
        tag, place = _varint(message, place)
        number, wire_type = tag >> 3, tag & 7
        if number == 0:
            raise _MalformedError
        if wire_type == 0:
            value, place = _varint(message, place)
            yield number, value
            continue
        if wire_type == 2:
            size, place = _varint(message, place)
        elif wire_type in (1, 5):
            size = 8 if wire_type == 1 else 4
        else:
            raise _MalformedError
        if place + size > end:
            raise _MalformedError
        yield number, message[place : place + size]
        place += size


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if place >= len(message) or shift > 63:
            raise _MalformedError
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7


def _is_bytes(value: int | memoryview) -> bool:
    return isinstance(value, memoryview)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")[:80] or "without a name"
