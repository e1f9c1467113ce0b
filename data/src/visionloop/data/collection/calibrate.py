"""The verb ``calibrate``: pictures of a board to a camera's lens, kept only if it is good.

The method is Zhang's (2000, doi:10.1109/34.888718) in OpenCV. Pictures that do not fit are
found by leaving out the worst and fitting again; they are named, never silently dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2

from visionloop.core.errors import RefusedError
from visionloop.core.files import write_json
from visionloop.core.workspace import Workspace
from visionloop.data.collection.board import Board
from visionloop.data.collection.board_pictures import BoardPicture, read_board_pictures
from visionloop.data.collection.calibrate_page import write_calibration_page
from visionloop.data.collection.calibration import calibration_folder, save_calibration
from visionloop.data.collection.calibration_params import CalibrateParams
from visionloop.data.collection.coverage import cover, covered_share, find_gaps, tilts
from visionloop.data.collection.lens_fit import BoardView, LensFit, error_against, fit_without_bad
from visionloop.data.params import load_params

__all__ = ["CalibrateReport", "calibrate"]


@dataclass(frozen=True, eq=False)
class CalibrateReport:
    """What a calibration found.

    Attributes
    ----------
    camera : str
    path : Path or None
        The stored calibration; None if it was refused.
    page : Path
        The HTML report.
    rms : float
        Pixels; NaN if nothing could be fitted.
    used : int
        Pictures that the fit holds for.
    left_out : dict of str to str
        Pictures that were not used, with the reason.
    covered : float
        Share of the picture's cells that hold a corner.
    problems : tuple of str
        Why it was refused.
    """

    camera: str
    path: Path | None
    page: Path
    rms: float
    used: int
    left_out: dict[str, str]
    covered: float
    problems: tuple[str, ...] = ()


@dataclass(eq=False)
class _Measured:
    """Everything between the pictures and the verdict."""

    pictures: list[BoardPicture]
    width: int
    height: int
    fit: LensFit | None = None
    kept: list[BoardView] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def calibrate(
    *, workspace: Workspace, camera: str, pictures: Path, board: Board
) -> CalibrateReport:
    """Calibrate a camera from a folder of pictures of a board.

    Writes ``data/calibration/<camera>/<date>-<id>.json`` and, in any case,
    ``reports/calibrate/<camera>/``: ``index.html``, ``coverage.png``, ``calibrate.json``.

    Parameters
    ----------
    workspace : Workspace
    camera : str
    pictures : Path
        Folder of PNG or JPEG files, all of one size, as the camera sends them.
    board : Board

    Raises
    ------
    DataError
        If there is no picture in the folder.
    RefusedError
        If the reprojection error is too large, a picture does not fit, or too little of
        the lens was seen. Says which pictures, and what to do. The calibration that was
        there before stays.
    """
    calibration_folder(workspace, camera)  # the name is checked before the work
    params = load_params(workspace)[1].calibrate
    found, width, height = read_board_pictures(Path(pictures), board)
    measured = _Measured(found, width, height)
    _measure(measured, board, params)
    path = None if measured.problems else _store(workspace, camera, board, measured)
    report = _report(workspace, camera, board, measured, path, params)
    if measured.problems:
        raise RefusedError(
            f"calibration of camera {camera}",
            measured.problems,
            f"see {report.page}; nothing was stored",
        )
    return report


def _measure(measured: _Measured, board: Board, params: CalibrateParams) -> None:
    views = [one.view for one in measured.pictures if one.view is not None]
    if not views:
        measured.problems = ["the board was found in no picture", *_name_bad(measured.pictures)]
        return
    width, height = measured.width, measured.height
    try:
        fit, kept = fit_without_bad(views, board, width, height, max_error=params.max_error_px)
    except ValueError as error:
        measured.problems = [str(error), *_name_bad(measured.pictures)]
        return
    measured.fit, measured.kept = fit, kept
    measured.pictures = [_add_error(one, measured, board) for one in measured.pictures]
    measured.problems = _find_problems(measured, params)


def _add_error(picture: BoardPicture, measured: _Measured, board: Board) -> BoardPicture:
    """The picture's error against the lens, which was fitted with or without it."""
    if picture.view is None or measured.fit is None:
        return picture
    names = [view.name for view in measured.kept]
    if picture.name in names:
        number = names.index(picture.name)
        angle, _ = tilts(measured.fit)
        error = float(measured.fit.errors[number])
        return replace(picture, error=error, tilt=float(angle[number]))
    error = error_against(measured.fit, picture.view, board)
    problem = f"is {error:.1f} px off the lens that fits the other {len(names)}"
    return replace(picture, error=error, problem=problem)


def _find_problems(measured: _Measured, params: CalibrateParams) -> list[str]:
    assert measured.fit is not None
    problems = []
    misfits = [one for one in measured.pictures if one.view is not None and one.problem]
    for one in misfits:
        problems.append(
            f"{one.name} {one.problem}: was the board bent, moved or another one? "
            "Take the picture out, or again"
        )
    limit = params.max_error_px
    for one in measured.pictures:
        if not one.problem and one.error > limit:
            problems.append(f"{one.name} has an error of {one.error:.2f} px, at most {limit:g}")
    if measured.fit.rms > limit:
        problems.append(
            f"the reprojection error is {measured.fit.rms:.2f} px, at most {limit:g}: is the "
            "board flat, are squares and size those that were named?"
        )
    gaps = find_gaps(measured.kept, measured.fit, measured.width, measured.height, params)
    if gaps:
        gaps += _name_bad([one for one in measured.pictures if one.view is None])
    return problems + gaps


def _name_bad(pictures: Sequence[BoardPicture]) -> list[str]:
    return [f"{one.name}: {one.problem}" for one in pictures if one.problem]


def _store(workspace: Workspace, camera: str, board: Board, measured: _Measured) -> Path:
    fit = measured.fit
    assert fit is not None
    content: dict[str, Any] = {
        "calibrated_at": datetime.now(timezone.utc).isoformat(timespec="seconds")[:19] + "Z",
        "width": measured.width,
        "height": measured.height,
        "matrix": fit.matrix.tolist(),
        "distortion": fit.distortion.tolist(),
        "rms": fit.rms,
        "focal_uncertainty": fit.focal_uncertainty,
        "board": vars(board),
        "pictures": {one.name: round(one.error, 4) for one in measured.pictures if not one.problem},
        "covered": covered_share(cover(measured.kept, measured.width, measured.height)),
        "opencv": cv2.__version__,
    }
    return save_calibration(workspace, camera, content)


def _report(
    workspace: Workspace,
    camera: str,
    board: Board,
    measured: _Measured,
    path: Path | None,
    params: CalibrateParams,
) -> CalibrateReport:
    folder = workspace.reports / "calibrate" / camera
    fit, kept = measured.fit, measured.kept
    report = CalibrateReport(
        camera=camera,
        path=path,
        page=folder / "index.html",
        rms=fit.rms if fit else float("nan"),
        used=len(kept),
        left_out={one.name: one.problem for one in measured.pictures if one.problem},
        covered=covered_share(cover(kept, measured.width, measured.height)) if kept else 0.0,
        problems=tuple(measured.problems),
    )
    content = {
        "camera": camera,
        "board": str(board),
        "verdict": "refused" if measured.problems else "kept",
        "problems": measured.problems,
        "calibration": path.name if path else None,
        "rms_px": fit.rms if fit else None,
        "focal_uncertainty": fit.focal_uncertainty if fit else None,
        "covered": report.covered,
        "pictures": {
            one.name: {
                "problem": one.problem,
                "error_px": None if one.error != one.error else one.error,
                "tilt_degrees": None if one.tilt != one.tilt else one.tilt,
            }
            for one in measured.pictures
        },
    }
    write_json(folder / "calibrate.json", content)
    size = (measured.width, measured.height)
    write_calibration_page(folder, report, measured.pictures, fit, kept, size, board, params)
    return report
