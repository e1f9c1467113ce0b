"""Marked points of a plane: the CSV file that a person writes."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import DataError

__all__ = ["MIN_POINTS", "MarkedPoints", "read_points"]

COLUMNS = ("x_px", "y_px", "x_m", "y_m")
MIN_POINTS = 4

Points = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MarkedPoints:
    """N points: names, pixels (N, 2) of the raw picture, metres (N, 2)."""

    names: tuple[str, ...]
    pixels: Points
    metres: Points


def read_points(path: Path) -> MarkedPoints:
    """Read the CSV file of marked points.

    Raises
    ------
    DataError
        Naming every wrong line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
            if missing:
                raise DataError(
                    str(path),
                    f"lacks the columns {', '.join(missing)}",
                    f"the first line must be {','.join(COLUMNS)} (and name, if wanted)",
                )
            read = [(rows.line_num, row) for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(str(path), f"cannot be read: {error}") from None
    names, values, problems = [], [], []
    for number, (line, row) in enumerate(read, start=1):
        try:
            four = [float(row[name] or "nothing") for name in COLUMNS]
            if not all(map(math.isfinite, four)):
                raise ValueError("a number is not finite")
        except ValueError as error:
            problems.append(f"line {line}: {error}")
            continue
        names.append((row.get("name") or "").strip() or f"point {number}")
        values.append(four)
    if len(values) < MIN_POINTS and not problems:
        problems.append(f"holds {len(values)} points, at least {MIN_POINTS} are needed")
    if problems:
        raise DataError(str(path), problems, "correct these lines; nothing was stored")
    table = np.array(values, np.float64)
    return MarkedPoints(tuple(names), table[:, :2], table[:, 2:])
