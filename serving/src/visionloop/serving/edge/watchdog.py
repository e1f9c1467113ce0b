"""A sign of life for the service manager: it ends and restarts an agent that hangs.

The protocol of systemd's ``sd_notify(3)``: datagrams to the socket that ``NOTIFY_SOCKET`` names.
The loops that do the work call :meth:`Watchdog.beat`, no thread beside them: a thread would go on
while the work stands still.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress

__all__ = ["Watchdog"]

EVERY_S = 1.0
"""Signs of life are not sent more often; the limit of the unit file is several of these."""


class Watchdog:
    """Says ``READY=1`` with the first sign of life, then ``WATCHDOG=1``.

    Parameters
    ----------
    address : str or None
        A socket's path, or an abstract name that begins with ``@``; None takes
        ``NOTIFY_SOCKET``. Without one nothing is sent.
    """

    def __init__(self, address: str | None = None) -> None:
        found = os.environ.get("NOTIFY_SOCKET", "") if address is None else address
        self._address = f"\0{found[1:]}" if found.startswith("@") else found
        self._is_ready = False
        self._due = 0.0

    def beat(self) -> None:
        """The work goes on."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + EVERY_S
        self._send("WATCHDOG=1" if self._is_ready else "READY=1\nWATCHDOG=1")
        self._is_ready = True

    def end(self) -> None:
        """The agent ends by itself; that is no failure."""
        self._send("STOPPING=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as pipe:
            pipe.setblocking(False)
            pipe.sendto(text.encode(), self._address)
