"""Calibration boards: ChArUco and chessboard, drawn for the printer and found in pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import InputError

__all__ = ["Board", "BoardKind", "draw_board", "find_corners", "make_board", "write_board"]

BoardKind = Literal["charuco", "chessboard"]

MARKER_SHARE = 0.75
"""Side of a marker by the side of its square."""
_DICTIONARY = cv2.aruco.DICT_5X5_1000
PRINT_DOTS_PER_MM = 12
"""About 300 dots an inch."""
PAGES = {"A4": (210.0, 297.0), "A3": (297.0, 420.0), "A2": (420.0, 594.0), "A1": (594.0, 841.0)}
EDGE_MM = 8.0
_NOTE_MM = 10.0


@dataclass(frozen=True)
class Board:
    """A flat board of black and white squares.

    Attributes
    ----------
    kind : str
        ``charuco`` (markers in the white squares: may be partly hidden) or ``chessboard``.
    columns, rows : int
        Squares.
    square_mm : float
        Side of a square, millimetres.
    """

    kind: BoardKind
    columns: int
    rows: int
    square_mm: float

    @property
    def corner_count(self) -> int:
        """Inner corners."""
        return (self.columns - 1) * (self.rows - 1)

    def corners(self) -> NDArray[np.float64]:
        """Inner corners (N, 3) in metres, row by row; the board's plane is z = 0."""
        y, x = np.mgrid[1 : self.rows, 1 : self.columns].reshape(2, -1)
        return np.column_stack([x, y, np.zeros(len(x))]) * self.square_mm / 1e3

    def __str__(self) -> str:
        return f"{self.kind} of {self.columns}x{self.rows} squares of {self.square_mm:g} mm"


def make_board(kind: str, squares: str, square_mm: float) -> Board:
    """A board from what a person typed: ``make_board("charuco", "9x6", 25.0)``.

    Raises
    ------
    InputError
        With everything that is wrong.
    """
    problems = []
    parts = squares.lower().split("x")
    columns, rows = (
        (int(parts[0]), int(parts[1]))
        if len(parts) == 2 and all(map(str.isdigit, parts))
        else (0, 0)
    )
    if kind not in ("charuco", "chessboard"):
        problems.append(f"there is no board '{kind}': charuco or chessboard")
    if not (4 <= columns <= 40 and 4 <= rows <= 40):
        problems.append(f"squares '{squares}' must be COLUMNSxROWS, 4 to 40 each, for example 9x6")
    elif kind == "chessboard" and columns == rows:
        problems.append("a chessboard with as many rows as columns looks the same when turned")
    if not 1 <= square_mm <= 1000:
        problems.append(f"square-mm {square_mm:g} is not between 1 and 1000")
    if problems:
        raise InputError("calibration board", problems, "say what is printed on your board")
    return Board("charuco" if kind == "charuco" else "chessboard", columns, rows, square_mm)


def draw_board(board: Board, square_dots: int) -> NDArray[np.uint8]:
    """The board without an edge: uint8 (rows * square_dots, columns * square_dots), grey."""
    size = (board.columns * square_dots, board.rows * square_dots)
    if board.kind == "charuco":
        return np.asarray(_charuco(board).generateImage(size), np.uint8)
    y, x = np.mgrid[: size[1], : size[0]] // square_dots
    return np.asarray(((x + y) % 2) * 255, np.uint8)


def find_corners(
    grey: NDArray[np.uint8], board: Board
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Inner corners that are seen, to a fraction of a pixel.

    Parameters
    ----------
    grey : uint8 array (H, W)
    board : Board

    Returns
    -------
    (int64 array (N,), float32 array (N, 2))
        Places in :meth:`Board.corners`, and pixels. Empty where the board is not found.
    """
    nothing = np.zeros(0, np.int64), np.zeros((0, 2), np.float32)
    if board.kind == "charuco":
        corners, ids, _, _ = cv2.aruco.CharucoDetector(_charuco(board)).detectBoard(grey)
        if ids is None or not len(ids):
            return nothing
        places = np.asarray(ids, np.int64).reshape(-1)
        return _refine(grey, board, places, np.asarray(corners, np.float32).reshape(-1, 2))
    size = (board.columns - 1, board.rows - 1)
    # The first is fifty times faster, the second finds boards that the first does not.
    is_found, corners = cv2.findChessboardCorners(grey, size)
    if not is_found:
        flags = cv2.CALIB_CB_NORMALIZE_IMAGE
        is_found, corners = cv2.findChessboardCornersSB(grey, size, flags=flags)
    if not is_found:
        return nothing
    places = np.arange(board.corner_count)
    return _refine(grey, board, places, np.asarray(corners, np.float32).reshape(-1, 2))


def write_board(path: Path, board: Board) -> Path:
    """Write the board as a page to print at 100 %: ``.pdf`` or ``.png``.

    The page is the smallest of A4 to A1 that holds the board, else as large as the board.

    Raises
    ------
    InputError
        If the suffix is neither, or the board is larger than 10 metres.
    """
    import io

    from PIL import Image, ImageDraw, ImageFont

    from visionloop.core.files import write_bytes

    kind = {".pdf": "PDF", ".png": "PNG"}.get(path.suffix.lower())
    if kind is None:
        raise InputError(str(path), "must end with .pdf or .png")
    width, height = _page_size(board)
    if max(width, height) > 10_000:
        raise InputError(str(path), f"the page would be {max(width, height) / 1e3:.1f} metres long")
    dots = min(PRINT_DOTS_PER_MM, int(20_000 / max(width, height)))
    # A whole number of dots a square; the resolution written in the file makes it exact.
    square = max(1, round(board.square_mm * dots))
    drawn = draw_board(board, square)
    page = Image.new("L", (round(width * dots), round(height * dots)), 255)
    left, top = (page.width - drawn.shape[1]) // 2, round(EDGE_MM * dots)
    page.paste(Image.fromarray(drawn), (left, top))
    note = f"visionloop  {board}  print at 100 %, measure a square, glue flat on a stiff plate"
    font = ImageFont.load_default(size=4 * dots)
    place = (left, top + drawn.shape[0] + 3 * dots)
    ImageDraw.Draw(page).text(place, note, fill=90, font=font)
    buffer = io.BytesIO()
    inch = square / board.square_mm * 25.4
    page.save(buffer, kind, **({"resolution": inch} if kind == "PDF" else {"dpi": (inch, inch)}))
    return write_bytes(path, buffer.getvalue())


def _page_size(board: Board) -> tuple[float, float]:
    """Millimetres; upright or lying as the board is."""
    width = board.columns * board.square_mm + 2 * EDGE_MM
    height = board.rows * board.square_mm + 2 * EDGE_MM + _NOTE_MM
    for short, long in PAGES.values():
        page = (long, short) if width >= height else (short, long)
        if width <= page[0] and height <= page[1]:
            return page
    return width, height


def _refine(
    grey: NDArray[np.uint8], board: Board, ids: NDArray[np.int64], xy: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """To the saddle point of the grey levels (Foerstner and Guelch, 1987).

    OpenCV before 4.13 adds half a pixel to ChArUco corners
    (https://github.com/opencv/opencv/issues/25539), which moves the principal point, and
    takes windows that reach into the markers of a tilted board.
    """
    steps = _steps(board, ids, xy)
    # First from farther away: with a strong lens the start is some pixels off. Then within
    # an eighth of a square, so that the window does not reach the markers.
    start = xy + np.float32(0.01)
    near = _refine_within(grey, start, np.clip(0.25 * steps, 2, 11).astype(np.int64))
    # A corner that was not found comes back as it was given, to the last bit.
    is_found = (near != start).any(axis=1)
    ids, near, steps = ids[is_found], near[is_found], steps[is_found]
    return ids, _refine_within(grey, near, np.clip(0.125 * steps, 2, 11).astype(np.int64))


def _refine_within(
    grey: NDArray[np.uint8], xy: NDArray[np.float32], half: NDArray[np.int64]
) -> NDArray[np.float32]:
    """One pass; each corner has its own half side of the window, pixels."""
    refined = xy.copy()
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 50, 1e-3)
    for size in np.unique(half):
        chosen = half == size
        start = np.ascontiguousarray(xy[chosen]).reshape(-1, 1, 2)
        window = (int(size), int(size))
        found = cv2.cornerSubPix(grey, start, window, (-1, -1), criteria)
        refined[chosen] = np.asarray(found, np.float32).reshape(-1, 2)
    return refined


def _steps(board: Board, ids: NDArray[np.int64], xy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Distance of each corner to its nearest neighbour on the board, pixels; 0 without one."""
    row, column = np.divmod(ids, board.columns - 1)
    beside = abs(row[:, None] - row) + abs(column[:, None] - column) == 1
    distance = np.linalg.norm(xy[:, None] - xy, axis=2)
    nearest = np.where(beside, distance, np.inf).min(axis=1, initial=np.inf)
    return np.where(np.isfinite(nearest), nearest, 0).astype(np.float32)


def _charuco(board: Board) -> Any:
    dictionary = cv2.aruco.getPredefinedDictionary(_DICTIONARY)
    square = board.square_mm / 1e3
    size = (board.columns, board.rows)
    return cv2.aruco.CharucoBoard(size, square, square * MARKER_SHARE, dictionary)
