"""Processes by id, told apart from later ones that got the same id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

__all__ = ["free_port", "is_port_free", "is_running", "start_time", "stop_process"]


def start_time(pid: int) -> str:
    """When the kernel started a process, as text to compare; empty if it is gone or dead."""
    try:
        content = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return "" if Path("/proc/self/stat").exists() else _start_time_by_ps(pid)
    except (PermissionError, ProcessLookupError):
        return ""
    fields = content.rpartition(")")[2].split()
    # A dead leader whose threads still end (a server closing its port) is not gone yet.
    is_gone = fields[0] in "ZX" and int(fields[17]) <= 1
    return "" if is_gone else fields[19]


def is_running(pid: int, started: str) -> bool:
    """Whether the process that started then still runs."""
    return bool(started) and start_time(pid) == started


def stop_process(pid: int, started: str, *, patience: float = 10.0) -> None:
    """End a process: SIGTERM, and SIGKILL when it has not gone after ``patience`` seconds."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        if not is_running(pid, started):
            return
        os.kill(pid, signal_number)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and is_running(pid, started):
            time.sleep(0.05)


def is_port_free(port: int) -> bool:
    """Whether nothing listens on a port of this machine's loopback."""
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            with socket.socket(family) as connection:
                connection.settimeout(1)
                if connection.connect_ex((host, port)) == 0:
                    return False
        except OSError:
            continue  # a machine without IPv6
    return True


def free_port() -> int:
    """A port of the loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start_time_by_ps(pid: int) -> str:
    command = ["ps", "-o", "lstart=,stat=", "-p", str(pid)]
    done = subprocess.run(command, capture_output=True, text=True)
    *moment, state = done.stdout.split() or [""]
    return "" if state.startswith("Z") else " ".join(moment)
