"""When a camera is looked at: cron times or a period, within shift windows.

Times of day are those of the schedule's time zone, so shifts stay where they are when the
clocks change.
"""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from visionloop.core.config import StrictModel

__all__ = ["ScheduleParams", "WindowParams", "day_of", "is_open", "make_trigger"]

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
CRON_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


class WindowParams(StrictModel):
    """A shift."""

    days: list[Day] = Field(
        default=list(DAYS), min_length=1, description="days on which the shift begins"
    )
    begins: str = Field(alias="from", description="time of day, for example '06:00'")
    ends: str = Field(alias="to", description="time of day; not after 'from' means on the next day")

    @field_validator("begins", "ends", mode="before")
    @classmethod
    def _reads_a_time(cls, value: Any) -> str:
        """YAML reads 14:00 without quotes as 840, base 60."""
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1440:
            value = f"{value // 60:02d}:{value % 60:02d}"
        try:
            time.fromisoformat(str(value))
        except ValueError:
            raise ValueError("must be a time of day like '06:00'") from None
        return str(value)


class ScheduleParams(StrictModel):
    """When a camera is looked at: give either ``cron`` or ``every_s``."""

    cron: str = Field(
        default="", description="five fields: minute, hour, day, month, weekday (0 and 7: Sunday)"
    )
    every_s: float = Field(default=0.0, ge=0, le=86_400, description="seconds between two looks")
    frames: int = Field(
        default=1, ge=1, le=1000, description="frames of one look (folder, file: all that is new)"
    )
    windows: list[WindowParams] = Field(
        default_factory=list, description="shifts outside which nothing is taken; none means always"
    )
    time_zone: str = Field(default="UTC", description="for example Europe/Berlin")

    @model_validator(mode="after")
    def _can_be_followed(self) -> ScheduleParams:
        try:
            zone = ZoneInfo(self.time_zone)
        except (KeyError, OSError, ValueError):
            raise ValueError(f"there is no time zone '{self.time_zone}'") from None
        if bool(self.cron) == bool(self.every_s):
            raise ValueError("give either cron or every_s")
        if self.cron:
            try:
                make_cron_trigger(self.cron, zone)
            except (ValueError, IndexError) as error:
                raise ValueError(f"cron '{self.cron}' cannot be followed: {error}") from None
        return self

    @property
    def zone(self) -> ZoneInfo:
        """The time zone."""
        return ZoneInfo(self.time_zone)


def is_open(schedule: ScheduleParams, moment: datetime) -> bool:
    """Whether frames may be taken at a moment (with time zone)."""
    if not schedule.windows:
        return True
    local = moment.astimezone(schedule.zone)
    today, yesterday = DAYS[local.weekday()], DAYS[(local - timedelta(days=1)).weekday()]
    clock = local.time()
    for window in schedule.windows:
        begin, end = time.fromisoformat(window.begins), time.fromisoformat(window.ends)
        if begin < end:
            if today in window.days and begin <= clock < end:
                return True
        elif (today in window.days and clock >= begin) or (
            yesterday in window.days and clock < end
        ):
            return True
    return False


def day_of(schedule: ScheduleParams, moment: datetime) -> str:
    """The day that a moment counts for, ``2026-03-01``, in the schedule's time zone."""
    return moment.astimezone(schedule.zone).date().isoformat()


def make_trigger(schedule: ScheduleParams) -> Any:
    """The APScheduler trigger of a schedule; windows are looked at when it fires."""
    from apscheduler.triggers.interval import IntervalTrigger  # type: ignore[import-untyped]

    if schedule.cron:
        return make_cron_trigger(schedule.cron, schedule.zone)
    return IntervalTrigger(seconds=schedule.every_s, timezone=schedule.zone)


def make_cron_trigger(expression: str, zone: ZoneInfo) -> Any:
    """A cron trigger whose weekdays are those of cron.

    APScheduler 3 numbers weekdays from Monday, cron from Sunday; so numbers are turned into
    names.

    Raises
    ------
    ValueError
        If it is no cron expression of five fields.
    """
    from apscheduler.triggers.cron import CronTrigger  # type: ignore[import-untyped]

    fields = expression.split()
    if len(fields) != 5:
        raise ValueError(f"it has {len(fields)} fields, not 5")
    minute, hour, day, month, weekday = fields
    return CronTrigger(
        minute=minute,
        hour=hour,
        day=day,
        month=month,
        day_of_week=_name_weekdays(weekday),
        timezone=zone,
    )


def _name_weekdays(field: str) -> str:
    """``1-5`` becomes ``mon,tue,wed,thu,fri``; names and ``*`` stay."""
    if field == "*":
        return field
    named: list[str] = []
    for part in field.lower().split(","):
        span, _, step = part.partition("/")
        low, _, high = ("0-6" if span == "*" else span).partition("-")
        first, last = _weekday(low), _weekday(high or ("6" if step else low))
        last += 7 if last < first else 0
        named += [CRON_DAYS[number % 7] for number in range(first, last + 1, int(step or 1))]
    return ",".join(dict.fromkeys(named))


def _weekday(text: str) -> int:
    number = CRON_DAYS.index(text[:3]) if text[:3] in CRON_DAYS else int(text)
    if not 0 <= number <= 7:
        raise ValueError(f"weekday {number} is not between 0 and 7")
    return number
