"""Good and bad camera-minutes: the promise of uptime, counted on the device.

For the agent::

    minutes = CameraMinutes(folder / "minutes.json")
    minutes.tick({"gate-3": Sign(age_s=0.4, cause="")}, now=monotonic)   # once a second
    minutes.counts["gate-3"]                                             # MinuteCounts
    minutes.close()

A second is good if the camera's last processed frame is at most two seconds old and nothing is
wrong with its picture. A minute is good if 19 of 20 of its seconds were. The cause of a bad minute
is the commonest cause of its bad seconds. The time in which the agent did not run is bad, too
(cause ``agent``): a kill and a start make one bad minute. Counts are kept over restarts.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visionloop.core.errors import DataError
from visionloop.core.files import read_json, write_json
from visionloop.serving.edge.delivery.event_ids import is_clock_ok, read_boot_id
from visionloop.serving.edge.device_state import MinuteCounts

__all__ = ["GOOD_AGE_S", "CameraMinutes", "Sign"]

GOOD_AGE_S = 2.0
GOOD_SHARE = 0.95
MINUTE_S = 60.0
LONGEST_GAP_S = 31 * 86_400.0
"""A longer outage than a month is a device that was in a cupboard, or a clock that lies."""


@dataclass(frozen=True)
class Sign:
    """How a camera does in this second.

    Attributes
    ----------
    age_s : float or None
        Of its last processed frame; None before the first.
    cause : str
        What is wrong: a health condition, ``model`` (it failed on the newest frame),
        ``overload`` (frames come and are not processed); empty where nothing is.
    """

    age_s: float | None
    cause: str = ""


@dataclass
class _Minute:
    good: int = 0
    bad: Counter[str] = field(default_factory=Counter)


class CameraMinutes:
    """Counts; used by one thread.

    Parameters
    ----------
    path : Path or None
        Where the counts are kept; None keeps them in memory.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.counts: dict[str, MinuteCounts] = {}
        self._minutes: dict[str, _Minute] = {}
        self._began: float | None = None
        self._gap_s, self._loaded = 0.0, time.monotonic()
        if path is not None and path.exists():
            self._load(path)

    def tick(self, signs: Mapping[str, Sign], *, now: float) -> None:
        """Take in a second. ``now`` is the monotonic clock."""
        if self._began is None:
            self._began = now
            self._charge_gap(signs)
            self._save()  # a kill within the first minute is a gap, too
        for name, sign in signs.items():
            minute = self._minutes.setdefault(name, _Minute())
            cause = sign.cause
            if not cause and (sign.age_s is None or sign.age_s > GOOD_AGE_S):
                cause = "starting" if sign.age_s is None else "stale"
            if cause:
                minute.bad[cause] += 1
            else:
                minute.good += 1
        if now - self._began >= MINUTE_S:
            self._close_minute()
            self._began += MINUTE_S if now - self._began < 2 * MINUTE_S else now - self._began

    def close(self) -> None:
        """Write the counts; the minute that has begun is not counted."""
        self._save()

    def _close_minute(self) -> None:
        for name, minute in self._minutes.items():
            old = self.counts.get(name, MinuteCounts())
            seconds = minute.good + sum(minute.bad.values())
            if minute.good >= GOOD_SHARE * seconds:
                self.counts[name] = MinuteCounts(old.good + 1, old.bad)
            else:
                ((cause, _),) = minute.bad.most_common(1)
                self._add_bad(name, cause, 1)
        self._minutes = {}
        self._save()

    def _add_bad(self, name: str, cause: str, minutes: int) -> None:
        old = self.counts.get(name, MinuteCounts())
        bad = {**old.bad, cause: old.bad.get(cause, 0) + minutes}
        self.counts[name] = MinuteCounts(old.good, bad)

    def _charge_gap(self, signs: Mapping[str, Sign]) -> None:
        """The time since the last run is the agent's fault, for cameras of that time."""
        gap_s = self._gap_s + time.monotonic() - self._loaded if self._gap_s else 0.0
        minutes, rest = divmod(gap_s, MINUTE_S)
        lost = int(minutes) + (rest > (1 - GOOD_SHARE) * MINUTE_S)
        for name in signs:
            if lost and name in self.counts:
                self._add_bad(name, "agent", lost)
            self.counts.setdefault(name, MinuteCounts())

    def _save(self) -> None:
        if self._path is None:
            return
        content = {
            "boot_id": read_boot_id(),
            "monotonic": time.monotonic(),
            "wall": time.time() if is_clock_ok() else None,
            "cameras": {
                name: {"good": one.good, "bad": one.bad} for name, one in self.counts.items()
            },
        }
        with suppress(OSError):  # a full disk: the next minute tries again
            write_json(self._path, content)

    def _load(self, path: Path) -> None:
        try:
            content = read_json(path)
            cameras: dict[str, Any] = content["cameras"]
            self.counts = {
                name: MinuteCounts(int(one["good"]), {k: int(v) for k, v in one["bad"].items()})
                for name, one in cameras.items()
            }
            self._gap_s = _gap_s(content)
        except (DataError, KeyError, TypeError, ValueError, AttributeError):
            self.counts = {}


def _gap_s(content: dict[str, Any]) -> float:
    """Seconds since the counts were written: by the monotonic clock within one boot."""
    if content["boot_id"] == read_boot_id():
        gap = time.monotonic() - float(content["monotonic"])
    elif content["wall"] is not None and is_clock_ok():
        gap = time.time() - float(content["wall"])
    else:
        return 0.0
    return gap if 0 <= gap <= LONGEST_GAP_S else 0.0
