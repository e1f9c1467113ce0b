"""The page of ``calibrate``: verdict, where the board was seen, what the lens does, pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from visionloop.core.files import write_bytes
from visionloop.data.collection.board import Board
from visionloop.data.collection.board_pictures import BoardPicture
from visionloop.data.collection.calibration import undistort_pixels
from visionloop.data.collection.calibration_params import CalibrateParams
from visionloop.data.collection.coverage import GRID, cover
from visionloop.data.collection.html_report import as_data_url, write_html
from visionloop.data.collection.lens_fit import BoardView, LensFit

if TYPE_CHECKING:
    from visionloop.data.collection.calibrate import CalibrateReport

__all__ = ["draw_coverage", "write_calibration_page"]

MAX_PICTURES = 60
INK, GRID_INK, SEEN = "#1f2933", "#c7cfd9", "#dcefe3"


def write_calibration_page(
    folder: Path,
    report: CalibrateReport,
    pictures: Sequence[BoardPicture],
    fit: LensFit | None,
    kept: Sequence[BoardView],
    size: tuple[int, int],
    board: Board,
    params: CalibrateParams,
) -> Path:
    """Write ``coverage.png`` and ``index.html`` into ``folder``."""
    coverage = ""
    if fit is not None:
        content = draw_coverage(fit, kept, *size)
        write_bytes(folder / "coverage.png", content)
        coverage = as_data_url(content, "png")
    worst_first = sorted(
        pictures, key=lambda one: (not one.problem, -one.error if one.error == one.error else 0)
    )
    rows = [
        {
            "name": one.name,
            "problem": one.problem,
            "error": one.error if one.error == one.error else None,
            "tilt": one.tilt if one.tilt == one.tilt else None,
            "corners": 0 if one.view is None else len(one.view.ids),
            "picture": as_data_url(one.thumbnail, "jpeg")
            if one.thumbnail and number < MAX_PICTURES
            else "",
        }
        for number, one in enumerate(worst_first)
    ]
    return write_html(
        folder / "index.html",
        "calibrate.html.j2",
        report=report,
        rows=rows,
        fit=fit,
        size=size,
        board=board,
        params=params,
        coverage=coverage,
    )


def draw_coverage(fit: LensFit, kept: Sequence[BoardView], width: int, height: int) -> bytes:
    """PNG: the corners of all pictures with their error, and how far the lens moves points."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tall = 4.3 * height / width + 0.6
    figure = Figure(figsize=(11.4, tall), dpi=110, layout="constrained")
    seen, bent = figure.subplots(1, 2)
    _draw_seen(figure, seen, fit, kept, width, height)
    _draw_lens(figure, bent, fit, width, height)
    for axes in (seen, bent):
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)
        axes.set_aspect("equal")
        axes.set_xticks([0, width])
        axes.set_yticks([0, height])
        axes.tick_params(colors=INK, labelsize=8, length=0)
    buffer = io.BytesIO()
    figure.set_canvas(FigureCanvasAgg(figure))
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw_seen(
    figure: Any, axes: Any, fit: LensFit, kept: Sequence[BoardView], width: int, height: int
) -> None:
    from matplotlib.patches import Rectangle

    counts = cover(kept, width, height)
    wide, tall = width / GRID[1], height / GRID[0]
    for row, column in np.ndindex(*GRID):
        colour = SEEN if counts[row, column] else "#ffffff"
        place = (column * wide, row * tall)
        axes.add_patch(Rectangle(place, wide, tall, facecolor=colour, edgecolor=GRID_INK, lw=0.6))
    xy = np.concatenate([view.xy for view in kept])
    error = np.concatenate(
        [np.full(len(view.xy), error) for view, error in zip(kept, fit.errors, strict=True)]
    )
    dots = axes.scatter(xy[:, 0], xy[:, 1], c=error, s=7, cmap="viridis_r", zorder=3, lw=0)
    bar = figure.colorbar(dots, ax=axes, shrink=0.85, pad=0.02)
    bar.set_label("error of the picture, px", fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=8, colors=INK)
    share = (counts > 0).mean()
    title = f"{len(xy)} corners of {len(kept)} pictures cover {share:.0%} of the cells"
    axes.set_title(title, fontsize=10, color=INK)


def _draw_lens(figure: Any, axes: Any, fit: LensFit, width: int, height: int) -> None:
    """Arrows from where a point would be without distortion to where it is seen."""
    columns = np.linspace(0, width - 1, 13)
    rows = np.linspace(0, height - 1, 10)
    seen = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
    straight = undistort_pixels(seen, fit.matrix, fit.distortion)
    moved = seen - straight
    length = np.linalg.norm(moved, axis=1)
    arrows = axes.quiver(
        seen[:, 0],
        seen[:, 1],
        moved[:, 0],
        moved[:, 1],
        length,
        cmap="magma_r",
        angles="xy",
        scale_units="xy",
        scale=max(1.0, float(length.max()) / (width / 13)),
        width=0.004,
    )
    bar = figure.colorbar(arrows, ax=axes, shrink=0.85, pad=0.02)
    bar.set_label("moved by, px", fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=8, colors=INK)
    centre = fit.matrix[:2, 2]
    axes.plot(*centre, "+", color="#c92a2a", ms=9)
    axes.set_title("What the lens does; + is its centre", fontsize=10, color=INK)
