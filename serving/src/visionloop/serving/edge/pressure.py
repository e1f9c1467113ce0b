"""What weighs on a device: processor, heat, disk, memory, frames that grow old.

A reader answers how hard it is pressed: 1.0 is its limit. Files of the kernel are read from a
folder that a test may replace. A reader that finds nothing to read (no sensor) answers 0.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = [
    "AgePressure",
    "DiskPressure",
    "HeatPressure",
    "MemoryPressure",
    "Pressure",
    "PressureReader",
    "ProcessorPressure",
]

PROC, SYS = Path("/proc"), Path("/sys")


@dataclass(frozen=True)
class Pressure:
    """How hard a device is pressed by one cause.

    Attributes
    ----------
    share : float
        Of the limit; 1.0 and more is too much.
    reason : str
        For a person, with the number.
    """

    share: float
    reason: str


class PressureReader(Protocol):
    """One cause.

    Attributes
    ----------
    cause : str
    """

    cause: str

    def read(self) -> Pressure:
        """How hard it presses now."""
        ...


class ProcessorPressure:
    """All cores busy: the share of time since the last reading. Busy is not late: it is shown,
    and drives nothing by itself (see ``ladder.DEEPEST``).

    Parameters
    ----------
    limit : float
        Share of busy time that is too much.
    """

    cause = "processor"

    def __init__(self, limit: float = 0.97, *, proc: Path = PROC) -> None:
        self._limit, self._file = limit, proc / "stat"
        self._last = self._times()

    def read(self) -> Pressure:
        busy, total = self._times()
        passed = total - self._last[1]
        share = (busy - self._last[0]) / passed if passed > 0 else 0.0
        if passed > 0:
            self._last = (busy, total)
        return Pressure(share / self._limit, f"processor {share:.0%} busy")

    def _times(self) -> tuple[float, float]:
        try:
            fields = [float(one) for one in self._file.read_text().split("\n")[0].split()[1:9]]
        except (OSError, ValueError):
            return 0.0, 0.0
        return sum(fields) - sum(fields[3:5]), sum(fields)


class HeatPressure:
    """The hottest sensor of the kernel's thermal zones.

    Parameters
    ----------
    limit_c : float
        Degrees Celsius; a zone's own ``passive`` or ``hot`` trip point counts if it is lower.
    """

    cause = "heat"

    def __init__(self, limit_c: float = 85.0, *, sys: Path = SYS) -> None:
        self._limit, self._folder = limit_c, sys / "class" / "thermal"

    def read(self) -> Pressure:
        worst = Pressure(0.0, "no sensor")
        for zone in sorted(self._folder.glob("thermal_zone*")):
            degrees = _read_number(zone / "temp")
            if degrees is None:
                continue
            limit = min([self._limit, *self._trips(zone)])
            # Below 40 degrees nothing is warm: the way from there to the limit is what counts.
            share = (degrees / 1000 - 40) / max(1.0, limit - 40)
            if share > worst.share:
                worst = Pressure(
                    share, f"{degrees / 1000:.0f} °C at {zone.name}, limit {limit:.0f}"
                )
        return worst

    def _trips(self, zone: Path) -> list[float]:
        found = []
        for kind in zone.glob("trip_point_*_type"):
            try:
                is_soft = kind.read_text().strip() in ("passive", "hot")
            except OSError:
                continue
            degrees = _read_number(kind.with_name(kind.name.replace("_type", "_temp")))
            if is_soft and degrees is not None and degrees > 50_000:
                found.append(degrees / 1000)
        return found


class DiskPressure:
    """Free space of the file system that holds a folder.

    Parameters
    ----------
    folder : Path
    least_mb : float
        Less free than this is too much pressure.
    least_share : float
        The same by the size of the file system; the smaller of both counts.
    """

    cause = "disk"

    def __init__(self, folder: Path, *, least_mb: float = 500.0, least_share: float = 0.05) -> None:
        self._folder, self._least_mb, self._least_share = folder, least_mb, least_share

    def read(self) -> Pressure:
        try:
            found = os.statvfs(self._folder)
        except OSError:
            return Pressure(1.0, f"{self._folder.name}: the disk cannot be read")
        free = found.f_bavail * found.f_frsize
        wanted = min(self._least_mb * 1e6, self._least_share * found.f_blocks * found.f_frsize)
        share = wanted / free if free > 0 else float("inf")
        return Pressure(min(share, 1e6), f"{free / 1e6:,.0f} MB free on the disk")


class MemoryPressure:
    """Memory that is still available.

    Parameters
    ----------
    least_share : float
        Of all memory.
    """

    cause = "memory"

    def __init__(self, least_share: float = 0.06, *, proc: Path = PROC) -> None:
        self._least, self._file = least_share, proc / "meminfo"

    def read(self) -> Pressure:
        try:
            rows = [line.split() for line in self._file.read_text().splitlines()]
            sizes = {row[0].rstrip(":"): float(row[1]) for row in rows if len(row) > 1}
            share = sizes["MemAvailable"] / sizes["MemTotal"]
        except (OSError, ValueError, KeyError, ZeroDivisionError):
            return Pressure(0.0, "not known")
        return Pressure(self._least / max(share, 1e-6), f"{share:.0%} of the memory is available")


class AgePressure:
    """Frames that wait too long before they are analysed.

    Parameters
    ----------
    age : callable
        Seconds between capture and answer of late; the agent knows.
    limit_s : float
    """

    cause = "overload"

    def __init__(self, age: Callable[[], float], limit_s: float = 2.0) -> None:
        self._age, self._limit = age, limit_s

    def read(self) -> Pressure:
        age = self._age()
        return Pressure(age / self._limit, f"frames are {age:.1f} s old when they are answered")


def _read_number(path: Path) -> float | None:
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return None
