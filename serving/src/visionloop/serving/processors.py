"""How many processors this process may use: a container often has fewer than its machine."""

from __future__ import annotations

import math
import os
from pathlib import Path

__all__ = ["count_processors"]

CGROUP = Path("/sys/fs/cgroup")


def count_processors(cgroup: Path = CGROUP) -> int:
    """Processors by affinity and by the quota of the control group; at least one.

    Kubernetes' ``limits.cpu`` and Docker's ``--cpus`` are quotas: the system shows all
    processors of the machine nevertheless. A part of a processor counts as a whole one.

    Parameters
    ----------
    cgroup : Path
        Where control groups are mounted, version 2 (``cpu.max``) or 1.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = _quota(cgroup)
    return max(1, min(allowed or 1, math.ceil(quota) if quota else allowed or 1))


def _quota(cgroup: Path) -> float | None:
    """Processors of the quota; None without one."""
    try:
        if (cgroup / "cpu.max").is_file():
            limit, period = (cgroup / "cpu.max").read_text().split()
        else:
            limit = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        return int(limit) / int(period) if limit.isdigit() else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
