"""How far a command is, read from what it prints."""

from __future__ import annotations

import re

__all__ = ["read_fraction"]

_PAIR = re.compile(r"(?<![\w./])(\d{1,9})\s?/\s?(\d{1,9})(?![\w/])")


def read_fraction(line: str) -> float | None:
    """The share done that a line of output tells, or None.

    "epoch 3/12: 40/100 (2.1/s)" is two rounds of twelve and four tenths of the third:
    every further pair divides what the one before it counts. Dates and paths are no pairs.
    """
    done, unit, found = 0.0, 1.0, False
    pairs = [(int(a), int(b)) for a, b in _PAIR.findall(line)]
    for number, (count, total) in enumerate(pairs):
        if total == 0 or count > total:
            break
        is_last = number == len(pairs) - 1
        unit /= total
        done += unit * (count if is_last else max(count - 1, 0))
        found = True
    return min(done, 1.0) if found else None
