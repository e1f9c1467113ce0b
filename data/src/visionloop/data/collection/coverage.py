"""Whether pictures of a board say enough about a lens: where it was seen, and how tilted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from visionloop.data.collection.calibration_params import CalibrateParams
from visionloop.data.collection.lens_fit import BoardView, LensFit

__all__ = ["GRID", "cover", "covered_share", "find_gaps", "tilts"]

GRID = (6, 8)
"""Rows and columns of the cells that a picture is divided into."""
_PLACES = (("upper", "middle", "lower"), ("left", "centre", "right"))


def cover(views: Sequence[BoardView], width: int, height: int) -> NDArray[np.int64]:
    """Corners in each cell of the picture: int64 array of shape ``GRID``."""
    counts = np.zeros(GRID, np.int64)
    for view in views:
        row = np.clip(view.xy[:, 1] / height * GRID[0], 0, GRID[0] - 1).astype(np.int64)
        column = np.clip(view.xy[:, 0] / width * GRID[1], 0, GRID[1] - 1).astype(np.int64)
        np.add.at(counts, (row, column), 1)
    return counts


def covered_share(counts: NDArray[np.int64]) -> float:
    """Share of the cells that hold a corner."""
    return float((counts > 0).mean())


def tilts(fit: LensFit) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Angle between each board and the picture plane in degrees, and whether it is sideways.

    Sideways: the board is turned about the vertical axis more than about the horizontal one.
    """
    normals = fit.normals
    angle = np.degrees(np.arccos(np.clip(np.abs(normals[:, 2]), 0, 1)))
    return np.asarray(angle, np.float64), np.abs(normals[:, 0]) > np.abs(normals[:, 1])


def find_gaps(
    views: Sequence[BoardView], fit: LensFit, width: int, height: int, params: CalibrateParams
) -> list[str]:
    """What is missing for a calibration that can be trusted, each with what to do."""
    problems = []
    if len(views) < params.min_pictures:
        missing = params.min_pictures - len(views)
        problems.append(
            f"{len(views)} usable pictures, at least {params.min_pictures}: take {missing} more"
        )
    counts = cover(views, width, height)
    share = covered_share(counts)
    if share < params.min_covered:
        problems.append(
            f"the board was seen in {share:.0%} of the picture, at least {params.min_covered:.0%}: "
            f"hold it {_emptiest(counts)}, up to the edge"
        )
    angle, is_sideways = tilts(fit)
    is_tilted = angle >= params.tilt_degrees
    for chosen, what in (
        (is_tilted & is_sideways, "turned left or right"),
        (is_tilted & ~is_sideways, "tipped forwards or backwards"),
    ):
        if chosen.sum() < params.min_tilted:
            problems.append(
                f"the board is {what} by {params.tilt_degrees:g} degrees or more in "
                f"{chosen.sum()} pictures, at least {params.min_tilted}: turn it by 20 to 40"
            )
    if fit.focal_uncertainty > params.max_focal_uncertainty:
        problems.append(
            f"the focal length is uncertain by {fit.focal_uncertainty:.1%}, at most "
            f"{params.max_focal_uncertainty:.1%}: take more tilted pictures, close to the camera"
        )
    return problems


def _emptiest(counts: NDArray[np.int64]) -> str:
    """The ninths of the picture with the fewest covered cells, corners first, in words."""
    shares = {}
    for row, rows in zip(_PLACES[0], np.array_split(counts > 0, 3, axis=0), strict=True):
        for column, cells in zip(_PLACES[1], np.array_split(rows, 3, axis=1), strict=True):
            shares[row, column] = float(cells.mean())
    lowest = min(shares.values())
    empty = [place for place, share in shares.items() if share <= lowest + 1e-9]
    corners_first = sorted(empty, key=lambda place: "middle" in place or "centre" in place)
    return "in the " + ", ".join(" ".join(place) for place in corners_first[:4])
