"""Pictures and clips of events are kept within a limit of bytes and days; the oldest go first."""

from __future__ import annotations

import time
from pathlib import Path

from visionloop.serving.edge_params import EvidenceParams

__all__ = ["FOLDERS", "sweep"]

FOLDERS = ("events", "clips")
DAY_S = 86_400.0


def sweep(folder: Path, params: EvidenceParams, *, now: float | None = None) -> tuple[int, int]:
    """Remove what is too old, then the oldest until the rest fits.

    Parameters
    ----------
    folder : Path
        Of the agent; ``events/`` and ``clips/`` below it are looked at.
    params : EvidenceParams
    now : float or None
        Seconds since 1970; None is now.

    Returns
    -------
    (int, int)
        Files removed, bytes that are left.
    """
    moment = time.time() if now is None else now
    files = []
    for path in (one for name in FOLDERS for one in (folder / name).glob("*")):
        try:
            found = path.stat()
        except OSError:
            continue
        files.append((found.st_mtime, found.st_size, path))
    total = sum(size for _, size, _ in files)
    limit = params.max_megabytes * 1e6
    removed = 0
    for changed, size, path in sorted(files):
        if total <= limit and moment - changed <= params.max_days * DAY_S:
            break
        try:
            path.unlink(missing_ok=True)
        except OSError:  # read-only
            continue
        total -= size
        removed += 1
    return removed, total
