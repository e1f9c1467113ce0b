"""``alarms.json``: how often a package cries wolf, as strict models."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from visionloop.core.config import StrictModel

__all__ = ["AlarmReport", "FootageAlarms", "RuleThreshold", "Verdict"]

Verdict = Literal["pass", "refuse", "not enough data"]


class FootageAlarms(StrictModel):
    """What one rule did on one piece of footage, or on all of them together."""

    name: str
    rule: str
    seconds: float
    frames: int
    frames_fired: int
    alarms: int
    low_per_day: float = Field(description="alarms a camera-day, lower end of the interval")
    high_per_day: float
    verdict: Verdict = Field(description="against the target")
    why: str


class RuleThreshold(StrictModel):
    """The smallest confidence at which a rule keeps the target on the footage."""

    rule: str
    minimum_confidence: float
    is_shown: bool = Field(description="false: the footage is too short to show the target")
    why: str


class AlarmReport(StrictModel):
    """The whole of ``reports/alarms/alarms.json``."""

    format_version: Literal[1] = 1
    package: str
    target_per_day: float
    footage: list[FootageAlarms] = Field(description="each rule on each video, then on all")
    made_day: list[FootageAlarms] = Field(description="each rule on the made day; may be empty")
    thresholds: list[RuleThreshold]
