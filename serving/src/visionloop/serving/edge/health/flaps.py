"""A camera whose connection comes and goes: one alarm, not one each time."""

from __future__ import annotations

from collections import deque

__all__ = ["FLAPPING", "Flaps"]

FLAPPING = "flapping"
MOST, WITHIN_S = 5, 60.0
"""More connections than these must break within so long."""


class Flaps:
    """Counts how often connections of cameras broke that had given pictures; for one thread."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self._broke: dict[str, deque[float]] = {}
        self._raised: set[str] = set()

    def look(self, name: str, faults: int, last_frame: float, now: float) -> dict[str, str]:
        """``{"flapping": reason}`` while the camera flaps, else nothing.

        Raised when a connection breaks for the sixth time within a minute, cleared by a minute
        in which none does. A camera that gives no picture between two faults is lost, and does
        not flap.

        Parameters
        ----------
        faults : int
            Connections of the camera that broke so far.
        last_frame, now : float
            Monotonic clock: its last frame, and this moment.
        """
        broke = self._broke.setdefault(name, deque())
        is_new = faults != self._known.get(name, faults)
        self._known[name] = faults
        if is_new and (not broke or last_frame > broke[-1]):
            broke.append(now)
        while broke and now - broke[0] > WITHIN_S:
            broke.popleft()
        if len(broke) > MOST:
            self._raised.add(name)
        elif not broke:
            self._raised.discard(name)
        if name not in self._raised:
            return {}
        # Without a count: a reason that changes is no new alarm.
        return {FLAPPING: f"its connection broke more than {MOST} times in {WITHIN_S:.0f} s"}

    def forget(self, name: str) -> None:
        """A camera is gone."""
        self._known.pop(name, None)
        self._broke.pop(name, None)
        self._raised.discard(name)
