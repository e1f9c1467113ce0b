"""A live camera at work: scheduled looks, staying connected, bursts."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Any

from visionloop.data.collection.schedule import is_open
from visionloop.data.collection.storage import NoSpaceError
from visionloop.data.collection.worker import CameraWorker

__all__ = ["STAY_CONNECTED_S", "LiveWorker"]

STAY_CONNECTED_S = 15.0
"""A camera that is looked at more often stays connected from one look to the next."""


class LiveWorker(CameraWorker):
    """Looks at a camera over the network.

    Its source lives as long as the worker and remembers its faults, so that a camera is not
    tried more often because it is looked at more often.

    Raises
    ------
    ConfigError
        If the camera's password is not where the configuration says.
    """

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._burst_left = 0
        self._burst_until = 0.0
        self._deadline: float | None = None
        self._rate = 0.0
        self._source = self._open(self._should_stop)

    def burst(self) -> None:
        """Take many frames from now on, also outside of the shifts.

        A camera that does not answer in time gives no burst afterwards: the moment is gone.
        """
        burst = self.camera.burst
        self._burst_until = time.monotonic() + self._look_seconds + burst.frames / burst.rate
        self._burst_left = burst.frames
        self._source.pace.rate = burst.rate
        if not self._is_playing:
            self._ask("burst")

    def _play(self, asked_by: str) -> None:
        period = self.camera.schedule.every_s
        stays = asked_by == "schedule" and 0 < period < STAY_CONNECTED_S
        self._rate = 1 / period if stays else 0.0
        self._source.pace.rate = self.camera.burst.rate if self._is_in_burst() else self._rate
        self._deadline = None if stays else time.monotonic() + self._look_seconds
        wanted = 0 if asked_by == "burst" else self.camera.schedule.frames
        taken = 0
        for frame in self._source.frames(self._next):
            self._next = frame.sequence + 1
            if self._deadline is not None:
                self._deadline = time.monotonic() + self._look_seconds
            if self._is_in_burst():
                self._keep(frame, "burst")
                self._burst_left -= 1
                if self._burst_left == 0:
                    self._source.pace.rate = self._rate
            else:
                self._keep(frame, asked_by)
            taken += 1
            is_done = not stays and taken >= wanted
            if not self._is_in_burst() and (is_done or self._is_used_up()):
                break
        if not taken and not self._is_stopping:
            self.tally.counts["missed"] += 1

    def _keep(self, frame: Any, collected_by: str) -> None:
        try:
            self._take(frame, collected_by)
        except NoSpaceError:  # the next frame comes anyhow; the keeper has told why
            self.tally.counts["no_space"] += 1

    def _is_in_burst(self) -> bool:
        if self._burst_left and time.monotonic() > self._burst_until:
            self._burst_left = 0
            self._source.pace.rate = self._rate
        return self._burst_left > 0

    def _should_stop(self) -> bool:
        if self._is_stopping:
            return True
        if self._is_in_burst():
            return False
        if self._deadline is not None:
            return time.monotonic() > self._deadline
        return not is_open(self.camera.schedule, datetime.now(timezone.utc))
