"""Schedules: cron as cron means it, shifts over midnight and over changes of the clock."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from visionloop.data.collection.schedule import ScheduleParams, day_of, is_open, make_trigger

BERLIN = ZoneInfo("Europe/Berlin")


def schedule(**values) -> ScheduleParams:
    return ScheduleParams.model_validate({"time_zone": "Europe/Berlin", **values})


def next_times(trigger, start: datetime, count: int) -> list[datetime]:
    times, last = [], None
    for _ in range(count):
        last = trigger.get_next_fire_time(last, last + timedelta(seconds=1) if last else start)
        times.append(last)
    return times


@pytest.mark.parametrize(
    ("weekdays", "expected"),
    [
        ("1-5", {0, 1, 2, 3, 4}),
        ("0", {6}),
        ("7", {6}),
        ("5-7", {4, 5, 6}),
        ("sat,sun", {5, 6}),
        ("0-6/2", {6, 1, 3, 5}),
        ("fri-mon", {4, 5, 6, 0}),
        ("*", set(range(7))),
    ],
)
def test_weekdays_are_those_of_cron(weekdays, expected):
    trigger = make_trigger(schedule(cron=f"0 6 * * {weekdays}"))
    times = next_times(trigger, datetime(2026, 3, 2, tzinfo=BERLIN), 14)
    assert {moment.weekday() for moment in times} == expected
    assert {(moment.hour, moment.minute) for moment in times} == {(6, 0)}


def test_six_in_the_morning_stays_six_when_the_clocks_change():
    times = next_times(
        make_trigger(schedule(cron="0 6 * * *")), datetime(2026, 3, 28, tzinfo=BERLIN), 3
    )
    assert [moment.astimezone(timezone.utc).hour for moment in times] == [5, 4, 4]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN)


def test_shifts():
    day = schedule(every_s=1, windows=[{"days": ["mon", "tue"], "from": "06:00", "to": "14:00"}])
    assert is_open(day, at("2026-03-02T06:00")) and is_open(day, at("2026-03-03T13:59:59"))
    assert not is_open(day, at("2026-03-02T14:00")) and not is_open(day, at("2026-03-04T07:00"))
    assert is_open(day, datetime(2026, 3, 2, 5, 30, tzinfo=timezone.utc))  # 6:30 in Berlin
    night = schedule(every_s=1, windows=[{"days": ["fri"], "from": "22:00", "to": "06:00"}])
    assert is_open(night, at("2026-03-06T23:00")) and is_open(night, at("2026-03-07T05:59"))
    assert not is_open(night, at("2026-03-06T05:00")) and not is_open(night, at("2026-03-07T22:30"))
    assert is_open(schedule(every_s=1), at("2026-03-07T22:30"))


def test_times_that_yaml_reads_as_numbers():
    window = {"from": 600, "to": 840}  # 10:00 and 14:00 without quotes
    (read,) = schedule(every_s=1, windows=[window]).windows
    assert (read.begins, read.ends) == ("10:00", "14:00")


def test_a_day_is_the_plants_day():
    late = datetime(2026, 7, 1, 22, 30, tzinfo=timezone.utc)
    assert day_of(schedule(every_s=1), late) == "2026-07-02"
    assert day_of(schedule(every_s=1, time_zone="UTC"), late) == "2026-07-01"
