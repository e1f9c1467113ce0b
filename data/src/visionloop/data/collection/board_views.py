"""Pictures of a board through a lens that is known exactly: the proof of the calibration.

Every output pixel is the mean of several rays; each ray is bent by the lens, meets the
board's plane and reads the drawn board there. Nothing of the calibration's own mathematics
is used: the distortion is inverted here, by Newton's method.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.data.collection.board import Board, draw_board

__all__ = ["KnownLens", "bend", "look_at_board", "render_board", "spread_poses", "straighten"]

Floats = NDArray[np.float64]
_SQUARE_DOTS = 64
_BACKGROUND = 110.0


@dataclass(frozen=True, eq=False)
class KnownLens:
    """A lens with known numbers.

    Attributes
    ----------
    width, height : int
        Pixels.
    matrix : float64 array (3, 3)
    distortion : float64 array (5,)
        ``k1, k2, p1, p2, k3``.
    rays_a_pixel : int
        Rays along each side of a pixel.
    """

    width: int
    height: int
    matrix: Floats
    distortion: Floats
    rays_a_pixel: int = 3

    @cached_property
    def rays(self) -> NDArray[np.float32]:
        """Where each ray meets the plane at distance 1: (H * r, W * r, 2)."""
        step = 1 / self.rays_a_pixel
        x = np.arange(self.width * self.rays_a_pixel) * step + (step - 1) / 2
        y = np.arange(self.height * self.rays_a_pixel) * step + (step - 1) / 2
        grid = np.stack(np.meshgrid(x, y), axis=-1)
        bent = (grid - self.matrix[:2, 2]) / [self.matrix[0, 0], self.matrix[1, 1]]
        return straighten(bent, self.distortion).astype(np.float32)


def bend(straight: Floats, distortion: Floats) -> Floats:
    """Brown-Conrady: ideal to distorted normalised coordinates, arrays (..., 2)."""
    k1, k2, p1, p2, k3 = distortion
    x, y = straight[..., 0], straight[..., 1]
    square = x * x + y * y
    radial = 1 + square * (k1 + square * (k2 + square * k3))
    return np.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (square + 2 * x * x),
            y * radial + p1 * (square + 2 * y * y) + 2 * p2 * x * y,
        ],
        axis=-1,
    )


def straighten(bent: Floats, distortion: Floats) -> Floats:
    """The inverse of :func:`bend`, by Newton's method with the radial derivative."""
    k1, k2, _, _, k3 = distortion
    straight = bent.copy()
    for _ in range(12):
        square = (straight**2).sum(axis=-1, keepdims=True)
        slope = 1 + square * (3 * k1 + square * (5 * k2 + square * 7 * k3))
        step = (bend(straight, distortion) - bent) / np.maximum(slope, 0.2)
        straight -= step
        if np.abs(step).max() < 1e-9:
            break
    return straight


def look_at_board(
    board: Board, *, turn: tuple[float, float, float], centre: tuple[float, float, float]
) -> tuple[Floats, Floats]:
    """Pose of a board: rotation (3, 3) and translation (3,) in metres.

    Parameters
    ----------
    board : Board
    turn : degrees about the camera's x axis (tip), y axis (turn) and z axis (roll)
    centre : metres
        Where the middle of the board is: right, down, ahead.
    """
    tip, side, roll = (np.deg2rad(angle) for angle in turn)
    about_x = cv2.Rodrigues(np.array([tip, 0, 0]))[0]
    about_y = cv2.Rodrigues(np.array([0, side, 0]))[0]
    about_z = cv2.Rodrigues(np.array([0, 0, roll]))[0]
    rotation = np.asarray(about_x @ about_y @ about_z, np.float64)
    middle = np.array([board.columns, board.rows, 0]) * board.square_mm / 2e3
    return rotation, np.asarray(centre, np.float64) - rotation @ middle


def spread_poses(
    board: Board, lens: KnownLens, count: int, *, seed: int, fill: float = 0.55, reach: float = 0.24
) -> list[tuple[Floats, Floats]]:
    """Poses as a careful person takes them: all over the picture, tipped and turned.

    ``fill`` is the board's width by the picture's; ``reach`` is how far its middle goes from
    the picture's, by the picture's size: above .22 a board may leave the picture in part.
    """
    rng = np.random.default_rng(seed)
    focal = lens.matrix[0, 0]
    length = board.columns * board.square_mm / 1e3
    poses = []
    for number in range(count):
        ahead = focal * length / (fill * lens.width) * rng.uniform(0.9, 1.15)
        column, row = number % 3 - 1, number // 3 % 3 - 1
        away = np.array([lens.width, lens.height]) / focal * ahead * reach
        centre = (column * away[0], row * away[1], ahead)
        signs = rng.choice([-1, 1], 2)
        tilt = rng.uniform(15, 38) if number % 4 else 0.0
        turn = (tilt * signs[0], 0.0) if number % 2 else (0.0, tilt * signs[1])
        poses.append(look_at_board(board, turn=(*turn, rng.uniform(-8, 8)), centre=centre))
    return poses


def render_board(
    lens: KnownLens,
    board: Board,
    pose: tuple[Floats, Floats],
    *,
    noise: float = 2.0,
    seed: int = 0,
) -> NDArray[np.uint8]:
    """A picture of the board.

    Parameters
    ----------
    lens : KnownLens
    board : Board
    pose : rotation (3, 3), translation (3,) in metres
    noise : float
        Standard deviation of sensor noise, grey levels.
    seed : int

    Returns
    -------
    uint8 array (H, W), grey
    """
    rotation, shift = pose
    # Board plane (X, Y, 1) to ray: columns r1, r2, t; its inverse takes a ray to the board.
    to_board = np.linalg.inv(np.column_stack([rotation[:, 0], rotation[:, 1], shift]))
    dots = _SQUARE_DOTS / (board.square_mm / 1e3)
    edge = _SQUARE_DOTS // 2
    # Dots of the drawing with its white edge; a corner lies between two dots.
    to_dots = np.array([[dots, 0, edge - 0.5], [0, dots, edge - 0.5], [0, 0, 1]]) @ to_board
    drawn = np.pad(draw_board(board, _SQUARE_DOTS).astype(np.float32), edge, constant_values=255)
    soft = _as_small_as_seen(drawn, lens, shift, board)
    x, y = lens.rays[..., 0], lens.rays[..., 1]
    m = to_dots.astype(np.float32)
    depth = m[2, 0] * x + m[2, 1] * y + m[2, 2]
    column = (m[0, 0] * x + m[0, 1] * y + m[0, 2]) / depth
    row = (m[1, 0] * x + m[1, 1] * y + m[1, 2]) / depth
    fine = cv2.remap(
        soft, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=_BACKGROUND
    )
    size = (lens.width, lens.height)
    seen = np.asarray(cv2.resize(fine, size, interpolation=cv2.INTER_AREA), np.float64) * 0.8 + 20
    soft_seen = np.asarray(cv2.GaussianBlur(seen, (0, 0), 0.6), np.float64)  # of optics
    noisy = soft_seen + np.random.default_rng(seed).normal(0, noise, seen.shape)
    return np.asarray(np.clip(np.rint(noisy), 0, 255), np.uint8)


def _as_small_as_seen(
    drawn: NDArray[np.float32], lens: KnownLens, shift: Floats, board: Board
) -> NDArray[np.float32]:
    """Blur the drawing to about the distance of two rays, so that nothing aliases."""
    square = lens.matrix[0, 0] * (board.square_mm / 1e3) / shift[2] * lens.rays_a_pixel
    sigma = max(0.5 * _SQUARE_DOTS / square, 0.3)
    return np.asarray(cv2.GaussianBlur(drawn, (0, 0), sigma), np.float32)
