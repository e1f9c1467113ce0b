"""Cameras that give a picture at a web address: log-in, what is no picture, slowness."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

from visionloop.core.errors import UnreachableError
from visionloop.serving.source_params import CredentialParams, SourceParams
from visionloop.serving.sources import snapshot
from visionloop.serving.sources.table import open_source

USER, SECRET = "viewer", "s3cr3t/p@ss"


def md5(*parts: str) -> str:
    return hashlib.md5(":".join(parts).encode()).hexdigest()


class Camera(BaseHTTPRequestHandler):
    """Asks for a Digest (RFC 2617) at ``/digest``; ``/query`` wants the password there."""

    picture = cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1].tobytes()

    def log_message(self, *_words) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        if self.path == "/digest" and not self._has_digest():
            self.send_response(401)
            self.send_header(
                "WWW-Authenticate", 'Digest realm="cam", nonce="abc", qop="auth", algorithm=MD5'
            )
            self.end_headers()
            return
        if self.path.startswith("/query") and "pwd=s3cr3t%2Fp%40ss" not in self.path:
            self.send_error(403)
            return
        if self.path == "/busy":
            self.send_error(503)
            return
        body = self.picture[:-40] if self.path == "/half" else self.picture
        self.send_response(200 if self.path != "/nowhere" else 404)
        self.end_headers()
        for place in range(0, len(body), 50):
            if self.path == "/slow":
                time.sleep(0.2)
            self.wfile.write(body[place : place + 50])

    def _has_digest(self) -> bool:
        given = dict(re.findall(r'(\w+)="?([^",]+)', self.headers.get("Authorization", "")))
        if given.get("username") != USER:
            return False
        names = ("nonce", "nc", "cnonce", "qop")
        first, second = md5(USER, "cam", SECRET), md5("GET", "/digest")
        return given["response"] == md5(first, *(given[name] for name in names), second)


@pytest.fixture
def play(monkeypatch):
    """The first frame at a path: ``play("/digest")``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("CAM_PASSWORD", SECRET)

    def first(path: str):
        params = SourceParams(
            name="gate",
            kind="http",
            path=f"http://127.0.0.1:{server.server_port}{path}",
            credentials=CredentialParams(user=USER, password_env="CAM_PASSWORD"),
            reconnects=0,
        )
        return next(open_source(params, site="s", root=None).frames())

    yield first
    server.shutdown()


@pytest.mark.parametrize("path", ["/digest", "/query?user={user}&pwd={password}", "/open"])
def test_the_cameras_own_file_comes_by_every_log_in(play, path):
    frame = play(path)
    assert frame.image.shape == (48, 64, 3) and abs(int(frame.image.mean()) - 90) < 3
    assert frame.encoded == Camera.picture


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/nowhere", "has no such picture"),
        ("/query?pwd=x", "refuses this user or password"),
        ("/busy", "answered 503"),
        ("/half", "truncated"),
        ("/slow", "not complete after"),
    ],
)
def test_c5_what_is_wrong_is_said(play, monkeypatch, path, said):
    monkeypatch.setattr(snapshot, "OPEN_TIMEOUT_S", 0.5)
    with pytest.raises(UnreachableError, match=said) as caught:
        play(path)
    assert "camera 'gate'" in str(caught.value) and SECRET not in str(caught.value)
