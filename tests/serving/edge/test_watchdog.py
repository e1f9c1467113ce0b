"""M6: an agent that is killed or stopped is started again, and its outage is counted."""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from visionloop.serving.edge.delivery.outbox import read_events
from visionloop.serving.edge.watchdog import Watchdog

UNIT = Path(__file__).parents[3] / "deploy" / "visionloop-edge.service"
BACK_S = 10.0
"""What the device promises; tests allow three times as much on a busy machine."""


def read_unit() -> dict[str, str]:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str
    parser.read(UNIT)
    return dict(parser["Service"])


class Supervisor:
    """As systemd does with the unit's words: notify, watchdog, always again."""

    def __init__(self, device) -> None:
        unit = read_unit()
        assert (unit["Type"], unit["Restart"]) == ("notify", "always")
        assert unit["WatchdogSignal"] == "SIGKILL"  # SIGABRT never reaches what is stopped
        self.limit_s, self.pause_s = float(unit["WatchdogSec"]), float(unit["RestartSec"])
        # Abstract: no file is left, and no path is too long.
        self.address = f"visionloop-{os.getpid()}-{time.monotonic_ns()}"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{self.address}")
        self.command = [sys.executable, "-m", "visionloop.serving", "edge"]
        self.command += ["-w", str(device.workspace.root), "--config", str(device.config)]
        self.log = device.workspace.root / "agent.log"
        self.starts, self.killed = 0, 0
        self.heard: list[str] = []
        self.is_ready = False
        self.start()

    def start(self) -> None:
        self.starts += 1
        self.is_ready, self.last = False, time.monotonic()
        environment = {
            **os.environ,
            "NOTIFY_SOCKET": f"@{self.address}",
            "WATCHDOG_USEC": str(round(self.limit_s * 1e6)),
        }
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self.command, env=environment, stdout=log, stderr=subprocess.STDOUT
            )

    def turn(self) -> None:
        """Hear what is said; end what is silent, start what has ended."""
        if select.select([self.socket], [], [], 0.05)[0]:
            words = self.socket.recv(4096).decode().splitlines()
            self.heard += words
            self.is_ready |= "READY=1" in words
            if "WATCHDOG=1" in words:
                self.last = time.monotonic()
        silent = time.monotonic() - self.last
        if self.process.poll() is None and self.is_ready and silent > self.limit_s:
            self.killed += 1
            self.process.kill()
            self.process.wait(10)
        if self.process.poll() is not None:
            time.sleep(self.pause_s)
            self.start()

    def until(self, what, limit_s: float) -> float:
        start = time.monotonic()
        while not what():
            assert time.monotonic() - start < limit_s, self.log.read_text()
            self.turn()
        return time.monotonic() - start

    def close(self) -> None:
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        self.process.kill()
        self.process.wait(10)
        self.socket.close()


@pytest.fixture
def supervisor(device, worker_frames, film):
    film.write(device.workspace.root / "worn.mp4", worker_frames[::2])
    rule = {"name": "vest", "kind": "detection_present", "class_name": "vest", "cooldown_s": 0.3}
    camera = {"name": "a", "kind": "file", "path": "worn.mp4", "loop": True, "rules": [rule]}
    device.write_config([camera], gate={"enabled": False}, evidence={"clips": False})
    made = Supervisor(device)
    yield made
    made.close()


def seen_since(device, moment: float) -> bool:
    try:
        events = read_events(device.workspace.edge / "outbox.db")
    except Exception:
        return False
    return any("rule" in one.payload and one.created_monotonic > moment for one in events)


def bad_minutes(device) -> int:
    content = json.loads((device.workspace.edge / "minutes.json").read_text())
    return content["cameras"]["a"]["bad"].get("agent", 0)


def test_m6_a_killed_and_a_stopped_agent_analyse_again_and_the_outage_is_counted(
    device, supervisor, record_property
):
    supervisor.until(lambda: seen_since(device, 0.0), 60)
    assert supervisor.heard[0] == "READY=1"
    before = bad_minutes(device)
    assert before == 0
    for number, blow in enumerate((signal.SIGKILL, signal.SIGSTOP), start=1):
        rest = time.monotonic() + 4  # a shorter outage than 3 s leaves a minute good
        supervisor.until(lambda rest=rest: time.monotonic() > rest, 30)
        moment = time.monotonic()
        os.kill(supervisor.process.pid, blow)
        took = supervisor.until(lambda moment=moment: seen_since(device, moment), 3 * BACK_S)
        record_property(blow.name, took)
        print(f"{blow.name}: a frame is analysed again after {took:.1f} s")
        assert supervisor.starts == number + 1
        supervisor.until(lambda number=number: bad_minutes(device) >= number, 10)
    assert supervisor.killed == 1  # the stopped one; the killed one ended by itself
    steady = time.monotonic() + 2 * supervisor.limit_s
    supervisor.until(lambda: time.monotonic() > steady, 60)
    assert supervisor.killed == 1  # one that works is left alone
    supervisor.process.terminate()
    assert supervisor.process.wait(20) == 0


def test_signs_of_life_reach_a_socket_with_a_path_and_nobody_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "5000000")
    Watchdog().beat()  # nobody listens
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        watchdog = Watchdog()
        with watchdog.patience():  # before it is ready systemd's own limit of a start holds
            pass
        watchdog.beat()
        watchdog.beat()  # too soon: not said
        with watchdog.patience():
            pass
        watchdog.stop()
        said = [listener.recv(1000).decode() for _ in range(4)]
    assert said == [
        "READY=1\nWATCHDOG=1",
        "WATCHDOG_USEC=300000000",
        "WATCHDOG_USEC=5000000\nWATCHDOG=1",
        "STOPPING=1",
    ]
    monkeypatch.delenv("NOTIFY_SOCKET")
    Watchdog().beat()


def test_a_line_of_sources_beats_too(device, worker_frames, film, tmp_path, monkeypatch):
    from visionloop.serving.edge.agent import run_agent

    film.write(device.workspace.root / "worn.mp4", worker_frames[:10])
    device.write_config([], sources=[{"name": "line", "kind": "file", "path": "worn.mp4"}])
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        run_agent(workspace=device.workspace, config=device.config)
        listener.settimeout(5)
        assert listener.recv(1000) == b"READY=1\nWATCHDOG=1"
        while (said := listener.recv(1000)) == b"WATCHDOG=1":
            pass
        assert said == b"STOPPING=1"


def test_systemd_takes_the_unit_file(tmp_path):
    """With the programs that it starts put where they exist."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / UNIT.name
    text = UNIT.read_text()
    unit.write_text(text.replace("/opt/visionloop/bin/visionloop", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    about_unit = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert about_unit == []
    wrong = tmp_path / "wrong" / UNIT.name
    wrong.parent.mkdir()
    wrong.write_text(unit.read_text().replace("WatchdogSec=5", "WatchdogSec=soon"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(wrong)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert UNIT.name in done.stderr  # the check can fail
