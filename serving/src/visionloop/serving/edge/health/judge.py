"""Camera health: from looks to events that begin and end.

For the agent::

    health = CameraHealth("gate-3", HealthParams())
    for change in health.look(frame, now=monotonic):      # about once a second, a BGR image
        outbox.put(kind="camera_health", ...change.as_payload())
    for change in health.absent(now=monotonic): ...       # when no frame came: also once a second
    health.states           # {"lost": False, "frozen": False, ...}: metrics, status page
    health.save(path); CameraHealth.load(path, ...)       # the reference survives a restart

Conditions: ``lost`` no frame · ``frozen`` the same picture again and again · ``dark`` and
``white`` nothing to be seen · ``covered`` structure is gone from most of the view · ``moved``
most of the view shows something else · ``fogged`` contrast is gone · ``defocused`` fine detail is
gone · ``infrared`` the camera has switched to infrared (a notice, no fault).

Each has hysteresis in time. What is hidden by darkness is neither raised nor cleared. The
reference is learned from the first looks and follows slow change while nothing is suspected;
contrast and detail are also held against an anchor that follows over a day, so that fog that
comes within hours is still seen. Infrared has a reference of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from visionloop.serving.edge.health.look import Look, take_look
from visionloop.serving.edge.health.measures import NEWEST, Measures, Smoothed, measure
from visionloop.serving.edge.health.params import HealthParams
from visionloop.serving.edge.health.reference import Learned, load_learned, save_learned
from visionloop.serving.edge.health.registration import find_move

__all__ = ["CONDITIONS", "CameraHealth", "Condition", "HealthChange"]

Condition = Literal[
    "lost", "frozen", "dark", "white", "covered", "moved", "fogged", "defocused", "infrared"
]
CONDITIONS: tuple[Condition, ...] = (
    "lost",
    "frozen",
    "dark",
    "white",
    "covered",
    "moved",
    "fogged",
    "defocused",
    "infrared",
)
NOTICES = frozenset({"infrared"})
"""Told, but the camera is well."""
FROZEN_SHARE = 0.15
"""By the camera's usual change between two looks; below it the picture stands still."""
STILL = 0.05
"""Usual change in grey levels of a camera that hardly changes at all."""
FLAT = 0.5
"""Share of the view in which structure is gone, from which something flat is in front."""
STANDS_STILL = 0.4
"""Change by the least usual one below which something stands in front: less than ever happens."""
STILL_THERE = 0.5
"""Share of the view that may be lost while contrast and detail of the rest are judged."""
LEAST_CHROMA = 1.5
"""Mean colour of a camera that is known to send colours; rounding alone makes less."""
COLOURLESS = 0.2
"""Share of its usual colour below which a camera sends none."""
SUSPECT = 0.75
"""Share of a limit from which the reference no longer follows."""


@dataclass(frozen=True)
class HealthChange:
    """A condition began or ended.

    Attributes
    ----------
    camera : str
    condition : str
        One of ``CONDITIONS``.
    is_raised : bool
    reason : str
        For a person.
    """

    camera: str
    condition: Condition
    is_raised: bool
    reason: str

    def as_payload(self) -> dict[str, Any]:
        """For the outbox."""
        state = "raised" if self.is_raised else "cleared"
        return {
            "camera": self.camera,
            "condition": self.condition,
            "state": state,
            "reason": self.reason,
        }


@dataclass
class _Timer:
    """Hysteresis of one condition."""

    is_raised: bool = False
    since: float | None = None

    def update(self, is_seen: bool, now: float, raise_s: float, clear_s: float) -> bool:
        """Whether the state changed."""
        if is_seen == self.is_raised:
            self.since = None
            return False
        if self.since is None:
            self.since = now
        if now - self.since < (clear_s if self.is_raised else raise_s):
            return False
        self.is_raised, self.since = not self.is_raised, None
        return True


@dataclass
class CameraHealth:
    """The health of one camera; used by one thread.

    Parameters
    ----------
    camera : str
    params : HealthParams
    """

    camera: str
    params: HealthParams
    _timers: dict[Condition, _Timer] = field(default_factory=dict, init=False)
    _learned: Learned = field(default_factory=Learned, init=False)
    _before: Look | None = field(default=None, init=False)
    _now: Smoothed | None = field(default=None, init=False)
    _last_frame: float | None = field(default=None, init=False)
    _same_since: float | None = field(default=None, init=False)
    _moved_since: float | None = field(default=None, init=False)
    measures: Measures | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._timers = {condition: _Timer() for condition in CONDITIONS}

    @property
    def states(self) -> dict[str, bool]:
        """Condition to whether it is raised."""
        return {condition: timer.is_raised for condition, timer in self._timers.items()}

    @property
    def faults(self) -> list[str]:
        """Raised conditions that make the picture unusable."""
        return [
            name for name, is_raised in self.states.items() if is_raised and name not in NOTICES
        ]

    def absent(self, *, now: float) -> list[HealthChange]:
        """No frame came. ``now`` is the monotonic clock in seconds."""
        if self._last_frame is None:
            self._last_frame = now
        gone = now - self._last_frame
        return self._settle({"lost": gone >= self.params.lost_s}, now, f"no frame for {gone:.0f} s")

    def look(self, image: NDArray[np.uint8], *, now: float) -> list[HealthChange]:
        """Judge a frame.

        Parameters
        ----------
        image : uint8 array (H, W, 3) BGR, or (H, W)
        now : float
            Monotonic clock in seconds when it was taken.
        """
        look = take_look(image)
        passed = now - self._last_frame if self._last_frame is not None else self.params.every_s
        self._last_frame = now
        one = Smoothed.begin(look, self._before)
        if self._now is None or passed > 10 * self.params.every_s:
            self._now = one.copy()
        else:
            self._now.mix(one, NEWEST)
        changes = self._judge(look, one, now, min(passed, 60.0))
        self._before = look
        return changes

    def save(self, path: Path) -> None:
        """Keep what was learned, durably."""
        save_learned(path, self._learned)

    def load(self, path: Path) -> None:
        """Go on with what was learned before; a missing or damaged file begins anew."""
        self._learned = load_learned(path) or self._learned

    def _judge(self, look: Look, one: Smoothed, now: float, passed: float) -> list[HealthChange]:
        assert self._now is not None
        learned, params = self._learned, self.params
        reference = learned.reference
        if reference is None:
            self.measures = measure(look, self._before, self._now, self._now)
            seen = self._light(self.measures, 0.0) | {"lost": False}
            if not (seen["dark"] or seen["white"]):
                learned.learn(one, self.measures, params.learn_looks)
            return self._settle(seen, now, "")
        measures = self.measures = measure(
            look, self._before, self._now, reference, learned.usual_likeness
        )
        seen = self._light(measures, reference.white) | {"lost": False}
        is_frozen = self._is_frozen(measures, now)
        if not (seen["dark"] or seen["white"]):
            seen["frozen"] = is_frozen
            seen |= self._structure(measures)
            seen |= self._mode(measures, seen)
        changes = self._settle(seen, now, _describe(measures))
        if learned.reference is reference and not self._is_suspect(seen, measures):
            learned.follow(one, measures, passed, params.follow_s)
            learned.note_change(measures.change)
        return changes + self._relearn(now)

    def _light(self, seen: Measures, usual_white: float) -> dict[Condition, bool]:
        limit = self.params.dark_below
        is_white = seen.white - usual_white >= self.params.white_share
        return {"dark": seen.light < limit and seen.bright < 2 * limit, "white": is_white}

    def _is_frozen(self, seen: Measures, now: float) -> bool:
        if seen.change is None:
            return False
        usual = self._learned.usual_change
        if seen.change > FROZEN_SHARE * usual:
            self._same_since = None
            return False
        if self._same_since is None:
            self._same_since = now
        is_lively = usual >= STILL
        wanted = self.params.frozen_s if is_lively else self.params.still_frozen_s
        return now - self._same_since + self.params.raise_s >= wanted

    def _structure(self, seen: Measures) -> dict[Condition, bool]:
        params = self.params
        contrast = seen.contrast * self._learned.contrast_drift
        fine = None if seen.detail is None else seen.detail * self._learned.detail_drift
        answer: dict[Condition, bool] = {"covered": False, "moved": False}
        if seen.lost >= min(params.covered_share, params.moved_share):
            is_hidden = self._is_hidden(seen)
            answer["covered"] = is_hidden and seen.lost >= params.covered_share
            answer["moved"] = not is_hidden and seen.lost >= params.moved_share
        if seen.lost > STILL_THERE:
            return answer
        is_soft = fine is not None and fine < 0.8 and fine * contrast < params.defocused_detail
        answer["defocused"] = is_soft
        answer["fogged"] = contrast < params.fogged_contrast and not is_soft
        return answer

    def _is_hidden(self, seen: Measures) -> bool:
        """The view is gone: is something in front of it (or is it seen from elsewhere)?"""
        reference = self._learned.reference
        assert reference is not None
        assert self._now is not None
        if find_move(self._now.structure, reference.structure) is not None:
            return False
        light = (self._now.light + 4) / (reference.light + 4)
        change = float("inf") if seen.change is None else seen.change
        share = change / self._learned.usual_change
        is_other = not 0.75 < light < 1.33
        return (
            seen.flat_share >= FLAT
            or share < STANDS_STILL
            or (is_other and share < 1)
            or not 0.65 < light < 1.5
        )

    def _mode(self, seen: Measures, found: dict[Condition, bool]) -> dict[Condition, bool]:
        """Infrared: a camera of colours sends none, and still shows its view."""
        usual = self._learned.usual_chroma
        if seen.chroma is None or usual is None or usual < LEAST_CHROMA:
            return {}
        if found.get("covered"):
            return {}
        # Where there never was much colour, what is left must be next to none.
        # Fog takes colour and contrast alike.
        kept = min(1.0, seen.contrast)
        limit = min(self.params.infrared_chroma, COLOURLESS * usual * kept)
        return {"infrared": seen.chroma < limit}

    def _settle(self, seen: dict[Condition, bool], now: float, reason: str) -> list[HealthChange]:
        changes = []
        for condition, is_seen in seen.items():
            timer = self._timers[condition]
            # A lost or frozen camera has waited long enough when that is seen.
            raise_s = 0.0 if condition == "lost" else self.params.raise_s
            if timer.update(is_seen, now, raise_s, self.params.clear_s):
                changes.append(HealthChange(self.camera, condition, timer.is_raised, reason))
                if condition == "infrared":
                    self._learned.switch(is_infrared=timer.is_raised)
                if condition == "moved":
                    self._moved_since = now if timer.is_raised else None
        return changes

    def _is_suspect(self, seen: dict[Condition, bool], measures: Measures) -> bool:
        """Whether anything is or may soon be wrong: then the reference stays as it is."""
        if any(is_seen for name, is_seen in seen.items() if name not in NOTICES) or self.faults:
            return True
        if seen.get("infrared", False) != self._timers["infrared"].is_raised:
            return True  # between two modes
        return measures.lost > SUSPECT * self.params.covered_share

    def _relearn(self, now: float) -> list[HealthChange]:
        """A view that has stayed for long is the camera's view."""
        since = self._moved_since
        if since is None or now - since < self.params.relearn_s:
            return []
        self._learned.forget()
        self._moved_since = None
        self._timers["moved"] = _Timer()
        return [HealthChange(self.camera, "moved", False, "its new view is the reference now")]


def _describe(seen: Measures) -> str:
    detail = "" if seen.detail is None else f", detail {seen.detail:.2f}"
    return (
        f"light {seen.light:.0f}, white {seen.white:.0%}, view lost {seen.lost:.0%}, "
        f"contrast {seen.contrast:.2f}{detail}"
    )
