"""A folder of pictures of a calibration board: which can be used, and why the others cannot."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import DataError
from visionloop.core.progress import track
from visionloop.data.collection.board import Board, find_corners
from visionloop.data.collection.lens_fit import BoardView
from visionloop.serving.images import IMAGE_SUFFIXES, read_image

__all__ = ["BoardPicture", "read_board_pictures"]

MIN_CORNERS = 8
_THUMBNAIL = 360


@dataclass(frozen=True, eq=False)
class BoardPicture:
    """One picture of the folder and what came of it.

    Attributes
    ----------
    name : str
    problem : str
        Why it was not used; empty for a picture that was.
    view : BoardView or None
    thumbnail : bytes
        JPEG with the corners that were found; empty if it could not be read.
    error : float
        Pixels, root mean square, against the lens that was fitted; NaN without one.
    tilt : float
        Degrees; NaN without a fit.
    """

    name: str
    problem: str = ""
    view: BoardView | None = None
    thumbnail: bytes = b""
    error: float = float("nan")
    tilt: float = float("nan")


def read_board_pictures(folder: Path, board: Board) -> tuple[list[BoardPicture], int, int]:
    """Look for the board in every PNG and JPEG file of a folder.

    Returns
    -------
    (list of BoardPicture, int, int)
        By name; width and height that most pictures have (0 if none can be read). A picture
        of another size has a problem.

    Raises
    ------
    DataError
        If there is no picture in the folder.
    """
    paths = sorted(
        path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if path.suffix.lower() in IMAGE_SUFFIXES
    )
    if not paths:
        raise DataError(str(folder), "holds no PNG or JPEG file", "name the folder of pictures")
    found = [_read_picture(path, board) for path in track(paths, "looking for the board")]
    sizes = Counter(size for _, size in found if size != (0, 0))
    common = sizes.most_common(1)[0][0] if sizes else (0, 0)
    return [_check_size(picture, size, common) for picture, size in found], *common


def _read_picture(path: Path, board: Board) -> tuple[BoardPicture, tuple[int, int]]:
    try:
        image = read_image(path)
    except DataError as error:
        return BoardPicture(path.name, "; ".join(error.problems)), (0, 0)
    height, width = image.shape[:2]
    ids, xy = find_corners(np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8), board)
    thumbnail = _draw(image, xy)
    problem = _corner_problem(board, ids)
    view = None if problem else BoardView(path.name, ids, xy)
    return BoardPicture(path.name, problem, view, thumbnail), (width, height)


def _corner_problem(board: Board, ids: NDArray[np.int64]) -> str:
    if not len(ids):
        return f"no {board} was found in it"
    row, column = np.divmod(ids, board.columns - 1)
    if len(ids) < MIN_CORNERS or len(set(row.tolist())) < 2 or len(set(column.tolist())) < 2:
        return f"only {len(ids)} of the {board.corner_count} corners were found"
    return ""


def _check_size(
    picture: BoardPicture, size: tuple[int, int], common: tuple[int, int]
) -> BoardPicture:
    if size in ((0, 0), common):
        return picture
    problem = f"has {size[0]} x {size[1]} pixels, most pictures have {common[0]} x {common[1]}"
    return replace(picture, problem=problem, view=None)


def _draw(image: NDArray[np.uint8], xy: NDArray[np.float32]) -> bytes:
    """A small JPEG with the corners that were found."""
    scale = min(1.0, _THUMBNAIL / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    for x, y in xy * scale:
        cv2.circle(small, (round(float(x)), round(float(y))), 3, (60, 60, 235), 1, cv2.LINE_AA)
    done, coded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 82])
    return bytes(coded) if done else b""
