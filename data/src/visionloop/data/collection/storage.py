"""A disk that is full: collection stops keeping, says so once, and goes on when there is space."""

from __future__ import annotations

import errno
import shutil
import sqlite3
import time
from pathlib import Path
from threading import Lock

from visionloop.core.errors import VisionloopError
from visionloop.core.progress import say_step

__all__ = ["NoSpaceError", "Storage", "is_full"]

RETRY_S = 1.0
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class NoSpaceError(VisionloopError):
    """The disk takes nothing more."""


def is_full(error: Exception) -> bool:
    """Whether an error says that the disk is full or cannot be written."""
    if isinstance(error, sqlite3.OperationalError):
        return any(word in str(error) for word in ("full", "disk I/O", "readonly"))
    return isinstance(error, OSError) and error.errno in _FULL


class Storage:
    """Whether there is space to keep samples.

    Parameters
    ----------
    folder : Path
        Where samples are kept.
    minimum_free_mb : float
        Below so much free space nothing is kept: what already waits in the journal still
        has to be written into the table.
    """

    def __init__(self, folder: Path, minimum_free_mb: float) -> None:
        self._folder, self._minimum = folder, minimum_free_mb
        self._lock = Lock()
        self._full_since: float | None = None
        self._next_try = 0.0
        self._lost = 0

    def check(self) -> None:
        """Before keeping: is there space?

        Raises
        ------
        NoSpaceError
            If not, or if it was full a moment ago.
        """
        if self._full_since is not None and time.monotonic() < self._next_try:
            raise self.failed("")
        self._folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._folder).free / 1e6
        if free < self._minimum:
            raise self.failed(f"{free:.0f} MB are free, fewer than {self._minimum:.0f} MB")

    def failed(self, reason: str) -> NoSpaceError:
        """A sample was lost; said once for each time that the disk is full."""
        with self._lock:
            self._lost += 1
            error = NoSpaceError(
                str(self._folder),
                f"there is no space left{f' ({reason})' if reason else ''}",
                "make space; collection goes on by itself",
            )
            if reason:
                self._next_try = time.monotonic() + RETRY_S
            if self._full_since is None:
                self._full_since = time.monotonic()
                say_step(f"collect: nothing is kept now: {error}")
            return error

    def worked(self) -> None:
        """A sample was kept."""
        if self._full_since is None:
            return
        with self._lock:
            if self._full_since is not None:
                seconds = time.monotonic() - self._full_since
                say_step(
                    f"collect: there is space again after {seconds:.0f} s; "
                    f"{self._lost} frames were not kept"
                )
                self._full_since, self._lost = None, 0
