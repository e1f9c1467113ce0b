"""How long to wait before a camera is tried again."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable
from typing import Literal

from visionloop.core.errors import UnreachableError

__all__ = ["Backoff", "CameraFaultError", "FallLimit", "FaultKind", "backoff_seconds"]

FaultKind = Literal["lost", "refused"]
"""lost: may come back any moment (cable, restart, frozen). refused: somebody must change
something first (password, address, name)."""

FIRST_S: dict[FaultKind, float] = {"lost": 0.5, "refused": 10.0}
LONGEST_S: dict[FaultKind, float] = {"lost": 5.0, "refused": 60.0}
STEADY_S = 10.0
"""So long must a connection have lasted before its faults are forgotten: a camera that
answers and falls over again is not tried without pause."""
MOST_FALLS, FALLS_S = 5, 60.0
"""What works and falls over so often in so many seconds flaps: a process is then started no more
until that is over, a camera is tried after ``FLAPPING_S`` only."""
FLAPPING_S, FLAPPING_JITTER_S = 6.0, 1.5
"""Long enough that nothing is hammered, short enough that a picture is there ten seconds after the
camera is."""


class CameraFaultError(UnreachableError):
    """A camera gives no pictures; ``kind`` says whether it may come back by itself."""

    def __init__(self, subject: str, reason: str, *, kind: FaultKind, next_step: str = "") -> None:
        super().__init__(subject, reason, next_step)
        self.kind: FaultKind = kind


def backoff_seconds(failures: int, kind: FaultKind, draw: float) -> float:
    """Seconds to wait after the nth fault in a row: doubled each time, bounded, scattered.

    Cameras of one switch fail together; the random part spreads their return ("Exponential
    backoff and jitter", AWS Architecture Blog, 2015). What was refused is tried at most
    once in 10 seconds, so that no camera locks the account.

    Parameters
    ----------
    failures : int
        From 1.
    kind : FaultKind
        lost: 0.5 s doubled up to 5 s, of which chance takes away up to 60 %.
        refused: 10 s doubled up to 60 s, to which chance adds up to 50 %.
    draw : float
        Uniform in [0, 1).
    """
    base = min(LONGEST_S[kind], FIRST_S[kind] * 2.0 ** min(failures - 1, 16))
    return base * (1 + 0.5 * draw) if kind == "refused" else base * (0.4 + 0.6 * draw)


class FallLimit:
    """How often something that worked and fell over may be started again (``MOST_FALLS`` in
    ``FALLS_S``). What never works is no fall: waits of its own keep it apart.
    """

    def __init__(self) -> None:
        self._falls: deque[float] = deque(maxlen=MOST_FALLS)

    def note(self, now: float) -> None:
        """It fell over (monotonic clock)."""
        self._falls.append(now)

    def wait_s(self, now: float) -> float:
        """Seconds until it may be started again; 0 if at once."""
        if len(self._falls) < MOST_FALLS:
            return 0.0
        return max(0.0, self._falls[0] + FALLS_S - now)


class Backoff:
    """Remembers the faults of one camera, over as many connections as there are."""

    def __init__(self, draw: Callable[[], float] = random.random) -> None:
        self._draw = draw
        self._failures = 0
        self._kind: FaultKind | None = None
        self._connected_at: float | None = None
        self._falls = FallLimit()
        self.ready_at = 0.0

    def worked(self) -> None:
        """A picture came."""
        now = time.monotonic()
        if self._connected_at is None:
            self._connected_at = now
        elif now - self._connected_at >= STEADY_S:
            self._failures = 0

    def failed(self, kind: FaultKind) -> float:
        """A fault; returns the seconds to wait, and sets ``ready_at`` (monotonic clock)."""
        # Each kind counts by itself: after a row of short waits one refusal must not cost minutes.
        self._failures = self._failures + 1 if kind == self._kind else 1
        self._kind = kind
        now = time.monotonic()
        if self._connected_at is not None:
            self._falls.note(now)
        self._connected_at = None
        wait_s = backoff_seconds(self._failures, kind, self._draw())
        if self._falls.wait_s(now):
            wait_s = max(wait_s, FLAPPING_S + FLAPPING_JITTER_S * self._draw())
        self.ready_at = now + wait_s
        return wait_s
