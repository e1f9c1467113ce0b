"""Filters of Label Studio's task lists, as its tabs and its ``query`` parameter take them."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

__all__ = ["NOBODY", "all_of", "any_of", "changed_after", "condition", "earlier", "to_query"]

TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"
"""Label Studio reads and writes no other form: the fraction must be there."""


def condition(column: str, operator: str, kind: str, value: Any) -> dict[str, Any]:
    """One condition on a column of the tasks."""
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": kind, "value": value}


def all_of(*conditions: dict[str, Any]) -> dict[str, Any]:
    """A filter whose conditions all hold."""
    return {"conjunction": "and", "items": list(conditions)}


def any_of(*conditions: dict[str, Any]) -> dict[str, Any]:
    """A filter of which one condition holds."""
    return {"conjunction": "or", "items": list(conditions)}


def to_query(*conditions: dict[str, Any]) -> str:
    """The ``query`` parameter of ``/api/tasks``: all conditions hold."""
    return json.dumps({"filters": all_of(*conditions)}, separators=(",", ":"))


def earlier(moment: str, seconds: float) -> str:
    """A moment of the server's clock, so many seconds before."""
    return (datetime.strptime(moment, TIME_FORMAT) - timedelta(seconds=seconds)).strftime(
        TIME_FORMAT
    )


def changed_after(moment: str) -> list[dict[str, Any]]:
    """Tasks changed after a moment of the server's clock; an empty one gives no condition."""
    return [condition("updated_at", "greater", "Datetime", moment)] if moment else []


NOBODY = (
    condition("total_annotations", "equal", "Number", 0),
    condition("cancelled_annotations", "equal", "Number", 0),
)
"""Tasks that nobody has answered or skipped."""
