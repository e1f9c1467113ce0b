"""The lens from pictures of a board: fit, error of each picture, pictures that do not fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.data.collection.board import Board

__all__ = ["BoardView", "LensFit", "error_against", "fit_lens", "fit_without_bad"]

SMALLEST_SET = 4
"""With fewer pictures nothing is left out: who is wrong could not be told."""


@dataclass(frozen=True, eq=False)
class BoardView:
    """The board in one picture.

    Attributes
    ----------
    name : str
        File name.
    ids : int64 array (N,)
        Places in ``Board.corners()``.
    xy : float32 array (N, 2)
        Pixels.
    """

    name: str
    ids: NDArray[np.int64]
    xy: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class LensFit:
    """What was fitted to V views.

    Attributes
    ----------
    matrix : float64 array (3, 3)
    distortion : float64 array (5,)
        ``k1, k2, p1, p2, k3``.
    rms : float
        Pixels, over all corners.
    errors : float64 array (V,)
        Pixels, root mean square of each view.
    normals : float64 array (V, 3)
        Direction in which the board looks, in the camera's axes (x right, y down, z ahead).
    focal_uncertainty : float
        Standard deviation of the focal length by the focal length, the worse of x and y.
    """

    matrix: NDArray[np.float64]
    distortion: NDArray[np.float64]
    rms: float
    errors: NDArray[np.float64]
    normals: NDArray[np.float64]
    focal_uncertainty: float


def fit_lens(views: Sequence[BoardView], board: Board, width: int, height: int) -> LensFit:
    """Fit pinhole and distortion (Zhang, 2000, as in ``cv2.calibrateCameraExtended``).

    Parameters
    ----------
    views : sequence of BoardView
        At least one, each with 6 or more corners that are not in one line.
    board : Board
    width, height : int
        Pixels of the pictures.

    Raises
    ------
    ValueError
        If no lens fits.
    """
    corners = board.corners().astype(np.float32)
    places: Any = [corners[view.ids] for view in views]
    seen: Any = [view.xy for view in views]
    start: Any = np.eye(3)
    try:
        rms, matrix, distortion, turns, _, deviations, _, errors = cv2.calibrateCameraExtended(
            places, seen, (width, height), start, np.zeros(5)
        )
    except cv2.error as error:
        raise ValueError(f"no lens fits: {error.err}") from None
    if not (np.isfinite(matrix).all() and np.isfinite(distortion).all()):
        raise ValueError("no lens fits: the numbers are not finite")
    rotations = [np.asarray(cv2.Rodrigues(turn)[0]) for turn in turns]
    focal = np.array([matrix[0, 0], matrix[1, 1]], np.float64)
    spread = np.asarray(deviations, np.float64).reshape(-1)[:2]
    return LensFit(
        matrix=np.asarray(matrix, np.float64),
        distortion=np.asarray(distortion, np.float64).reshape(-1)[:5],
        rms=float(rms),
        errors=np.asarray(errors, np.float64).reshape(-1),
        normals=np.array([-rotation[:, 2] for rotation in rotations], np.float64),
        focal_uncertainty=float((spread / focal).max()),
    )


def fit_without_bad(
    views: Sequence[BoardView], board: Board, width: int, height: int, *, max_error: float
) -> tuple[LensFit, list[BoardView]]:
    """Leave out the worst view and fit again, until each is within ``max_error`` pixels.

    One wrong picture bends the lens for all of them, so errors of a single fit do not tell
    which one it was.

    Returns
    -------
    (LensFit, list of BoardView)
        The last fit and the views that it holds for.
    """
    kept = list(views)
    fit = fit_lens(kept, board, width, height)
    while fit.errors.max() > max_error and len(kept) > max(SMALLEST_SET, len(views) // 2):
        del kept[int(fit.errors.argmax())]
        fit = fit_lens(kept, board, width, height)
    return fit, kept


def error_against(fit: LensFit, view: BoardView, board: Board) -> float:
    """Root mean square distance, pixels, of a view's corners from where the lens shows them in
    the pose that fits best; infinite if there is none."""
    places = board.corners()[view.ids]
    seen = view.xy.astype(np.float64)
    is_found, turn, shift = cv2.solvePnP(places, seen, fit.matrix, fit.distortion)
    if not is_found:
        return float("inf")
    shown, _ = cv2.projectPoints(places, turn, shift, fit.matrix, fit.distortion)
    distance = np.asarray(shown, np.float64).reshape(-1, 2) - seen
    return float(np.sqrt((distance**2).sum(axis=1).mean()))
