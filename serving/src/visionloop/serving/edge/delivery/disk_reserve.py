"""Space that is laid down beside the outbox, to be given up when the disk is full."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["DiskReserve"]


class DiskReserve:
    """A file that only takes up room.

    Parameters
    ----------
    path : Path
    size : int
        Bytes; 0 is no reserve at all.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path, self._size = path, size

    @property
    def is_laid(self) -> bool:
        """Whether it is there, or was never wanted."""
        return not self._size or self._path.exists()

    def lay(self) -> None:
        """Lay it down, if it is not there and twice as much is free."""
        if self.is_laid:
            return
        with suppress(OSError):
            free = os.statvfs(self._path.parent)
            if free.f_bavail * free.f_frsize < 2 * self._size:
                return
            descriptor = os.open(self._path, os.O_CREAT | os.O_WRONLY, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._size)
            except OSError:
                self._path.unlink(missing_ok=True)
            finally:
                os.close(descriptor)

    def give_up(self) -> bool:
        """Free the space; False where there was none to give."""
        if not self._path.exists():
            return False
        with suppress(OSError):
            self._path.unlink()
            return True
        return False
