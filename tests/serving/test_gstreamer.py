"""Cameras through GStreamer: a real pipeline, run by the system's Python."""

from __future__ import annotations

import subprocess
import time

import pytest

from visionloop.core.errors import ConfigError, UnreachableError
from visionloop.serving.source_params import CredentialParams, SourceParams
from visionloop.serving.sources.table import open_source

TEST_PICTURES = "videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=10/1"


@pytest.fixture(autouse=True)
def _needs_gstreamer():
    probe = "import gi; gi.require_version('Gst', '1.0'); from gi.repository import Gst"
    try:
        found = subprocess.run(["/usr/bin/python3", "-c", probe], capture_output=True)
    except OSError:
        found = None
    if found is None or found.returncode:
        pytest.skip("/usr/bin/python3 has no GStreamer (see tests/debian.txt)")


def source(path: str, **fields):
    params = SourceParams(name="cam", kind="gstreamer", path=path, reconnects=0, **fields)
    return open_source(params, site="s", root=None)


def test_pictures_of_a_pipeline_come_at_its_rate():
    began = time.monotonic()
    frames = []
    for frame in source(TEST_PICTURES).frames():
        frames.append(frame)
        if len(frames) == 15:
            break
    assert time.monotonic() - began > 1.0
    assert frames[0].image.shape == (240, 320, 3)
    red, blue = frames[0].image[100, 245].astype(int), frames[0].image[100, 290].astype(int)
    assert red[2] > 150 > red[0] and blue[0] > 150 > blue[2]  # SMPTE bars, BGR


def test_a_pipeline_that_ends_hangs_or_is_wrong_is_said():
    with pytest.raises(UnreachableError, match="the stream ended"):
        list(source(TEST_PICTURES.replace("is-live=true", "num-buffers=3")).frames())
    with pytest.raises(UnreachableError, match="nosuchthing"):
        list(source("nosuchthing ! video/x-raw").frames())


def test_the_password_is_filled_in_and_never_shown(monkeypatch):
    login = CredentialParams(user="viewer", password_env="CAM_PASSWORD")
    monkeypatch.setenv("CAM_PASSWORD", "s3cr3t")
    path = "rtspsrc location=rtsp://{user}:{password}@127.0.0.1:1/1 ! rtph264depay ! avdec_h264"
    with pytest.raises(UnreachableError) as caught:
        list(source(path, credentials=login).frames())
    assert "s3cr3t" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"has no .password"):
        source("rtspsrc location=rtsp://127.0.0.1/1", credentials=login)
