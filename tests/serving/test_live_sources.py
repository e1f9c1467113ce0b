"""Cameras that die, freeze, vanish, refuse, and come back: against a real RTSP server."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import threading
import time
from contextlib import contextmanager

import pytest

from visionloop.core.errors import ConfigError, UnreachableError
from visionloop.serving.source_params import CredentialParams, SourceParams
from visionloop.serving.sources.backoff import Backoff, backoff_seconds
from visionloop.serving.sources.frames import Watcher
from visionloop.serving.sources.table import open_source

SLACK = 3
SECRET = "s3cr3t/p@ss"


class Viewer:
    """Plays a source in a thread and remembers what came, and when."""

    def __init__(self, server, path: str, rate: float = 0.0, **fields) -> None:
        self.seen: list[tuple[float, int, int]] = []
        self.faults: list[tuple[float, str]] = []
        self._server, self._ended = server, threading.Event()
        params = SourceParams(
            name="cam", kind="rtsp", path=path, rate=rate, reconnects=None, **fields
        )
        watcher = Watcher(self._ended.is_set, self._fault)
        self.source = open_source(params, site="s", root=None, watcher=watcher)
        self._thread = threading.Thread(target=self._play, daemon=True)
        self._thread.start()

    def _play(self) -> None:
        for frame in self.source.frames():
            self.seen.append((time.monotonic(), *self._server.read(frame.image)))

    def _fault(self, reason: str, wait_s: float) -> None:
        self.faults.append((time.monotonic(), reason))

    def wait(self, what, limit_s: float) -> float:
        """Wait until ``what()``; returns the moment, fails after the limit."""
        end = time.monotonic() + limit_s
        while not what():
            assert time.monotonic() < end, f"not within {limit_s} s; faults: {self.faults}"
            time.sleep(0.02)
        return time.monotonic()

    def wait_for_frame(self, limit_s: float) -> float:
        count = len(self.seen)
        return self.wait(lambda: len(self.seen) > count, limit_s)

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(10)
        assert not self._thread.is_alive()


@contextmanager
def watching(*viewers):
    try:
        yield viewers
    finally:
        for viewer in viewers:
            viewer.stop()


def address(server, camera: int = 1, host: str = "127.0.0.1") -> str:
    return f"rtsp://{host}:{server.port}/{camera}"


def test_c1_a_camera_that_died_comes_back_and_its_neighbour_notices_nothing(rtsp_server):
    first, other = rtsp_server(3), rtsp_server(2)
    viewers = Viewer(first, address(first, 3)), Viewer(other, address(other, 2))
    with watching(*viewers) as (dying, neighbour):
        for viewer in viewers:
            viewer.wait_for_frame(5 * SLACK)
        first.send(signal.SIGKILL)
        killed = time.monotonic()
        dying.wait(lambda: dying.faults, 1 * SLACK)
        time.sleep(1.5)
        first.start()
        back = dying.wait_for_frame(10 * SLACK)
        assert {camera for _, camera, _ in dying.seen} == {3}
        numbers = [n for moment, camera, n in neighbour.seen if killed <= moment <= back]
        assert {camera for _, camera, _ in neighbour.seen} == {2}
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert len(numbers) >= 0.6 * 10 * (back - killed)
        assert not neighbour.faults


def test_c2_a_camera_that_froze_is_noticed_and_comes_back(rtsp_server):
    server = rtsp_server(1)
    with watching(Viewer(server, address(server))) as (viewer,):
        viewer.wait_for_frame(5 * SLACK)
        server.send(signal.SIGSTOP)
        stopped = time.monotonic()
        viewer.wait(lambda: viewer.faults, 6 * SLACK)
        assert "no picture for 3 s" in viewer.faults[0][1]
        assert viewer.faults[0][0] - stopped >= 1
        server.send(signal.SIGCONT)
        viewer.wait_for_frame(10 * SLACK)


@pytest.fixture
def cable():
    """A host of its own behind a virtual cable: ``(launcher, address, set_link)``."""
    tag = f"{os.getpid() % 10_000}"
    space, near, far = f"vl{tag}", f"vl{tag}a", f"vl{tag}b"
    net = f"10.203.{random.randrange(1, 255)}"

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    try:
        ip("netns", "add", space)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not allowed here to make a network namespace")
    try:
        ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", space)
        ip("addr", "add", f"{net}.1/24", "dev", near)
        ip("link", "set", near, "up")
        ip("-n", space, "addr", "add", f"{net}.2/24", "dev", far)
        ip("-n", space, "link", "set", far, "up")
        yield (
            ("ip", "netns", "exec", space),
            f"{net}.2",
            lambda state: ip("-n", space, "link", "set", far, state),
        )
    finally:
        ip("netns", "delete", space)


@pytest.mark.slow
def test_c3_packets_that_vanish_are_noticed_and_nothing_leaks(rtsp_server, cable):
    launcher, host, set_link = cable
    server = rtsp_server(1, "--address", host, launcher=launcher)
    with watching(Viewer(server, address(server, host=host))) as (viewer,):
        viewer.wait_for_frame(5 * SLACK)
        used = None
        for _ in range(3):
            faults = len(viewer.faults)
            set_link("down")
            viewer.wait(lambda before=faults: len(viewer.faults) > before, 6 * SLACK)
            set_link("up")
            viewer.wait_for_frame(10 * SLACK)
            now = (len(os.listdir("/proc/self/fd")), threading.active_count())
            used = used or now
        assert now[0] <= used[0] + 1 and now[1] <= used[1] + 1


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("wrong password", "refuses this user or password"),
        ("wrong stream", "has no such stream"),
        ("no such name", "cannot be resolved"),
        ("not rtsp", "does not speak RTSP"),
    ],
)
def test_c5_what_somebody_must_change_is_said_without_the_password(
    rtsp_server, monkeypatch, capsys, what, said
):
    server = rtsp_server(1, "--user", "viewer", "--password", SECRET)
    monkeypatch.setenv("CAM_PASSWORD", SECRET + ("x" if what == "wrong password" else ""))
    path = address(server, 9 if what == "wrong stream" else 1)
    with socket.create_server(("127.0.0.1", 0)) as other:
        if what == "not rtsp":
            path = f"rtsp://127.0.0.1:{other.getsockname()[1]}/1"
            threading.Thread(target=_answer_like_ssh, args=(other,), daemon=True).start()
        if what == "no such name":
            path = "rtsp://camera-7.invalid/1"
        params = SourceParams(
            name="gate-7",
            kind="rtsp",
            path=path,
            reconnects=0,
            credentials=CredentialParams(user="viewer", password_env="CAM_PASSWORD"),
        )
        with pytest.raises(UnreachableError) as caught:
            list(open_source(params, site="s", root=None).frames())
    shown = str(caught.value) + repr(caught.value) + capsys.readouterr().err
    assert said in shown and "gate-7" in shown
    assert SECRET not in shown and "p%40ss" not in shown


def _answer_like_ssh(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
        connection.recv(1000)


def test_c5_the_right_password_with_odd_signs_opens(rtsp_server, tmp_path):
    server = rtsp_server(1, "--user", "viewer", "--password", SECRET)
    (tmp_path / "password").write_text(SECRET + "\n")
    login = CredentialParams(user="viewer", password_file=str(tmp_path / "password"))
    params = SourceParams(name="cam", kind="rtsp", path=address(server), credentials=login)
    frame = next(open_source(params, site="s", root=tmp_path).frames())
    assert server.read(frame.image)[0] == 1


def test_c5_a_password_that_is_nowhere_is_said_before_anything_is_opened(tmp_path):
    for given, said in [
        ({"password_env": "NO_SUCH_VARIABLE"}, "NO_SUCH_VARIABLE is not set"),
        ({"password_file": "nowhere"}, "cannot be read"),
    ]:
        login = CredentialParams(user="u", **given)
        params = SourceParams(name="cam", kind="rtsp", path="rtsp://h/1", credentials=login)
        with pytest.raises(ConfigError, match=said):
            open_source(params, site="s", root=tmp_path)


def test_c5_c11_waits_grow_are_bounded_and_scattered():
    for kind, first, longest in [("lost", 0.5, 5.0), ("refused", 10.0, 60.0)]:
        previous = 0.0
        for failures in range(1, 40):
            low, high = (backoff_seconds(failures, kind, draw) for draw in (0.0, 0.999))
            assert low < high <= longest * 1.5
            assert low >= (first if kind == "refused" else 0.4 * first)
            assert low >= previous
            previous = low
    assert backoff_seconds(10**6, "lost", 0.5) <= 5.0


def test_a_camera_that_answers_and_falls_over_again_waits_longer():
    backoff = Backoff(draw=lambda: 0.0)
    waits = []
    for _ in range(4):
        backoff.worked()
        waits.append(backoff.failed("lost"))
    assert waits == sorted(waits) and waits[-1] > 3 * waits[0]


@pytest.mark.slow
def test_c11_sixteen_cameras_return_at_once_and_do_not_storm(rtsp_server):
    server = rtsp_server(16, "--fps", "5")
    viewers = [Viewer(server, address(server, n), rate=2.0) for n in range(1, 17)]
    with watching(*viewers):
        for viewer in viewers:
            viewer.wait_for_frame(20 * SLACK)
        server.send(signal.SIGKILL)
        time.sleep(8)
        attempts = [moment for viewer in viewers for moment, _ in viewer.faults]
        server.start()
        for number, viewer in enumerate(viewers, start=1):
            viewer.wait_for_frame(30 * SLACK)
            assert {camera for _, camera, _ in viewer.seen} == {number % 16}
    late = sorted(moment for moment in attempts if moment > min(attempts) + 4)
    assert len(late) >= 16 * 0.6
    crowd = max(sum(moment <= other < moment + 0.25 for other in late) for moment in late)
    assert crowd <= len(late) * 0.5


def test_c4_a_camera_that_falls_over_again_and_again_is_not_hammered(monkeypatch):
    """For an hour it gives pictures for 0.3 s whenever it is connected, then falls."""
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    backoff, moments = Backoff(), []
    while clock[0] < 3600:
        moments.append(clock[0])
        backoff.worked()
        clock[0] += 0.3
        waited = backoff.failed("lost")
        assert waited <= 7.5  # and connected: a picture ten seconds after it is back
        clock[0] = backoff.ready_at
    most = max(sum(m <= other < m + 60 for other in moments) for m in moments)
    assert most <= 14  # a few at once, then every six seconds
    assert len(moments) <= 3600 / 6 + 5
    # One that never works is no flapping: its waits stay short, so that it is back soon.
    away = Backoff()
    assert max(away.failed("lost") for _ in range(20)) <= 5.0


def test_a_refusal_after_a_row_of_faults_waits_as_the_first_one():
    backoff = Backoff(draw=lambda: 0.0)
    assert [backoff.failed("lost") for _ in range(5)][-1] == pytest.approx(2.0)
    assert [backoff.failed("refused") for _ in range(2)] == [10.0, 20.0]
    assert backoff.failed("lost") == pytest.approx(0.2)


def test_c4_a_camera_that_worked_and_answers_nonsense_while_it_starts_is_back_soon(rtsp_server):
    server = rtsp_server(1)
    with watching(Viewer(server, address(server))) as (viewer,):
        viewer.wait_for_frame(5 * SLACK)
        server.send(signal.SIGKILL)
        with socket.create_server(("127.0.0.1", server.port)) as booting:
            booting.settimeout(15 * SLACK)
            for _ in range(2):
                connection, _ = booting.accept()
                connection.recv(4096)
                connection.sendall(b"not yet\r\n\r\n")
                connection.close()
        server.start()
        viewer.wait_for_frame(10 * SLACK)
        assert not any("does not speak RTSP" in reason for _, reason in viewer.faults)
