"""JSON from outside: read without trusting its shape."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from visionloop.data.formats.pictures import Fault
from visionloop.data.formats.rows import read_rows_text
from visionloop.data.formats.sources import SourceFiles

__all__ = ["as_numbers", "as_text", "read_json_object"]


def read_json_object(files: SourceFiles, name: str) -> tuple[dict[str, Any], list[Fault]]:
    """The object that a file holds (empty if it holds none), and what is to be said about it."""
    text, faults = read_rows_text(files, name)
    if any(not fault.is_note for fault in faults):
        return {}, faults
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        faults.append(Fault(name, f"line {error.lineno}", f"is not JSON: {error.msg}", "syntax"))
        return {}, faults
    except RecursionError:
        faults.append(Fault(name, "", "is nested too deeply", "syntax"))
        return {}, faults
    if not isinstance(content, dict):
        faults.append(Fault(name, "", "holds no JSON object", "syntax"))
        return {}, faults
    return content, faults


def as_numbers(value: object, count: int | None = None) -> list[float] | None:
    """A list of numbers (NaN and infinity too, for later judgement); None if it is none."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return None
    if any(isinstance(one, bool) or not isinstance(one, int | float) for one in value):
        return None
    if count is not None and len(value) != count:
        return None
    return [float(one) for one in value]


def as_text(value: object) -> str:
    """A text; empty if it is none."""
    return value if isinstance(value, str) else ""
