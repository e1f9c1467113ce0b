"""Calibration against lenses that are known exactly: what is recovered, beside plain OpenCV.

For each lens and seed, 14 pictures of a ChArUco board are rendered through the lens (noise of
2 grey levels) and calibrated. Peer: the corners as ``cv2.aruco.CharucoDetector`` gives them,
the same fit. Before OpenCV 4.13 these are half a pixel off. Under two minutes.

    python benchmarks/calibration.py [--seeds 3]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from report import make_row, save_results

from visionloop.core.progress import track
from visionloop.data.collection.board import Board, find_corners, make_board
from visionloop.data.collection.board_views import (
    KnownLens,
    bend,
    render_board,
    spread_poses,
    straighten,
)
from visionloop.data.collection.lens_fit import BoardView, LensFit, fit_lens

WIDTH, HEIGHT = 640, 480
VIEWS = 14
LENSES = {
    "narrow": (900.0, (-0.12, 0.03, 0.0003, -0.0004, 0.0)),
    "normal": (520.0, (-0.28, 0.09, 0.0008, -0.0006, 0.0)),
    "wide": (380.0, (-0.31, 0.11, -0.0005, 0.0007, -0.015)),
}
"""Focal length in pixels; k1, k2, p1, p2, k3."""


def main() -> None:
    """Measure, print the table, write ``results/calibration.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="sets of pictures of each lens")
    options = parser.parse_args()
    board = make_board("charuco", "9x6", 25.0)
    rows = []
    for name, (focal, distortion) in LENSES.items():
        matrix = np.array([[focal, 0, 322.5], [0, focal * 1.01, 236.0], [0, 0, 1]])
        lens = KnownLens(WIDTH, HEIGHT, matrix, np.array(distortion))
        found = [
            measure(lens, board, seed)
            for seed in track(range(options.seeds), f"{name} lens", total=options.seeds)
        ]
        rows += lens_rows(name, [one for one, _ in found], [other for _, other in found])
    save_results("calibration", rows, opencv=cv2.__version__, seeds=options.seeds)


def measure(lens: KnownLens, board: Board, seed: int) -> tuple[dict[str, float], dict[str, float]]:
    """Errors of our corners and of OpenCV's own, on the same pictures."""
    ours, plain = Corners(), Corners()
    for number, pose in enumerate(spread_poses(board, lens, VIEWS, seed=seed, reach=0.32)):
        image = render_board(lens, board, pose, seed=100 * seed + number)
        true = shown(lens, board, pose)
        for side, find in ((ours, find_corners), (plain, as_opencv)):
            ids, xy = find(image, board)
            if len(ids) >= 8:
                side.views.append(BoardView(str(number), ids, xy))
                side.offsets.append(xy - true[ids])
    return ours.errors(lens, board), plain.errors(lens, board)


@dataclass
class Corners:
    """What one side found: views, and how far its corners are from the truth, pixels."""

    views: list[BoardView] = field(default_factory=list)
    offsets: list[NDArray[np.float64]] = field(default_factory=list)

    def errors(self, lens: KnownLens, board: Board) -> dict[str, float]:
        """Of the corners, and of the lens that is fitted to them."""
        off = np.concatenate(self.offsets)
        bias = float(np.hypot(*off.mean(axis=0)))
        rms = float(np.sqrt((off**2).sum(axis=1).mean()))
        fit = fit_lens(self.views, board, WIDTH, HEIGHT)
        return {"bias": bias, "rms": rms, **errors(fit, lens)}


def shown(lens: KnownLens, board: Board, pose: tuple[Any, Any]) -> NDArray[np.float64]:
    """Where the lens shows the corners, pixels (N, 2)."""
    ahead = board.corners() @ pose[0].T + pose[1]
    bent = bend(ahead[:, :2] / ahead[:, 2:], lens.distortion)
    return np.asarray(bent * lens.matrix[[0, 1], [0, 1]] + lens.matrix[:2, 2])


def as_opencv(
    image: NDArray[np.uint8], board: Board
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Corners as the detector gives them."""
    dictionary = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_5X5_1000)
    square = board.square_mm / 1e3
    grid = cv2.aruco.CharucoBoard((board.columns, board.rows), square, square * 0.75, dictionary)
    corners, ids, _, _ = cv2.aruco.CharucoDetector(grid).detectBoard(image)
    if ids is None:
        return np.zeros(0, np.int64), np.zeros((0, 2), np.float32)
    return ids.reshape(-1).astype(np.int64), corners.reshape(-1, 2)


def errors(fit: LensFit, lens: KnownLens) -> dict[str, float]:
    """How far a fit is from the truth."""
    true = displacement(lens.matrix, lens.distortion)
    off = displacement(fit.matrix, fit.distortion) - true
    focal = fit.matrix[[0, 1], [0, 1]] / lens.matrix[[0, 1], [0, 1]]
    return {
        "focal": float(abs(focal - 1).max()),
        "centre": float(np.hypot(*(fit.matrix[:2, 2] - lens.matrix[:2, 2]))),
        "k1": float(abs(fit.distortion[0] / lens.distortion[0] - 1)),
        "field": float(np.sqrt((off**2).mean() / (true**2).mean())),
    }


def displacement(matrix: NDArray[np.float64], distortion: NDArray[np.float64]) -> Any:
    """How far a lens moves the points of the picture, pixels."""
    x, y = np.meshgrid(np.linspace(0, WIDTH - 1, 17), np.linspace(0, HEIGHT - 1, 13))
    pixels = np.stack([x, y], axis=-1)
    focal, centre = matrix[[0, 1], [0, 1]], matrix[:2, 2]
    return pixels - (straighten((pixels - centre) / focal, distortion) * focal + centre)


def lens_rows(
    name: str, ours: list[dict[str, float]], plain: list[dict[str, float]]
) -> list[dict[str, Any]]:
    """Worst of the seeds for each figure."""
    claims = (
        ("focal length off by (share)", "focal", 0.01),
        ("k1 off by (share)", "k1", 0.05),
        ("displacement field off by (share)", "field", 0.05),
        ("centre off by (pixels)", "centre", None),
        ("corners off by (pixels, RMS)", "rms", None),
        ("corners off by (pixels, mean offset)", "bias", None),
    )
    return [
        make_row(
            f"{name} lens, {claim}, worst of {len(ours)}",
            max(one[key] for one in ours),
            peer=max(one[key] for one in plain),
            peer_name=f"OpenCV {cv2.__version__} corners as they come",
            target=target,
            higher_is_better=False,
        )
        for claim, key, target in claims
    ]


if __name__ == "__main__":
    main()
