"""What is in use, exchanged for something newer while its users go on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

from visionloop.core.errors import VisionloopError

__all__ = ["LOOK_SECONDS", "HotSwap", "stamps_of"]

LOOK_SECONDS = 2.0
FIRST_SECONDS = 30.0
RETRY_SECONDS = 30.0
log = logging.getLogger(__name__)

Used = TypeVar("Used")


class HotSwap(Generic[Used]):
    """Holds what was loaded last; a thread of its own looks whether there is something newer.

    A user takes it once and keeps it to the end of its work, so nothing is exchanged under
    it; the old one is dropped when its last user is done. What cannot be loaded changes
    nothing: the old one goes on, the reason is kept, and loading is tried again when the
    stamp changes, and every half a minute (files may still have been on their way).

    Parameters
    ----------
    stamp : function
        What loading depends on, cheap to ask: mostly :func:`stamps_of` files.
    load : function
        Takes what is in use (or None) and gives what shall be; the same object if nothing
        is to be exchanged, None if there is nothing.
    name : function
        Says what a loaded thing is, for people.
    on_swap : function
        Called with the new one when it took over from something else, but not for the one
        found at the start.
    title : str
        Of the thread, and in the log.
    look_seconds : float
    """

    def __init__(
        self,
        *,
        stamp: Callable[[], object],
        load: Callable[[Used | None], Used | None],
        name: Callable[[Used], str],
        on_swap: Callable[[Used | None], object] = lambda _: None,
        title: str = "releases",
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._stamp, self._load, self._name = stamp, load, name
        self.on_swap = on_swap
        self._title, self._look_seconds = title, look_seconds
        self._used: Used | None = None
        self._seen: object = None
        self._retry_at = float("inf")
        self._has_looked = threading.Event()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=title, daemon=True)
        self.problem = ""

    @property
    def used(self) -> Used | None:
        """What is in use now, without waiting."""
        return self._used

    @property
    def version(self) -> str:
        """Name of what is in use; empty if nothing is."""
        used = self._used
        return "" if used is None else self._name(used)

    def get(self) -> Used | None:
        """What to use now; waits while the first one is loaded."""
        self._has_looked.wait(FIRST_SECONDS)
        return self._used

    def start(self) -> None:
        """Load the first one in the background, then watch."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._is_over.set()
        self._thread.join(timeout=10)

    def look(self) -> None:
        """Load again if the stamp is another one, or if it is time to retry."""
        found = self._stamp()
        if found == self._seen and time.monotonic() < self._retry_at:
            return
        is_first, self._seen = self._seen is None, found
        self._retry_at = float("inf")
        try:
            loaded = self._load(self._used)
        except VisionloopError as error:
            self._retry_at = time.monotonic() + RETRY_SECONDS
            if str(error) != self.problem:
                log.warning("%s: %s stays in use: %s", self._title, self.version or "none", error)
            self.problem = str(error)
            return
        self.problem = ""
        before, self._used = self.version, loaded
        if self.version != before:
            log.info("%s: %s from now on (before: %s)", self._title, self.version, before or "none")
            if not is_first:
                self.on_swap(loaded)

    def _watch(self) -> None:
        while not self._is_over.is_set():
            try:
                self.look()
            except Exception:  # a watcher that died would never see the next one
                log.exception("%s: looking for something newer failed", self._title)
            self._has_looked.set()
            self._is_over.wait(self._look_seconds)


def stamps_of(paths: Iterable[Path]) -> tuple[tuple[str, int, int, int], ...]:
    """Name, inode, time and size of each file: another tuple after any change."""
    return tuple(_stamp(path) for path in paths)


def _stamp(path: Path) -> tuple[str, int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return str(path), 0, 0, 0
    return str(path), found.st_ino, found.st_mtime_ns, found.st_size
