"""Failpoints: places where a test can stop the program, to prove that it recovers.

``VISIONLOOP_FAILPOINT=name:action:nth`` acts at the nth passage (1 is the first)
of the named place. Actions: ``kill`` ends the process at once as ``kill -9`` does,
``interrupt`` raises KeyboardInterrupt as Ctrl-C does. Unset, a failpoint costs one
dictionary look-up.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

__all__ = ["failpoint"]

_passages: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Act here if the environment names this place."""
    wanted = os.environ.get("VISIONLOOP_FAILPOINT")
    if not wanted:
        return
    place, action, nth = wanted.split(":")
    if place != name:
        return
    _passages[name] += 1
    if _passages[name] != int(nth):
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "interrupt":
        raise KeyboardInterrupt
    raise ValueError(f"VISIONLOOP_FAILPOINT: unknown action '{action}' (kill, interrupt)")
