"""Generated circuit boards: copper on a clean template, then DeepPCB's six defects on it.

For machines that can reach neither a mirror nor a network. A board is parallel copper
traces with corners and pads (copper is black on white, as in DeepPCB); each defect is
drawn where its kind can occur, and its box is measured from the pixels that it changed.
"""

from __future__ import annotations

import random
from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["GeneratedBoards", "draw_board", "draw_template"]

SIDE = 640
MARGIN = 8
"""Pixels that a box shows around the changed pixels, as people draw it."""
BOARDS = {
    # board: (images, in the official test split, dense)
    "00041": (200, False, False),
    "20085": (200, False, False),
    "44000": (160, False, False),
    "50600": (90, False, True),
    "92000": (90, False, True),
    "12100": (110, True, False),
    "12000": (60, True, True),
}

Boxes = list[tuple[float, float, float, float, str]]
Mask = NDArray[np.uint8]
Point = tuple[int, int]


class GeneratedBoards:
    """Boards drawn on demand: the same seed and name give the same bytes."""

    source = "generated"
    licence = "Apache-2.0 (drawn by visionloop)"

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def names(self) -> dict[str, bool]:
        """Name of each image to "belongs to the test split"."""
        return {
            f"{board}{number:03d}": test
            for board, (count, test, _) in BOARDS.items()
            for number in range(count)
        }

    def image(self, name: str) -> bytes:
        """The image file, 1-bit PNG of 640 x 640."""
        return _coded(self._seed, name)[0]

    def template(self, name: str) -> bytes:
        """The same board before its defects were drawn."""
        generator = random.Random(f"{self._seed}:{name}")
        copper, _, _ = draw_template(generator, dense=BOARDS[name[:5]][2])
        _, coded = cv2.imencode(".png", 255 - copper, [cv2.IMWRITE_PNG_BILEVEL, 1])
        return bytes(coded)

    def boxes(self, name: str) -> Boxes:
        """Its defects."""
        return list(_coded(self._seed, name)[1])


@lru_cache(maxsize=2048)
def _coded(seed: int, name: str) -> tuple[bytes, Boxes]:
    image, boxes = draw_board(seed=f"{seed}:{name}", dense=BOARDS[name[:5]][2])
    _, coded = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_BILEVEL, 1])
    return bytes(coded), boxes


def draw_board(*, seed: str, dense: bool) -> tuple[NDArray[np.uint8], Boxes]:
    """Draw a board with 3 to 10 defects.

    Parameters
    ----------
    seed : str
        Decides everything.
    dense : bool
        Closely packed traces.

    Returns
    -------
    image : uint8 array (640, 640), 0 (copper) or 255
    boxes : list of (x1, y1, x2, y2, class name)
        Pixels; exact: every pixel that differs from the template lies in a box.
    """
    generator = random.Random(seed)
    copper, lines, width = draw_template(generator, dense=dense)
    board = copper.copy()
    boxes: Boxes = []
    kinds = list(DEFECTS)
    for _ in range(generator.randint(3, 10)):
        kind = generator.choice(kinds)
        for _ in range(20):
            changed = DEFECTS[kind](board, lines, width, generator)
            box = _box_of(changed, board)
            if box is None or _touches(box, boxes):
                continue
            board = changed
            boxes.append((*box, kind))
            break
    return np.where(board > 0, 0, 255).astype(np.uint8), boxes


def draw_template(
    generator: random.Random, *, dense: bool
) -> tuple[Mask, list[tuple[Point, Point]], int]:
    """Draw clean copper.

    Returns
    -------
    copper : uint8 array (640, 640), 255 where copper is
    lines : list of (start, end)
        Straight pieces of the traces, for the defects.
    width : int
        Of the traces, pixels.
    """
    copper = np.zeros((SIDE, SIDE), np.uint8)
    width = generator.randint(9, 13) if dense else generator.randint(14, 24)
    pitch = width * 2 + generator.randint(1, 4) if dense else width * 3 + generator.randint(4, 30)
    bend = generator.randint(180, 460)
    shift = generator.choice((-1, 0, 1)) * generator.randint(40, 120)
    lines: list[tuple[Point, Point]] = []
    for x in range(pitch // 2 - abs(shift), SIDE + abs(shift), pitch):
        if not dense and generator.random() < 0.25:
            _draw_pad(copper, x, generator, width)
            continue
        points = [(x, 0), (x, bend), (x + shift, bend + abs(shift)), (x + shift, SIDE - 1)]
        for start, end in pairwise(points):
            cv2.line(copper, start, end, 255, width)
            if abs(end[1] - start[1]) > 60 and start[0] == end[0]:
                lines.append((start, end))
        if generator.random() < 0.5:
            place = (points[1][0], generator.randint(60, max(61, bend - 60)))
            cv2.circle(copper, place, int(width * (0.8 if dense else 1.1)), 255, -1)
    if generator.random() < 0.5:
        return np.ascontiguousarray(copper.T), [(a[::-1], b[::-1]) for a, b in lines], width
    return copper, lines, width


def _draw_pad(copper: Mask, x: int, generator: random.Random, width: int) -> None:
    for _ in range(generator.randint(1, 3)):
        place = (x, generator.randint(40, SIDE - 40))
        radius = int(width * generator.uniform(1.0, 1.4))
        cv2.circle(copper, place, radius, 255, -1)
        if generator.random() < 0.5:
            cv2.circle(copper, place, radius // 3, 0, -1)


def _on_trace(lines: list[tuple[Point, Point]], generator: random.Random) -> tuple[Point, Point]:
    """A place on a straight piece of trace, and the direction across it."""
    (x1, y1), (x2, y2) = generator.choice(lines)
    share = generator.uniform(0.12, 0.88)
    place = (round(x1 + share * (x2 - x1)), round(y1 + share * (y2 - y1)))
    return place, ((1, 0) if x1 == x2 else (0, 1))


def _blob(mask: Mask, place: Point, radius: float, value: int, generator: random.Random) -> None:
    """A ragged spot: a polygon with random radii around a place."""
    corners = [
        (
            place[0] + radius * generator.uniform(0.7, 1.2) * np.cos(angle),
            place[1] + radius * generator.uniform(0.7, 1.2) * np.sin(angle),
        )
        for angle in np.linspace(0, 2 * np.pi, 11)[:-1]
    ]
    cv2.fillPoly(mask, [np.round(corners).astype(np.int32)], value)


def _open(board: Mask, lines: list[tuple[Point, Point]], width: int, g: random.Random) -> Mask:
    """A trace is cut through."""
    changed = board.copy()
    place, across = _on_trace(lines, g)
    reach = width // 2 + 3
    start = (place[0] - across[0] * reach, place[1] - across[1] * reach)
    end = (place[0] + across[0] * reach + g.randint(-3, 3), place[1] + across[1] * reach)
    cv2.line(changed, start, end, 0, g.randint(4, 9))
    return changed


def _short(board: Mask, lines: list[tuple[Point, Point]], width: int, g: random.Random) -> Mask:
    """Copper bridges the gap to the next trace."""
    changed = board.copy()
    place, across = _on_trace(lines, g)
    sign = g.choice((-1, 1))
    x, y = place
    for _ in range(width // 2 + 2):  # to the edge of this trace
        x, y = x + sign * across[0], y + sign * across[1]
    for reach in range(4, 90):
        end = (x + sign * across[0] * reach, y + sign * across[1] * reach)
        if not (0 <= end[0] < SIDE and 0 <= end[1] < SIDE):
            return board
        if board[end[1], end[0]]:
            cv2.line(changed, place, end, 255, g.randint(3, 7))
            return changed
    return board


def _mousebite(board: Mask, lines: list[tuple[Point, Point]], width: int, g: random.Random) -> Mask:
    """A bite out of the edge of a trace, which still conducts."""
    changed = board.copy()
    place, across = _on_trace(lines, g)
    reach = g.choice((-1, 1)) * width / 2
    edge = (round(place[0] + across[0] * reach), round(place[1] + across[1] * reach))
    _blob(changed, edge, width * g.uniform(0.3, 0.42), 0, g)
    return changed


def _spur(board: Mask, lines: list[tuple[Point, Point]], width: int, g: random.Random) -> Mask:
    """A thorn of copper that reaches nowhere."""
    changed = board.copy()
    place, across = _on_trace(lines, g)
    reach = g.choice((-1, 1)) * (width / 2 + width * g.uniform(0.35, 0.55))
    tip = (round(place[0] + across[0] * reach), round(place[1] + across[1] * reach))
    cv2.line(changed, place, tip, 255, g.randint(3, max(4, width // 3)))
    return changed


def _copper(board: Mask, lines: list[tuple[Point, Point]], width: int, g: random.Random) -> Mask:
    """A spot of copper where none should be."""
    changed = board.copy()
    for _ in range(30):
        place = (g.randint(20, SIDE - 20), g.randint(20, SIDE - 20))
        radius = max(3.0, width * g.uniform(0.2, 0.3))
        reach = int(radius * 1.2) + 3
        around = board[place[1] - reach : place[1] + reach, place[0] - reach : place[0] + reach]
        if not around.any():
            _blob(changed, place, radius, 255, g)
            return changed
    return board


def _pin_hole(board: Mask, lines: list[tuple[Point, Point]], width: int, g: random.Random) -> Mask:
    """A hole inside the copper."""
    changed = board.copy()
    place, _ = _on_trace(lines, g)
    _blob(changed, place, max(2.0, width * g.uniform(0.16, 0.26)), 0, g)
    return changed


DEFECTS = {
    "open": _open,
    "short": _short,
    "mousebite": _mousebite,
    "spur": _spur,
    "copper": _copper,
    "pin-hole": _pin_hole,
}
"""Kind to function ``(board, lines, trace width, generator) -> changed board``."""


def _box_of(changed: Mask, board: Mask) -> tuple[float, float, float, float] | None:
    """The changed pixels with a margin, clipped to the image; None if nothing changed."""
    rows, columns = np.nonzero(changed != board)
    if len(rows) < 6:
        return None
    return (
        float(max(0, int(columns.min()) - MARGIN)),
        float(max(0, int(rows.min()) - MARGIN)),
        float(min(SIDE, int(columns.max()) + 1 + MARGIN)),
        float(min(SIDE, int(rows.max()) + 1 + MARGIN)),
    )


def _touches(box: tuple[float, float, float, float], boxes: Boxes) -> bool:
    return any(
        box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]
        for other in boxes
    )
