"""What all sources share: the pace of frames, the frame itself, and who watches the source."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Frame
from visionloop.core.progress import say_step
from visionloop.serving.source_params import SourceParams

__all__ = ["Pace", "Watcher", "make_frame", "wait_until"]

WAKE_S = 0.1
"""How often a waiting source looks whether it should stop."""


def _never() -> bool:
    return False


def _nothing_is_known(path: Path) -> bool:
    return False


def _say_fault(reason: str, wait_s: float) -> None:
    say_step(f"{reason}; next attempt in {wait_s:.1f} s")


@dataclass(frozen=True)
class Watcher:
    """How the owner of a source follows it and ends it.

    Attributes
    ----------
    should_stop : function () -> bool
        Asked between frames and while waiting; True ends ``frames`` without an error.
    on_fault : function (reason, wait_s)
        Told of each fault of a live source (no password in it) and of the seconds until
        the next attempt.
    is_known : function (path) -> bool
        Asked by a folder before it reads a file; True passes the file over.
    """

    should_stop: Callable[[], bool] = _never
    on_fault: Callable[[str, float], None] = _say_fault
    is_known: Callable[[Path], bool] = _nothing_is_known


class Pace:
    """Holds frames back to a rate; a late frame does not make the next ones hurry.

    Attributes
    ----------
    rate : float
        Frames a second, 0 is as fast as possible. It may be changed from another
        thread and counts at once.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._last: float | None = None

    def is_due(self) -> bool:
        """Whether the next frame may be taken now; if so, it is counted as taken."""
        now = time.monotonic()
        period = 1 / self.rate if self.rate else 0.0
        if self._last is not None and now < self._last + period:
            return False
        in_time = self._last is not None and now < self._last + 2 * period
        self._last = self._last + period if in_time and self._last is not None else now
        return True

    def wait(self, should_stop: Callable[[], bool]) -> bool:
        """Wait until the next frame is due; False if the source should stop."""
        while not should_stop():
            if self.is_due():
                return True
            assert self._last is not None
            left = self._last + (1 / self.rate if self.rate else 0.0) - time.monotonic()
            time.sleep(min(max(left, 0.0), WAKE_S))
        return False


def wait_until(moment: float, should_stop: Callable[[], bool]) -> bool:
    """Wait until a moment of the monotonic clock; False if the source should stop before."""
    while not should_stop():
        left = moment - time.monotonic()
        if left <= 0:
            return True
        time.sleep(min(left, WAKE_S))
    return False


def make_frame(
    params: SourceParams,
    site: str,
    sequence: int,
    image: NDArray[Any],
    *,
    encoded: bytes | None = None,
) -> Frame:
    """The frame of a picture that was read just now."""
    now = datetime.now(timezone.utc)
    return Frame(
        image=np.asarray(image, np.uint8),
        camera=params.camera or params.name,
        site=site,
        sequence=sequence,
        captured_at=now.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
        monotonic=time.monotonic(),
        attributes=dict(params.attributes),
        encoded=encoded,
    )
