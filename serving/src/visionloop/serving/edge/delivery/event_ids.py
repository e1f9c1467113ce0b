"""Names of events and of boots, and whether the device's clock can be trusted.

Timers use the monotonic clock alone; the wall clock is written down and never waited on. A
device without a battery starts in 1970 and jumps when it finds a time server: events carry
``clock_ok``, and their order is that of ``seq``.
"""

from __future__ import annotations

import ctypes
import os
import time
import uuid
from pathlib import Path

__all__ = ["ClockWatch", "is_clock_ok", "new_event_id", "read_boot_id"]

EARLIEST = 1_767_225_600.0
"""2026-01-01: a clock that shows less was never set."""
TIME_ERROR = 5
"""ntp_gettime(3): the kernel's clock is not synchronised."""
JUMP_S = 2.0


def new_event_id() -> str:
    """A UUID version 7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then random."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & ((1 << 48) - 1)) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def read_boot_id() -> str:
    """The kernel's id of this boot; elsewhere a new id for each process."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return str(uuid.uuid4())


def is_clock_ok() -> bool:
    """Whether the wall clock was set, and the kernel does not call it unsynchronised."""
    return time.time() >= EARLIEST and _kernel_state() != TIME_ERROR


def _kernel_state() -> int:
    try:
        gettime = ctypes.CDLL(None, use_errno=True).ntp_gettime
        return int(gettime(ctypes.create_string_buffer(256)))
    except (OSError, AttributeError):
        return TIME_ERROR


class ClockWatch:
    """Sees jumps of the wall clock against the monotonic one.

    Call :meth:`look` every few seconds; it answers the jump in seconds (0.0 for none).
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def look(self) -> float:
        """Seconds by which the wall clock jumped since the last look; below 2 s is 0."""
        offset = time.time() - time.monotonic()
        jump = offset - self._offset
        self._offset = offset
        return jump if abs(jump) >= JUMP_S else 0.0
