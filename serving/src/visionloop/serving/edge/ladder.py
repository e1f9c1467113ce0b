"""The degradation ladder: under overload, heat or a full disk, what matters least goes first.

For the agent::

    ladder = Ladder(LadderParams(), [ProcessorPressure(), HeatPressure(), DiskPressure(folder)])
    change = ladder.tick(now=monotonic)          # every second or two
    if change is not None: outbox.put(kind="degradation", ...change.as_payload())
    ladder.allows("thumbnails"), ladder.allows("clips")
    ladder.pace                                  # share of the frame rate, 1.0 or 0.5
    ladder.allows("full_size"), ladder.allows("full_package"), ladder.allows("model")
    ladder.level, ladder.reason                  # metric, status page

Down, one rung at a time: pictures beside events · clips · half the frame rate · a smaller input
size · a smaller package · no model, rules on motion alone. Alerts themselves are on no rung: they
go last, when nothing can be written or sent at all.

A cause goes only as deep as that helps against it: a full disk takes pictures and clips and
nothing else. A rung is taken when a pressure has been too high for a while, and given back when
it has been clearly lower for a longer one; a rung that had to be taken again soon is given back
later each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from visionloop.core.config import StrictModel
from visionloop.serving.edge.pressure import Pressure, PressureReader

__all__ = ["RUNGS", "Ladder", "LadderChange", "LadderParams"]

RUNGS = ("thumbnails", "clips", "frame_rate", "full_size", "full_package", "model")
"""What is given up on the way down; level 1 has given up the first."""
DEEPEST = {"disk": 2, "memory": 6, "overload": 6, "heat": 6, "processor": 0}
"""Cause to the deepest level that helps against it."""
LONGEST_PATIENCE = 16


class LadderParams(StrictModel):
    """When the device does less."""

    worse_s: float = Field(default=10.0, gt=0, description="pressure this long: one rung down")
    better_s: float = Field(default=30.0, gt=0, description="relief this long: one rung up")
    better_share: float = Field(
        default=0.85, gt=0, lt=1, description="share of a limit below which it is a relief"
    )
    processor_share: float = Field(
        default=0.97, gt=0, le=1, description="share of busy time that is too much"
    )
    heat_c: float = Field(default=85.0, gt=40, description="degrees Celsius that are too hot")
    free_disk_mb: float = Field(default=500.0, gt=0, description="less free space is too little")
    free_disk_share: float = Field(
        default=0.05, gt=0, lt=1, description="the same by the disk's size; the smaller counts"
    )
    free_memory_share: float = Field(
        default=0.06, gt=0, lt=1, description="less available memory is too little"
    )
    pace: float = Field(default=0.5, gt=0, le=1, description="share of the frame rate on that rung")


@dataclass(frozen=True)
class LadderChange:
    """The level changed.

    Attributes
    ----------
    before, level : int
        0 is everything, 6 is motion rules alone.
    reason : str
    given_up : tuple of str
        Of ``RUNGS``, those that this device has.
    """

    before: int
    level: int
    reason: str
    given_up: tuple[str, ...] = ()

    def as_payload(self) -> dict[str, Any]:
        """For the outbox."""
        return {
            "level": self.level,
            "before": self.before,
            "given_up": list(self.given_up),
            "reason": self.reason,
        }


@dataclass
class _Cause:
    """One cause: how deep it has driven the device, and how it does."""

    level: int = 0
    pressed_since: float | None = None
    relieved_since: float | None = None
    patience: int = 1
    climbed_at: float = field(default=float("-inf"))
    reason: str = ""


class Ladder:
    """Decides what the device gives up; used by one thread.

    Parameters
    ----------
    params : LadderParams
    readers : sequence of PressureReader
        Several may have the same cause: the worst counts.
    missing : sequence of str
        Rungs that this device does not have (no smaller package): they are skipped. May be set
        anew at any time.
    """

    def __init__(
        self,
        params: LadderParams,
        readers: Sequence[PressureReader],
        *,
        missing: Sequence[str] = (),
    ) -> None:
        self._params, self._readers = params, list(readers)
        self.missing = frozenset(missing)
        self._causes: dict[str, _Cause] = {reader.cause: _Cause() for reader in readers}
        self.pressures: dict[str, Pressure] = {}

    @property
    def level(self) -> int:
        """0 to 6."""
        return max((cause.level for cause in self._causes.values()), default=0)

    @property
    def reason(self) -> str:
        """Why the level is what it is; empty at level 0."""
        level = self.level
        reasons = [
            cause.reason for cause in self._causes.values() if level and cause.level == level
        ]
        return "; ".join(reasons)

    @property
    def given_up(self) -> list[str]:
        """Rungs of ``RUNGS`` that are not done now."""
        return [rung for rung in RUNGS if not self.allows(rung)]

    @property
    def pace(self) -> float:
        """Share of the frame rate at which cameras are analysed."""
        return 1.0 if self.allows("frame_rate") else self._params.pace

    def allows(self, rung: str) -> bool:
        """Whether something of ``RUNGS`` is still done."""
        return RUNGS.index(rung) >= self.level or rung in self.missing

    def tick(self, *, now: float) -> LadderChange | None:
        """Read the pressures; ``now`` is the monotonic clock in seconds."""
        before = self.level
        for name, pressure in self._read().items():
            self._judge(name, self._causes[name], pressure, now)
        level = self.level
        if level == before:
            return None
        reason = self.reason or "the pressure has gone"
        return LadderChange(before, level, reason, tuple(self.given_up))

    def _read(self) -> dict[str, Pressure]:
        worst: dict[str, Pressure] = {}
        for reader in self._readers:
            found = reader.read()
            if reader.cause not in worst or found.share > worst[reader.cause].share:
                worst[reader.cause] = found
        self.pressures = worst
        return worst

    def _judge(self, name: str, cause: _Cause, pressure: Pressure, now: float) -> None:
        params = self._params
        if pressure.share >= 1:
            cause.relieved_since = None
            cause.pressed_since = now if cause.pressed_since is None else cause.pressed_since
            if now - cause.pressed_since >= params.worse_s:
                self._go_down(name, cause, pressure, now)
            return
        cause.pressed_since = None
        if pressure.share > params.better_share or not cause.level:
            cause.relieved_since = None
            return
        cause.relieved_since = now if cause.relieved_since is None else cause.relieved_since
        if now - cause.relieved_since >= params.better_s * cause.patience:
            cause.level = self._next(cause.level, -1)
            cause.relieved_since = cause.climbed_at = now

    def _go_down(self, name: str, cause: _Cause, pressure: Pressure, now: float) -> None:
        deepest = DEEPEST.get(name, len(RUNGS))
        wanted = self._next(cause.level, 1)
        cause.pressed_since = now
        cause.reason = pressure.reason
        if wanted > deepest:
            return
        # Taken again soon after it was given back: the device cannot afford it, so wait longer.
        came_back = now - cause.climbed_at < 2 * self._params.better_s * cause.patience
        cause.patience = min(LONGEST_PATIENCE, 2 * cause.patience) if came_back else 1
        cause.level = wanted

    def _next(self, level: int, way: int) -> int:
        """The next level on the way that changes something on this device."""
        level += way
        while 0 < level < len(RUNGS) and RUNGS[level - 1] in self.missing:
            level += way
        return max(0, min(len(RUNGS), level))
