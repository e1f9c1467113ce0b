"""Sources: pace, video files, and cameras that are not there."""

from __future__ import annotations

import time

import av
import numpy as np
import pytest

from visionloop.core.errors import DataError, UnreachableError
from visionloop.serving.source_params import SourceParams
from visionloop.serving.sources import backoff
from visionloop.serving.sources.table import open_source


def params(**values) -> SourceParams:
    return SourceParams(**{"name": "camera", **values})


def write_video(path, frames: int = 6):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(frames):
            image = np.full((48, 64, 3), number * 40, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def test_a_folder_keeps_its_rate(make_line, tmp_path):
    make_line([10, 20, 30, 40, 50], tmp_path / "line")
    source = open_source(params(kind="folder", path="line", rate=20.0), site="s", root=tmp_path)
    start = time.monotonic()
    frames = list(source.frames())
    assert 0.19 <= time.monotonic() - start < 2
    assert source.total == len(frames) == 5
    assert frames[0].camera == "camera"
    assert frames[0].encoded == (tmp_path / "line" / "0000.png").read_bytes()
    assert frames[0].captured_at < frames[-1].captured_at
    assert [f.sequence for f in source.frames(3)] == [3, 4]


def test_a_video_file_is_played_from_any_place(tmp_path):
    write_video(tmp_path / "line.mp4")
    source = open_source(params(kind="file", path="line.mp4"), site="s", root=tmp_path)
    frames = list(source.frames())
    assert [f.sequence for f in frames] == list(range(6))
    assert frames[0].image.shape == (48, 64, 3)
    assert [round(float(f.image.mean()) / 40) for f in frames] == list(range(6))
    assert frames[0].encoded is None
    assert [f.sequence for f in source.frames(4)] == [4, 5]


def test_missing_and_damaged_sources(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("no video")
    for kind, path, expected in [
        ("folder", "empty", "no PNG or JPEG"),
        ("folder", "missing", "no folder"),
        ("file", "missing.mp4", "no file"),
        ("file", "text.mp4", "cannot be decoded"),
    ]:
        with pytest.raises(DataError, match=expected):
            list(open_source(params(kind=kind, path=path), site="s", root=tmp_path).frames())


def test_a_camera_that_does_not_answer_is_one_error_without_its_password(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(backoff.FIRST_S, "lost", 0.001)
    address = "rtsp://operator:topsecret@127.0.0.1:1/stream"
    source = open_source(params(kind="rtsp", path=address, reconnects=2), site="s", root=tmp_path)
    with pytest.raises(UnreachableError) as caught:
        list(source.frames())
    assert "3 attempts" in str(caught.value)
    assert "topsecret" not in str(caught.value) + capsys.readouterr().err
