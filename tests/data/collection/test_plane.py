"""Planes: pixels to metres and back, and which points are refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from visionloop.core.errors import DataError, RefusedError
from visionloop.data.cli import app
from visionloop.data.collection.board_views import bend
from visionloop.data.collection.calibration import load_calibration, save_calibration
from visionloop.data.collection.marked_points import read_points
from visionloop.data.collection.measure_plane import measure_plane
from visionloop.data.collection.plane import Plane, load_plane, to_metres, to_pixels

MATRIX = np.array([[600.0, 0, 320], [0, 600.0, 240], [0, 0, 1]])
DISTORTION = np.array([-0.2, 0.05, 0.0, 0.0, 0.0])
FLOOR = np.array([[0, 0], [4, 0], [4, 3], [0, 3], [2, 1.5], [1, 2.5], [3, 0.5]], float)


def see_floor(metres: np.ndarray, *, is_bent: bool = False) -> np.ndarray:
    """Pixels of floor points for a camera 3 m above the floor that looks 35 degrees down."""
    tilt = np.deg2rad(35)
    ahead = np.array([0, np.sin(tilt), np.cos(tilt)])
    down = np.array([0, np.cos(tilt), -np.sin(tilt)])
    rows = np.column_stack([metres[:, 0] - 2, np.full(len(metres), 3.0), 6.5 - metres[:, 1]])
    seen = np.column_stack([rows[:, 0], rows @ down, rows @ ahead])
    ideal = seen[:, :2] / seen[:, 2:]
    ideal = bend(ideal, DISTORTION) if is_bent else ideal
    return ideal * 600.0 + [320.0, 240.0]


def write_points(path: Path, pixels: np.ndarray, metres: np.ndarray) -> Path:
    lines = ["name,x_px,y_px,x_m,y_m"]
    for number, (pixel, metre) in enumerate(zip(pixels, metres, strict=True)):
        lines.append(f"P{number},{pixel[0]:.6f},{pixel[1]:.6f},{metre[0]},{metre[1]}")
    path.write_text("\n".join(lines) + "\n")
    return path


def calibrate_by_hand(workspace) -> None:
    content = {
        "calibrated_at": "2026-01-01T00:00:00Z",
        "width": 640,
        "height": 480,
        "matrix": MATRIX.tolist(),
        "distortion": DISTORTION.tolist(),
        "rms": 0.1,
    }
    save_calibration(workspace, "cam", content)


def test_pixels_become_metres_and_back(workspace, tmp_path) -> None:
    points = write_points(tmp_path / "points.csv", see_floor(FLOOR), FLOOR)
    report = measure_plane(workspace=workspace, camera="cam", points=points)
    plane = load_plane(workspace, "cam")
    assert plane is not None and report.path is not None
    assert report.path.stem.endswith(plane.plane_id) and plane.calibration_id == ""
    elsewhere = np.array([[0.7, 0.3], [3.6, 2.8]])
    assert np.allclose(to_metres(see_floor(elsewhere), plane), elsewhere, atol=1e-4)
    assert np.allclose(to_pixels(elsewhere, plane), see_floor(elsewhere), atol=1e-2)
    assert report.error_px.max() < 1e-3 and report.error_m.max() < 1e-5


def test_points_are_straightened_where_the_camera_is_calibrated(workspace, tmp_path) -> None:
    calibrate_by_hand(workspace)
    points = write_points(tmp_path / "points.csv", see_floor(FLOOR, is_bent=True), FLOOR)
    report = measure_plane(workspace=workspace, camera="cam", points=points)
    calibration, plane = load_calibration(workspace, "cam"), load_plane(workspace, "cam")
    assert calibration is not None and plane is not None
    assert report.calibration_id == calibration.calibration_id == plane.calibration_id
    assert calibration.plane is not None
    elsewhere = np.array([[0.7, 0.3], [3.6, 2.8]])
    raw = see_floor(elsewhere, is_bent=True)
    found = to_metres(raw, plane, calibration=calibration)
    assert np.allclose(found, elsewhere, atol=1e-3)
    assert abs(to_metres(raw, plane) - elsewhere).max() > 0.02  # without, it is wrong


def test_a_plane_of_another_calibration_does_not_count(workspace, tmp_path) -> None:
    points = write_points(tmp_path / "points.csv", see_floor(FLOOR), FLOOR)
    measure_plane(workspace=workspace, camera="cam", points=points)
    calibrate_by_hand(workspace)
    calibration = load_calibration(workspace, "cam")
    assert calibration is not None and calibration.plane is None


def test_a_wrong_point_is_named_and_the_old_plane_stays(workspace, tmp_path) -> None:
    points = write_points(tmp_path / "points.csv", see_floor(FLOOR), FLOOR)
    before = measure_plane(workspace=workspace, camera="cam", points=points).path
    pixels = see_floor(FLOOR)
    pixels[4] += [25, -12]
    write_points(points, pixels, FLOOR)
    with pytest.raises(RefusedError) as refused:
        measure_plane(workspace=workspace, camera="cam", points=points)
    assert refused.value.exit_code == 3
    assert len(refused.value.problems) == 1
    assert refused.value.problems[0].startswith("P4 is 27.7 px, 0.342 m")
    assert [before] == list((workspace.root / "data" / "planes" / "cam").iterdir())
    page = (workspace.reports / "plane" / "cam" / "index.html").read_text()
    assert "refused" in page and "P4 is 27.7 px" in page


def test_points_in_a_line_are_refused(workspace, tmp_path) -> None:
    line = np.array([[0, 0], [1, 0], [2, 0.001], [3, 0], [4, 0]])
    points = write_points(tmp_path / "points.csv", see_floor(line), line)
    with pytest.raises(RefusedError, match="too much in one line"):
        measure_plane(workspace=workspace, camera="cam", points=points)
    three = np.array([[0, 0], [1, 0], [2, 0], [1, 3]])
    points = write_points(tmp_path / "points.csv", see_floor(three), three)
    with pytest.raises(RefusedError, match="too much in one line"):
        measure_plane(workspace=workspace, camera="cam", points=points)


def test_swapped_columns_are_refused(workspace, tmp_path) -> None:
    shuffled = FLOOR[[3, 5, 1, 0, 2, 6, 4]]
    points = write_points(tmp_path / "points.csv", see_floor(FLOOR), shuffled)
    with pytest.raises(RefusedError):
        measure_plane(workspace=workspace, camera="cam", points=points)
    assert load_plane(workspace, "cam") is None


def test_wrong_lines_are_all_named(tmp_path) -> None:
    path = tmp_path / "points.csv"
    path.write_text("x_px,y_px,x_m,y_m\n1,2,3,4\n1,two,3,4\n1,2,,4\n1,2,nan,4\n5,6,7,8\n")
    with pytest.raises(DataError) as wrong:
        read_points(path)
    assert [problem.split(":")[0] for problem in wrong.value.problems] == [
        "line 3",
        "line 4",
        "line 5",
    ]
    path.write_text("x,y\n1,2\n")
    with pytest.raises(DataError, match="lacks the columns x_px, y_px, x_m, y_m"):
        read_points(path)
    path.write_text("x_px,y_px,x_m,y_m\n1,2,3,4\n")
    with pytest.raises(DataError, match="holds 1 points, at least 4"):
        read_points(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_points(tmp_path / "gone.csv")


def test_beyond_the_horizon_there_are_no_metres() -> None:
    homography = np.array([[1, 0, 0], [0, 1, 0], [0, 0.01, -1.0]])  # horizon at y = 100
    plane = Plane("cam", "id", "2026-01-01T00:00:00Z", homography)
    found = to_metres(np.array([[50.0, 200.0], [50.0, 99.0]]), plane)
    assert np.allclose(found[0], [50, 200]) and np.isnan(found[1]).all()


def test_the_command_draws_metres_on_a_picture(workspace, tmp_path) -> None:
    points = write_points(tmp_path / "points.csv", see_floor(FLOOR[:4]), FLOOR[:4])
    picture = tmp_path / "floor.png"
    cv2.imwrite(str(picture), np.full((480, 640, 3), 120, np.uint8))
    options = ["--points", str(points), "--picture", str(picture), "-w", str(workspace.root)]
    done = CliRunner().invoke(app, ["plane", "cam", *options])
    assert done.exit_code == 0, done.output
    assert "plane of 4 points, worst error 0.00 px" in done.output
    page = (workspace.reports / "plane" / "cam" / "index.html").read_text()
    assert "cannot check each other" in page and "data:image/png;base64" in page
