"""Fewer searches for garbage while tasks and answers pass by the thousand."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["rarely_searched"]

OBJECTS = 100_000
"""Made and not yet freed before Python looks for cycles among the youngest; usually 700."""

_lock = threading.Lock()
_blocks = 0
_usual = gc.get_threshold()


@contextmanager
def rarely_searched() -> Iterator[None]:
    """Look for reference cycles seldom inside the block.

    JSON holds none, so its memory is freed at once without any search; that search took a
    fifth of a pull's time. Blocks may overlap in several threads; the last one to end puts
    the usual threshold back.
    """
    global _blocks, _usual
    with _lock:
        if _blocks == 0:
            _usual = gc.get_threshold()
            gc.set_threshold(OBJECTS, *_usual[1:])
        _blocks += 1
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1
            if _blocks == 0:
                gc.set_threshold(*_usual)
