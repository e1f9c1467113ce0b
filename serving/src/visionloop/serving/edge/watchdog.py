"""Signs of life for a supervisor: a hung agent is ended and started again.

systemd's protocol (sd_notify(3)): lines in a datagram to the socket that ``NOTIFY_SOCKET``
names. Without one nothing is sent. The loop that answers frames beats, not a thread beside it,
so that a loop that stands still is silent.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["Watchdog"]

BEAT_S = 1.0
LOADING_S = 300.0
"""A model may take so long to load, an engine to be built."""


class Watchdog:
    """Tells the supervisor that the agent works; used by one thread."""

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        # "@" stands for the zero byte with which abstract names begin.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._limit_us = os.environ.get("WATCHDOG_USEC", "")
        self._next = 0.0
        self._is_ready = False

    def beat(self) -> None:
        """The loop made progress; the first call says that the agent is ready."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + BEAT_S
        self._say("WATCHDOG=1" if self._is_ready else "READY=1\nWATCHDOG=1")
        self._is_ready = True

    @contextmanager
    def patience(self) -> Iterator[None]:
        """Ask for more time while a model is loaded, during which nothing beats."""
        if not (self._limit_us and self._is_ready):
            yield
            return
        self._say(f"WATCHDOG_USEC={round(LOADING_S * 1e6)}")
        try:
            yield
        finally:
            self._say(f"WATCHDOG_USEC={self._limit_us}\nWATCHDOG=1")

    def stop(self) -> None:
        """The agent ends in order."""
        self._say("STOPPING=1")

    def _say(self, text: str) -> None:
        if not self._address:
            return
        # A supervisor that is gone or slow must not stop the agent.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(text.encode(), self._address)
