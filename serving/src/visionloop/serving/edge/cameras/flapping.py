"""A camera that comes and goes: one alarm, not one for each time."""

from __future__ import annotations

from collections import deque

from visionloop.serving.sources.backoff import FALLS_S, MOST_FALLS

__all__ = ["FLAPPING", "FlapWatch"]

FLAPPING = "flapping"
CLEAR_BELOW = 2


class FlapWatch:
    """Of one camera: raised at ``MOST_FALLS`` falls in ``FALLS_S``, cleared when at most one is
    left in it."""

    def __init__(self) -> None:
        self._falls: deque[float] = deque(maxlen=MOST_FALLS)
        self._before = 0
        self._is_raised = False

    def look(self, falls: int, now: float) -> str:
        """Why it is flapping, or nothing.

        Parameters
        ----------
        falls : int
            Since the camera is watched; it only grows.
        now : float
            Monotonic clock.
        """
        self._falls.extend([now] * min(MOST_FALLS, max(0, falls - self._before)))
        self._before = falls
        count = sum(now - moment < FALLS_S for moment in self._falls)
        self._is_raised = count >= (CLEAR_BELOW if self._is_raised else MOST_FALLS)
        return f"its connection broke {count} times in {FALLS_S:.0f} s" if self._is_raised else ""
