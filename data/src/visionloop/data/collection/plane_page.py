"""The page of ``plane``: marked points, where the plane shows them, a grid of metres."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from visionloop.data.collection.calibration import Calibration, undistort
from visionloop.data.collection.calibration_params import PlaneParams
from visionloop.data.collection.html_report import as_data_url, write_html
from visionloop.data.collection.plane import Plane, to_pixels

if TYPE_CHECKING:
    from visionloop.data.collection.measure_plane import PlaneReport

__all__ = ["write_plane_page"]

Points = NDArray[np.float64]


def write_plane_page(
    path: Path,
    report: PlaneReport,
    rows: list[dict[str, Any]],
    metres: Points,
    plane: Plane,
    straight: Points,
    params: PlaneParams,
    calibration: Calibration | None,
    picture: Path | None,
) -> Path:
    """Write the page; ``straight`` are the marked pixels after straightening."""
    drawn = _draw(report, metres, plane, straight, _background(picture, calibration))
    return write_html(
        path,
        "plane.html.j2",
        report=report,
        rows=rows,
        params=params,
        drawn=as_data_url(drawn, "png"),
    )


def _background(picture: Path | None, calibration: Calibration | None) -> NDArray[np.uint8] | None:
    from visionloop.serving.images import read_image

    if picture is None:
        return None
    image = read_image(picture)
    if calibration is not None:
        image = undistort(image, calibration)
    return image[:, :, ::-1]


def _draw(
    report: PlaneReport,
    metres: Points,
    plane: Plane,
    straight: Points,
    background: NDArray[np.uint8] | None,
) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), dpi=110, layout="constrained")
    figure.set_canvas(FigureCanvasAgg(figure))
    axes = figure.subplots()
    if background is not None:
        axes.imshow(background)
    _draw_grid(axes, metres, plane)
    shown = to_pixels(metres, plane)
    axes.plot(*straight.T, "o", mfc="none", mec="#c92a2a", ms=9, mew=1.6, label="marked")
    axes.plot(*shown.T, "+", color="#1f2933", ms=9, mew=1.6, label="by the plane")
    for name, (x, y) in zip(report.names, straight, strict=True):
        axes.annotate(name, (x, y), xytext=(7, 7), textcoords="offset points", fontsize=8)
    low, high = straight.min(axis=0), straight.max(axis=0)
    edge = 0.12 * float((high - low).max())
    if background is None:
        axes.set_xlim(low[0] - edge, high[0] + edge)
        axes.set_ylim(high[1] + edge, low[1] - edge)
    axes.set_aspect("equal")
    axes.set_xlabel("pixels" + (", straightened" if report.calibration_id else ""), fontsize=9)
    axes.legend(loc="upper right", fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw_grid(axes: Any, metres: Points, plane: Plane) -> None:
    """Lines of whole steps in metres, about ten over the marked points."""
    low, high = metres.min(axis=0), metres.max(axis=0)
    length = float((high - low).max())
    step = 10.0 ** np.floor(np.log10(length / 4))
    step *= next((by for by in (1, 2, 5) if length / (step * by) <= 10), 10)
    low, high = np.floor(low / step) * step, np.ceil(high / step) * step
    for axis in (0, 1):
        for value in np.arange(low[axis], high[axis] + step / 2, step):
            line = np.zeros((60, 2))
            line[:, axis] = value
            line[:, 1 - axis] = np.linspace(low[1 - axis], high[1 - axis], 60)
            axes.plot(*to_pixels(line, plane).T, color="#2563eb", lw=0.8, alpha=0.6)
    axes.set_title(f"Grid of {step:g} m on the plane", fontsize=10)
