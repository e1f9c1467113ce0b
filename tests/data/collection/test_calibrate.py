"""Calibration against a lens that is known exactly, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from visionloop.core.errors import DataError, InputError, RefusedError
from visionloop.data.collection.board import draw_board, find_corners, make_board, write_board
from visionloop.data.collection.board_views import (
    KnownLens,
    bend,
    look_at_board,
    render_board,
    spread_poses,
    straighten,
)
from visionloop.data.collection.calibrate import calibrate
from visionloop.data.collection.calibration import (
    load_calibration,
    undistort,
    undistort_points,
)

WIDTH, HEIGHT = 560, 420
MATRIX = np.array([[460.0, 0, 283.0], [0, 464.0, 205.0], [0, 0, 1]])
DISTORTION = np.array([-0.27, 0.085, 0.0007, -0.0005, 0.0])
BOARD = make_board("charuco", "9x6", 25.0)
CHESSBOARD = make_board("chessboard", "9x6", 25.0)


@pytest.fixture(scope="module")
def lens() -> KnownLens:
    return KnownLens(WIDTH, HEIGHT, MATRIX, DISTORTION, rays_a_pixel=2)


@pytest.fixture(scope="module")
def views(lens) -> dict[str, np.ndarray]:
    """Twelve pictures as a careful person takes them."""
    poses = spread_poses(BOARD, lens, 12, seed=1)
    return {
        f"view_{number:02d}.png": render_board(lens, BOARD, pose, seed=number)
        for number, pose in enumerate(poses)
    }


def save(folder: Path, pictures: dict[str, np.ndarray]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, image in pictures.items():
        cv2.imwrite(str(folder / name), image)
    return folder


def displacement(matrix, distortion) -> np.ndarray:
    """How far the lens moves each point of the picture, pixels."""
    x, y = np.meshgrid(np.linspace(0, WIDTH - 1, 15), np.linspace(0, HEIGHT - 1, 11))
    pixels = np.stack([x, y], axis=-1)
    focal, centre = matrix[[0, 1], [0, 1]], matrix[:2, 2]
    bent = (pixels - centre) / focal
    return pixels - (straighten(bent, distortion) * focal + centre)


def test_the_lens_is_found(workspace, lens, views, tmp_path) -> None:
    report = calibrate(
        workspace=workspace, camera="line-1", pictures=save(tmp_path / "p", views), board=BOARD
    )
    found = load_calibration(workspace, "line-1")
    assert found is not None and report.path is not None
    assert report.path.stem.endswith(found.calibration_id)
    assert (found.width, found.height) == (WIDTH, HEIGHT)
    focal = found.matrix[[0, 1], [0, 1]] / MATRIX[[0, 1], [0, 1]]
    assert abs(focal - 1).max() < 0.01
    assert abs(found.matrix[:2, 2] - MATRIX[:2, 2]).max() < 1.5
    assert abs(found.distortion[0] / DISTORTION[0] - 1) < 0.05
    true = displacement(MATRIX, DISTORTION)
    off = displacement(found.matrix, found.distortion) - true
    assert np.sqrt((off**2).mean()) < 0.05 * np.sqrt((true**2).mean())
    assert report.rms < 0.3 and found.rms == report.rms


def test_the_lens_is_found_on_a_chessboard(workspace, lens, tmp_path) -> None:
    poses = spread_poses(CHESSBOARD, lens, 12, seed=4)
    pictures = {f"{n}.png": render_board(lens, CHESSBOARD, p, seed=n) for n, p in enumerate(poses)}
    folder = save(tmp_path / "p", pictures)
    calibrate(workspace=workspace, camera="c", pictures=folder, board=CHESSBOARD)
    found = load_calibration(workspace, "c")
    assert found is not None
    assert abs(found.matrix[0, 0] / MATRIX[0, 0] - 1) < 0.01
    true = displacement(MATRIX, DISTORTION)
    off = displacement(found.matrix, found.distortion) - true
    assert np.sqrt((off**2).mean()) < 0.05 * np.sqrt((true**2).mean())


def test_corners_are_where_the_lens_shows_them(lens, views) -> None:
    """Half a pixel of bias (OpenCV before 4.13) would move the principal point."""
    pose = spread_poses(BOARD, lens, 12, seed=1)[0]
    ids, xy = find_corners(views["view_00.png"], BOARD)
    ahead = BOARD.corners()[ids] @ pose[0].T + pose[1]
    shown = bend(ahead[:, :2] / ahead[:, 2:], DISTORTION) * [460.0, 464.0] + MATRIX[:2, 2]
    assert len(ids) == BOARD.corner_count
    assert abs((xy - shown).mean(axis=0)).max() < 0.1


def test_the_report_shows_every_picture(workspace, views, tmp_path) -> None:
    folder = save(tmp_path / "p", views)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n....")
    report = calibrate(workspace=workspace, camera="a", pictures=folder, board=BOARD)
    page = report.page.read_text()
    assert all(name in page for name in views) and "broken.png" in page
    assert (report.page.parent / "coverage.png").read_bytes().startswith(b"\x89PNG")
    content = json.loads((report.page.parent / "calibrate.json").read_text())
    assert content["verdict"] == "kept" and content["pictures"]["broken.png"]["problem"]
    assert 0 < content["pictures"]["view_00.png"]["error_px"] < 0.3
    assert list(report.left_out) == ["broken.png"]


def test_pictures_that_cannot_be_used_are_named(workspace, views, tmp_path) -> None:
    few = dict(list(views.items())[:5])
    small = cv2.resize(views["view_06.png"], (280, 210))
    extra = {"empty.png": np.full((HEIGHT, WIDTH), 90, np.uint8), "small.png": small}
    folder = save(tmp_path / "p", few | extra)
    (folder / "broken.jpg").write_bytes(b"not a picture")
    with pytest.raises(RefusedError) as refused:
        calibrate(workspace=workspace, camera="a", pictures=folder, board=BOARD)
    text = str(refused.value)
    assert refused.value.exit_code == 3
    assert "5 usable pictures" in text and "take 5 more" in text
    assert "broken.jpg: is neither" in text
    assert "empty.png: no charuco" in text
    assert "small.png: has 280 x 210 pixels, most pictures have 560 x 420" in text
    assert load_calibration(workspace, "a") is None


def test_a_board_that_stays_in_the_middle_is_refused(workspace, lens, tmp_path) -> None:
    pictures = {}
    for number in range(11):
        turn = (0.6 * number, 0.0, 3.0 * number)
        pose = look_at_board(BOARD, turn=turn, centre=(0.0, 0.0, 0.55))
        pictures[f"{number}.png"] = render_board(lens, BOARD, pose, seed=number)
    folder = save(tmp_path / "p", pictures)
    with pytest.raises(RefusedError) as refused:
        calibrate(workspace=workspace, camera="a", pictures=folder, board=BOARD)
    text = str(refused.value)
    assert "the board was seen in" in text
    assert "upper left" in text and "lower right" in text
    assert "turned left or right" in text and "tipped forwards or backwards" in text
    assert "nothing was stored" in text
    assert not (workspace.root / "data" / "calibration").exists()


def test_one_picture_with_moved_corners_is_named(workspace, views, tmp_path) -> None:
    """A board that was bent in one picture; the earlier calibration stays."""
    folder = save(tmp_path / "p", views)
    before = calibrate(workspace=workspace, camera="a", pictures=folder, board=BOARD).path
    column, row = np.meshgrid(
        np.arange(WIDTH, dtype=np.float32), np.arange(HEIGHT, dtype=np.float32)
    )
    bent = column + 7 * np.sin(row / 40).astype(np.float32)
    wrong = cv2.remap(views["view_07.png"], bent, row, cv2.INTER_LINEAR)
    save(folder, {"view_07.png": wrong})
    with pytest.raises(RefusedError) as refused:
        calibrate(workspace=workspace, camera="a", pictures=folder, board=BOARD)
    named = [problem for problem in refused.value.problems if problem.startswith("view_")]
    assert len(named) == 1 and named[0].startswith("view_07.png is ")
    assert [before] == list((workspace.root / "data" / "calibration" / "a").iterdir())


def test_a_wrong_board_is_refused(workspace, views, tmp_path) -> None:
    folder = save(tmp_path / "p", dict(list(views.items())[:2]))
    other = make_board("chessboard", "12x7", 25.0)
    with pytest.raises(RefusedError, match="the board was found in no picture") as refused:
        calibrate(workspace=workspace, camera="a", pictures=folder, board=other)
    assert "view_00.png: no chessboard of 12x7 squares" in str(refused.value)


def test_a_folder_without_pictures_is_bad_input(workspace, tmp_path) -> None:
    with pytest.raises(DataError, match="holds no PNG or JPEG"):
        calibrate(workspace=workspace, camera="a", pictures=tmp_path / "gone", board=BOARD)
    for name in ("../x", "a/b", "", ".hidden"):
        with pytest.raises(InputError, match="no usable name"):
            calibrate(workspace=workspace, camera=name, pictures=tmp_path, board=BOARD)


def test_boards_that_cannot_be_are_refused_at_once() -> None:
    with pytest.raises(InputError) as wrong:
        make_board("circles", "9", 0)
    assert len(wrong.value.problems) == 3
    with pytest.raises(InputError, match="looks the same when turned"):
        make_board("chessboard", "7x7", 25)


@pytest.mark.parametrize("board", [BOARD, CHESSBOARD], ids=str)
def test_a_printed_board_is_found_and_has_its_size(board, tmp_path) -> None:
    from PIL import Image

    path = write_board(tmp_path / "board.png", board)
    with Image.open(path) as page:
        dots_per_mm = page.info["dpi"][0] / 25.4
        assert page.width / dots_per_mm == pytest.approx(297, abs=0.5)  # A4, lying
        small = page.convert("L").resize((page.width // 3, page.height // 3), Image.Resampling.BOX)
    grey, dots_per_mm = np.asarray(small), dots_per_mm / 3
    ids, xy = find_corners(grey, board)
    assert len(ids) == board.corner_count
    step = np.linalg.norm(xy[1] - xy[0]) / dots_per_mm
    assert step == pytest.approx(board.square_mm, rel=0.002)
    assert write_board(tmp_path / "board.pdf", board).read_bytes().startswith(b"%PDF")
    with pytest.raises(InputError, match=r"\.pdf or \.png"):
        write_board(tmp_path / "board.doc", board)


def test_a_drawing_has_whole_squares() -> None:
    drawn = draw_board(CHESSBOARD, 10)
    assert drawn.shape == (60, 90)
    assert drawn[:10, :10].max() == 0 and drawn[:10, 10:20].min() == 255


class TestStoredCalibrations:
    @pytest.fixture
    def stored(self, workspace):
        from visionloop.data.collection.calibration import save_calibration

        def put(date: str, focal: float = 460.0) -> Path:
            matrix = [[focal, 0.0, 283.0], [0.0, 464.0, 205.0], [0.0, 0.0, 1.0]]
            content = {
                "calibrated_at": date,
                "width": WIDTH,
                "height": HEIGHT,
                "matrix": matrix,
                "distortion": DISTORTION.tolist(),
                "rms": 0.1,
            }
            return save_calibration(workspace, "cam", content)

        return put

    def test_the_newest_counts_and_an_older_one_by_id(self, workspace, stored) -> None:
        old = stored("2026-01-01T00:00:00Z", 450.0)
        stored("2026-02-01T00:00:00Z", 470.0)
        newest = load_calibration(workspace, "cam")
        assert newest is not None and newest.matrix[0, 0] == 470.0
        older = load_calibration(workspace, "cam", old.stem.split("-")[-1])
        assert older is not None and older.matrix[0, 0] == 450.0
        assert older.calibrated_at == "2026-01-01T00:00:00Z"
        assert load_calibration(workspace, "another") is None
        with pytest.raises(DataError, match="there is no version 0123456789ab"):
            load_calibration(workspace, "cam", "0123456789ab")

    def test_a_changed_file_is_passed_over(self, workspace, stored, capsys) -> None:
        stored("2026-01-01T00:00:00Z", 450.0)
        damaged = stored("2026-02-01T00:00:00Z", 470.0)
        damaged.write_text(damaged.read_text().replace("470.0", "475.0"))
        found = load_calibration(workspace, "cam")
        assert found is not None and found.matrix[0, 0] == 450.0
        assert "was changed after it was written" in capsys.readouterr().err
        with pytest.raises(DataError, match="was changed"):
            load_calibration(workspace, "cam", damaged.stem.split("-")[-1])

    def test_a_straightened_picture_has_straight_edges(self, workspace, stored, lens) -> None:
        stored("2026-01-01T00:00:00Z")
        calibration = load_calibration(workspace, "cam")
        assert calibration is not None
        pose = look_at_board(BOARD, turn=(0, 0, 0), centre=(0.0, 0.02, 0.24))
        raw = render_board(lens, BOARD, pose, noise=0)
        assert bow(raw) > 1.0 > 0.3 > bow(undistort(raw, calibration))
        colour = undistort(np.dstack([raw] * 3), calibration)
        assert np.array_equal(colour[:, :, 1], undistort(raw, calibration))

    def test_points_go_where_the_picture_goes(self, workspace, stored, lens) -> None:
        stored("2026-01-01T00:00:00Z")
        calibration = load_calibration(workspace, "cam")
        assert calibration is not None
        pose = look_at_board(BOARD, turn=(10, 5, 0), centre=(0, 0, 0.3))
        raw = render_board(lens, BOARD, pose, noise=0)
        ids, seen = find_corners(raw, BOARD)
        again, straight = find_corners(undistort(raw, calibration), BOARD)
        both = np.isin(ids, again)
        moved = undistort_points(seen[both].astype(np.float64), calibration)
        assert both.sum() > 20
        assert abs(moved - straight[np.isin(again, ids)]).max() < 0.3

    def test_a_picture_of_another_size_is_refused(self, workspace, stored) -> None:
        stored("2026-01-01T00:00:00Z")
        calibration = load_calibration(workspace, "cam")
        assert calibration is not None
        with pytest.raises(DataError, match="100 x 80 pixels, but calibration"):
            undistort(np.zeros((80, 100, 3), np.uint8), calibration)


def bow(image: np.ndarray) -> float:
    """How far the middle of a row of corners lies off the line through its ends, pixels."""
    ids, xy = find_corners(image, BOARD)
    across = BOARD.columns - 1
    row = xy[ids // across == BOARD.rows - 3].astype(np.float64)
    first, last, middle = row[0], row[-1], row[len(row) // 2]
    along = (last - first) / np.linalg.norm(last - first)
    off = middle - first
    return float(abs(along[0] * off[1] - along[1] * off[0]))


def test_killed_before_the_rename_nothing_is_stored(workspace, views, tmp_path) -> None:
    folder = save(tmp_path / "p", views)
    command = [
        sys.executable, "-m", "visionloop.data", "calibrate", "cam", "--pictures", str(folder),
        "-w", str(workspace.root),
    ]  # fmt: skip
    killed = dict(os.environ, VISIONLOOP_FAILPOINT="files.before_rename:kill:1")
    assert subprocess.run(command, env=killed, capture_output=True).returncode == -9
    assert load_calibration(workspace, "cam") is None
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "calibration, error 0." in done.stdout and "next: visionloop data plane" in done.stdout
    assert load_calibration(workspace, "cam") is not None
