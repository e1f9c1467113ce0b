"""The verb ``plane``: marked points, pixels and metres, to a camera's plane.

One point a line in a CSV file with the columns ``x_px,y_px,x_m,y_m`` and, if wanted, ``name``.
RANSAC (Fischler and Bolles, 1981) finds points that agree, least squares fits those, and a
point that is too far off is named.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import RefusedError
from visionloop.core.files import write_json
from visionloop.core.workspace import Workspace
from visionloop.data.collection.calibration import (
    Calibration,
    load_calibration,
    plane_folder,
    save_version,
)
from visionloop.data.collection.calibration_params import PlaneParams
from visionloop.data.collection.marked_points import MIN_POINTS, MarkedPoints, read_points
from visionloop.data.collection.plane import Plane, to_metres, to_pixels
from visionloop.data.collection.plane_page import write_plane_page
from visionloop.data.params import load_params

__all__ = ["PlaneReport", "fit_plane", "measure_plane"]

_FLATTEST = 0.01
"""Height by length of the flattest triangle of four points, or of all points, that is taken."""

Points = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PlaneReport:
    """What a measurement of a plane found.

    Attributes
    ----------
    camera : str
    path : Path or None
        The stored plane; None if it was refused.
    page : Path
    names : tuple of str
        Of the N points.
    error_px, error_m : float64 arrays (N,)
        Distance of each point from its place.
    calibration_id : str
        The calibration that pixels were straightened with, empty for none.
    problems : tuple of str
        Why it was refused.
    """

    camera: str
    path: Path | None
    page: Path
    names: tuple[str, ...]
    error_px: Points
    error_m: Points
    calibration_id: str
    problems: tuple[str, ...] = ()


def measure_plane(
    *, workspace: Workspace, camera: str, points: Path, picture: Path | None = None
) -> PlaneReport:
    """Measure the plane of a camera from marked points.

    Writes ``data/planes/<camera>/<date>-<id>.json`` and, in any case,
    ``reports/plane/<camera>/``.

    Parameters
    ----------
    workspace : Workspace
    camera : str
    points : Path
        CSV file. Pixels are those of the raw picture; where the camera is calibrated they
        are straightened first.
    picture : Path or None
        A picture of the camera that the report draws the metres on.

    Raises
    ------
    DataError
        If the file cannot be read, a line is wrong (all are named), or there are too few
        points.
    RefusedError
        If points lie too much in one line, or are too far from where the plane shows them:
        says which. The plane that was there before stays.
    """
    folder = plane_folder(workspace, camera)
    params = load_params(workspace)[1].plane
    marked = read_points(Path(points))
    calibration = load_calibration(workspace, camera)
    plane = fit_plane(marked, camera=camera, calibration=calibration, max_error=params.max_error_px)
    straight, error_px, error_m = _errors(marked, plane, calibration)
    problems = _find_problems(marked, error_px, error_m, params)
    path = None if problems else save_version(folder, _content(plane, marked), plane.measured_at)
    report = PlaneReport(
        camera=camera,
        path=path,
        page=workspace.reports / "plane" / camera / "index.html",
        names=marked.names,
        error_px=error_px,
        error_m=error_m,
        calibration_id=plane.calibration_id,
        problems=tuple(problems),
    )
    _write_report(report, marked, plane, straight, params, calibration, picture)
    if problems:
        raise RefusedError(
            f"plane of camera {camera}", problems, f"see {report.page}; nothing was stored"
        )
    return report


def fit_plane(
    marked: MarkedPoints, *, camera: str, calibration: Calibration | None, max_error: float
) -> Plane:
    """The homography of marked points.

    Parameters
    ----------
    marked : MarkedPoints
    camera : str
    calibration : Calibration or None
    max_error : float
        Pixels; points farther off than this do not take part in the fit.

    Raises
    ------
    RefusedError
        If the points lie too much in one line, or on both sides of the horizon.
    """
    pixels = _straighten(marked.pixels, calibration)
    problems = [
        f"the {what} of the points lie too much in one line: mark points over the whole plane"
        for what, points in (("metres", marked.metres), ("pixels", pixels))
        if _is_flat(points)
    ]
    if problems:
        raise RefusedError(f"plane of camera {camera}", problems, "nothing was stored")
    shown, _ = cv2.findHomography(marked.metres, pixels, cv2.RANSAC, max_error)
    homography = None if shown is None else _inverse(np.asarray(shown, np.float64), pixels)
    if homography is None:
        raise RefusedError(
            f"plane of camera {camera}",
            "no plane shows these points: are pixels and metres of each line of one point?",
            "nothing was stored",
        )
    return Plane(
        camera=camera,
        plane_id="",
        measured_at=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        homography=homography,
        calibration_id=calibration.calibration_id if calibration else "",
    )


def _straighten(pixels: Points, calibration: Calibration | None) -> Points:
    from visionloop.data.collection.calibration import undistort_points

    return pixels if calibration is None else undistort_points(pixels, calibration)


def _inverse(shown: Points, pixels: Points) -> Points | None:
    """Pixels to metres, with a positive third row where the points are; None if impossible."""
    if not np.isfinite(shown).all() or np.linalg.cond(shown) > 1e12:
        return None
    homography = np.asarray(np.linalg.inv(shown), np.float64)
    depth = np.hstack([pixels, np.ones((len(pixels), 1))]) @ homography[2]
    if (depth > 0).mean() < 0.5:
        homography, depth = -homography, -depth
    return np.asarray(homography / np.abs(depth).mean(), np.float64)


def _is_flat(points: Points) -> bool:
    """All points near one line; of four points, three."""
    sets = combinations(points, 3) if len(points) == MIN_POINTS else [points]
    for one in sets:
        spread = np.linalg.svd(np.asarray(one) - np.mean(one, axis=0), compute_uv=False)
        if spread[1] < _FLATTEST * max(float(spread[0]), 1e-12):
            return True
    return False


def _errors(
    marked: MarkedPoints, plane: Plane, calibration: Calibration | None
) -> tuple[Points, Points, Points]:
    """Straightened pixels, and how far each point is from its place in pixels and metres."""
    straight = _straighten(marked.pixels, calibration)
    off_px = to_pixels(marked.metres, plane) - straight
    off_m = to_metres(straight, plane) - marked.metres
    return straight, np.hypot(*off_px.T), np.hypot(*off_m.T)


def _find_problems(
    marked: MarkedPoints, error_px: Points, error_m: Points, params: PlaneParams
) -> list[str]:
    problems = []
    for name, px, metres in zip(marked.names, error_px, error_m, strict=True):
        # Written so that a point beyond the horizon (NaN) counts as too far.
        if not (px <= params.max_error_px and metres <= params.max_error_m):
            far = f"{px:.1f} px, {metres:.3f} m" if np.isfinite(px + metres) else "infinitely far"
            problems.append(
                f"{name} is {far} from its place (at most {params.max_error_px:g} px, "
                f"{params.max_error_m:g} m): mark or measure it again"
            )
    return problems


def _content(plane: Plane, marked: MarkedPoints) -> dict[str, object]:
    return {
        "camera": plane.camera,
        "measured_at": plane.measured_at,
        "homography": plane.homography.tolist(),
        "calibration_id": plane.calibration_id,
        "points": [
            {"name": name, "pixel": pixel.tolist(), "metre": metre.tolist()}
            for name, pixel, metre in zip(marked.names, marked.pixels, marked.metres, strict=True)
        ],
    }


def _write_report(
    report: PlaneReport,
    marked: MarkedPoints,
    plane: Plane,
    straight: Points,
    params: PlaneParams,
    calibration: Calibration | None,
    picture: Path | None,
) -> None:
    def known(value: float) -> float | None:
        return float(value) if math.isfinite(value) else None

    rows = [
        {"name": name, "error_px": known(px), "error_m": known(metres)}
        for name, px, metres in zip(report.names, report.error_px, report.error_m, strict=True)
    ]
    content = {
        "camera": report.camera,
        "verdict": "refused" if report.problems else "kept",
        "problems": list(report.problems),
        "plane": report.path.name if report.path else None,
        "calibration_id": report.calibration_id,
        "points": rows,
    }
    write_json(report.page.parent / "plane.json", content)
    write_plane_page(
        report.page, report, rows, marked.metres, plane, straight, params, calibration, picture
    )
