"""When rules count: stretches of the week, in the device's local time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from visionloop.serving.edge_params import ScheduleParams

__all__ = ["is_scheduled"]

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES = 24 * 60


def is_scheduled(stretches: Sequence[ScheduleParams], moment: datetime) -> bool:
    """Whether a moment lies in one of the stretches; always where there are none.

    A stretch whose end is not after its begin goes on into the next day; ``days`` are those
    on which it begins. Wall-clock time counts: in the hour that daylight saving repeats, both.
    """
    if not stretches:
        return True
    today = moment.weekday()
    minute = moment.hour * 60 + moment.minute
    return any(
        _holds(one, today, minute) or _holds(one, (today - 1) % 7, minute + DAY_MINUTES)
        for one in stretches
    )


def _holds(stretch: ScheduleParams, day: int, minute: int) -> bool:
    """Whether a minute, counted from the midnight before ``day``, lies in the stretch that
    begins on that day."""
    if stretch.days and DAYS[day] not in stretch.days:
        return False
    begin, end = _minutes(stretch.begin), _minutes(stretch.end)
    if end <= begin:
        end += DAY_MINUTES
    return begin <= minute < end


def _minutes(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)
