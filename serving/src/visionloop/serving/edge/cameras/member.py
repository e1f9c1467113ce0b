"""A decoding process as the agent sees it, and how it is judged."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from visionloop.serving.edge.cameras.messages import CameraStatus

__all__ = ["SILENT_S", "Member", "fault_of"]

SILENT_S = 5.0
"""A process that says nothing for so long and does nothing meanwhile was stopped, or hangs."""
STARVED_S = 60.0
"""One that uses the processor is only late, on a machine that has too much to do: ending it would
make more work. It is given so long."""
HANGING_S = 15.0
"""So is one with a camera whose thread gives no sign of life: longer than every time limit of
a connection (5 s to open, 3 s to read)."""


@dataclass
class Member:
    """One process and its cameras.

    ``heard`` and ``worked`` are the moments at which it last said something, and at which it
    was last seen to have used the processor; ``used`` is what that was measured with.
    """

    names: list[str]
    process: Any = None
    pipe: Connection | None = None
    started: float = 0.0
    heard: float = 0.0
    worked: float = 0.0
    used: tuple[float, float] = (-1.0, 0.0)
    failures: int = 0
    ready_at: float = 0.0
    sending: threading.Lock = field(default_factory=threading.Lock)


def fault_of(member: Member, status: Mapping[str, CameraStatus], now: float) -> tuple[str, bool]:
    """What is wrong with a process, if anything, and whether a camera of it did it."""
    if not member.process.is_alive():
        return f"ended by itself (code {member.process.exitcode})", True
    for name in member.names:
        row = status[name]
        if row.state != "ended" and member.heard - row.beat > HANGING_S:
            return f"hangs with camera '{name}'", True
    silent = now - member.heard
    if silent > SILENT_S / 2:
        used = _cpu_s(member.process.pid)
        is_first_look = member.used[0] != member.heard
        if not is_first_look and used != member.used[1]:
            member.worked = now
        member.used = (member.heard, used)
    is_still = now - max(member.worked, member.heard) > SILENT_S
    if is_still or silent > STARVED_S:
        return f"gave no sign of life for {silent:.0f} s", False
    return "", False


def _cpu_s(pid: int) -> float:
    """Processor time of a process so far; the same number while it does nothing."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
