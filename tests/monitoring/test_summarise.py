"""Windows from the edge's records: right frames, once, without doing work twice."""

from __future__ import annotations

import numpy as np
import pytest

from visionloop.core.errors import ConfigError, DataError
from visionloop.monitoring.params import WindowParams
from visionloop.monitoring.summarise import define_windows, is_inside, summarise
from visionloop.monitoring.windows import load_window, window_path


def test_windows_hold_answers_statistics_and_attributes(workspace, play) -> None:
    play(workspace, "mono", 6, seed=1)
    play(workspace, "poly", 4, seed=2)
    report = summarise(workspace=workspace)
    assert report.frames == {"reference": 6, "current": 4}
    frames = load_window(workspace, "current").frames
    assert set(frames["cell_type"]) == {"poly"}
    assert np.allclose(frames["probability_functional"] + frames["probability_defective"], 1)
    assert (frames["confidence"] >= 0.5).all()
    assert frames["luminance"].between(80, 140).all()
    assert len(frames["embedding"].iloc[0]) == 32
    assert (workspace.root / frames["image"].iloc[0]).is_file()
    assert not frames["image"].str.startswith("/").any()


def test_boxes_are_counted_by_class(boards, play) -> None:
    play(boards, "poly", 12, seed=3)
    summarise(workspace=boards)
    frames = load_window(boards, "current").frames
    assert (frames["boxes_functional"] + frames["boxes_defective"] == frames["boxes"]).all()
    assert frames["boxes"].max() > 1
    assert frames.loc[frames["boxes"] == 0, "confidence"].isna().all()


def test_second_run_changes_nothing_and_new_frames_are_added(workspace, play) -> None:
    play(workspace, "mono", 5, seed=1)
    summarise(workspace=workspace)
    path = window_path(workspace, "reference")
    before = path.read_bytes(), path.stat().st_mtime_ns
    assert summarise(workspace=workspace).new == {"reference": 0, "current": 0}
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    play(workspace, "mono", 3, seed=9, first=5)
    report = summarise(workspace=workspace)
    assert report.frames["reference"] == 8
    assert report.new["reference"] == 3
    assert load_window(workspace, "reference").frames["sequence"].tolist() == list(range(8))


def test_frames_that_left_the_outbox_stay(workspace, play) -> None:
    play(workspace, "mono", 5, seed=1)
    summarise(workspace=workspace)
    for file in workspace.edge.glob("outbox.db*"):
        file.unlink()
    play(workspace, "mono", 2, seed=8, first=5)
    assert summarise(workspace=workspace).frames["reference"] == 7


def test_a_picture_counts_once(workspace, play) -> None:
    play(workspace, "mono", 4, seed=1)
    play(workspace, "mono", 4, seed=1, first=4)
    assert summarise(workspace=workspace).frames["reference"] == 4


def test_embeddings_and_statistics_come_from_the_pictures(workspace, play, make_backbone) -> None:
    """A package without an embedding: the backbone package embeds the kept pictures, once."""
    play(workspace, "mono", 5, seed=1, embed=False)
    sha256 = make_backbone(workspace)
    summarise(workspace=workspace)
    frames = load_window(workspace, "reference").frames
    assert set(frames["embedding_package"]) == {sha256}
    assert all(len(vector) == 4 for vector in frames["embedding"])
    modified = window_path(workspace, "reference").stat().st_mtime_ns
    summarise(workspace=workspace)
    assert window_path(workspace, "reference").stat().st_mtime_ns == modified


def test_backbone_embeddings_can_be_asked_for(workspace, play, make_backbone) -> None:
    """With windows of different packages the backbone's embeddings stay comparable."""
    play(workspace, "mono", 3, seed=1)
    sha256 = make_backbone(workspace)
    text = workspace.params.read_text() + "  embeddings: backbone\n"
    workspace.params.write_text(text)
    summarise(workspace=workspace)
    assert set(load_window(workspace, "reference").frames["embedding_package"]) == {sha256}


def test_without_backbone_and_without_picture_nothing_is_invented(workspace, play) -> None:
    play(workspace, "mono", 3, seed=1, embed=False)
    for picture in (workspace.edge / "frames").iterdir():
        picture.unlink()
    summarise(workspace=workspace)
    window = load_window(workspace, "reference")
    assert window.frames["embedding"].isna().all()
    assert window.embedding_packages() == []


def test_an_empty_window_is_written_and_said(workspace, play, capsys) -> None:
    play(workspace, "mono", 3, seed=1)
    summarise(workspace=workspace)
    assert len(load_window(workspace, "current")) == 0
    assert "window current: no frame fits (cell_type is mono)" in capsys.readouterr().err


def test_windows_by_time_and_sequence() -> None:
    row = {"captured_at": "2026-03-01T06:00:05Z", "sequence": 5, "camera": "north", "line": 3}
    inside = [
        WindowParams(name="w", where={"camera": "north"}),
        WindowParams(name="w", where={"line": 3}),
        WindowParams(name="w", captured_from="2026-03-01T06:00:05Z"),
        WindowParams(name="w", captured_from="2026-03-01T08:00:05+02:00"),
        WindowParams(name="w", first_sequence=5, last_sequence=5),
    ]
    outside = [
        WindowParams(name="w", where={"camera": "south"}),
        WindowParams(name="w", where={"shift": "night"}),
        WindowParams(name="w", captured_before="2026-03-01T06:00:05Z"),
        WindowParams(name="w", first_sequence=6),
        WindowParams(name="w", last_sequence=4),
    ]
    assert all(is_inside(row, window) for window in inside)
    assert not any(is_inside(row, window) for window in outside)


def test_window_of_the_command_line(workspace) -> None:
    (window,) = define_windows(
        workspace, name="night", where=["camera=north"], first_sequence=3, captured_from=""
    )
    assert window == WindowParams(name="night", where={"camera": "north"}, first_sequence=3)
    (named,) = define_windows(workspace, name="current", where=[])
    assert named.where == {"cell_type": "poly"}
    assert define_windows(workspace, name="", where=[]) is None
    with pytest.raises(ConfigError, match="column=value"):
        define_windows(workspace, name="night", where=["camera"])
    with pytest.raises(ConfigError, match="no name"):
        define_windows(workspace, name="", where=["camera=north"])
    with pytest.raises(ConfigError, match="there: reference, current"):
        define_windows(workspace, name="night", where=[])
    with pytest.raises(ConfigError, match="small letters"):
        define_windows(workspace, name="../x", where=["camera=north"])


def test_bad_input_is_one_clear_error(workspace, play) -> None:
    with pytest.raises(DataError, match="no outbox"):
        summarise(workspace=workspace)
    with pytest.raises(DataError, match="there are no windows yet"):
        load_window(workspace, "current")
    play(workspace, "mono", 1, seed=1)
    params = workspace.params.read_text()
    workspace.params.write_text(params.replace("[functional, defective]", "[a, b, c]"))
    with pytest.raises(DataError, match="2 probabilities, not 3"):
        summarise(workspace=workspace)
    workspace.params.write_text(params.replace("windows:", "windos:"))
    with pytest.raises(ConfigError, match="did you mean 'windows'"):
        summarise(workspace=workspace)
