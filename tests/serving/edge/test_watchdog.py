"""M6, E6: an agent that is killed or hangs comes back; one on a read-only disk goes on."""

from __future__ import annotations

import configparser
import json
import os
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
SLACK = 3
VEST = {"name": "vest", "kind": "detection_present", "class_name": "vest", "cooldown_s": 0.3}


class Supervisor:
    """Does to the agent what systemd does, by the numbers of the unit file."""

    def __init__(self, device, folder: Path) -> None:
        unit = configparser.RawConfigParser(strict=False)
        unit.optionxform = str
        unit.read(UNIT)
        service = unit["Service"]
        assert (service["Type"], service["Restart"]) == ("notify", "always")
        assert service["WatchdogSignal"] == "SIGKILL"
        self.limit_s, self.restart_s = float(service["WatchdogSec"]), float(service["RestartSec"])
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(folder / "notify"))
        self.socket.settimeout(0.1)
        self.command = [sys.executable, "-m", "visionloop.serving", "edge"]
        self.command += ["-w", str(device.workspace.root), "--config", str(device.config)]
        self.environment = {**os.environ, "NOTIFY_SOCKET": str(folder / "notify")}
        self.log = (folder / "agent.log").open("w")
        self.starts: list[float] = []
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command, env=self.environment, stdout=self.log, stderr=self.log
        )
        self.starts.append(time.monotonic())
        self.is_ready, self.beat = False, time.monotonic()

    def run_until(self, what, limit_s: float) -> None:
        end = time.monotonic() + limit_s
        while not what():
            assert time.monotonic() < end, Path(self.log.name).read_text()[-3000:]
            try:
                text = self.socket.recv(256).decode()
                self.is_ready = self.is_ready or "READY=1" in text
                self.beat = time.monotonic()
            except TimeoutError:
                pass
            if self.is_ready and time.monotonic() - self.beat > self.limit_s:
                self.process.kill()
            if self.process.poll() is not None:
                time.sleep(self.restart_s)
                self.start()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.socket.close()
        self.log.close()


@pytest.fixture
def supervisor(device, worker_frames, film, tmp_path):
    film.write(device.workspace.root / "worn.mp4", worker_frames[::2])
    camera = {"name": "a", "kind": "file", "path": "worn.mp4", "loop": True}
    device.write_config([camera], rules=[VEST], gate={"enabled": False}, evidence={"clips": False})
    made = Supervisor(device, tmp_path)
    yield made
    made.end()


@pytest.mark.parametrize("what", [signal.SIGKILL, signal.SIGSTOP])
def test_m6_an_agent_that_is_killed_or_stopped_watches_again(device, supervisor, what):
    database = device.workspace.edge / "outbox.db"

    def has_event(since: float) -> bool:
        return database.exists() and any(
            event.created_monotonic > since for event in read_events(database)
        )

    supervisor.run_until(lambda: supervisor.is_ready and has_event(0.0), 60)
    supervisor.process.send_signal(what)
    moment = time.monotonic() + 0.2
    supervisor.run_until(lambda: has_event(moment), SLACK * 10)
    assert len(supervisor.starts) == 2
    # It goes on by itself: nobody ends an agent that says that it works.
    later = time.monotonic() + supervisor.limit_s + 2
    supervisor.run_until(lambda: time.monotonic() > later, 60)
    assert len(supervisor.starts) == 2


def test_signs_of_life_are_few_and_abstract_names_work():
    name = f"visionloop-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
        there.bind(f"\0{name}")
        there.settimeout(1)
        watchdog = Watchdog(f"@{name}")
        for _ in range(100):
            watchdog.beat()
        watchdog.end()
        assert there.recv(99) == b"READY=1\nWATCHDOG=1"
        assert there.recv(99) == b"STOPPING=1"
    watchdog.beat()  # nobody listens any more: nothing happens


@pytest.fixture
def edge_disk(device):
    """The agent's folder is a file system of its own."""
    folder = device.workspace.edge
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("not allowed here to make a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_e6_an_agent_on_a_read_only_disk_watches_and_tells(device, worker_frames, film, edge_disk):
    root = device.workspace.root
    film.write(root / "worn.mp4", worker_frames[::2])
    camera = {"name": "a", "kind": "file", "path": "worn.mp4", "loop": True}
    sink = {"name": "log", "kind": "file", "address": "events.jsonl"}
    device.write_config([camera], rules=[VEST], gate={"enabled": False}, sinks=[sink])
    command = [sys.executable, "-m", "visionloop.serving", "edge", "--max-seconds", "6"]
    command += ["-w", str(root), "--config", str(device.config)]
    told = []
    for state in ("rw", "ro"):
        subprocess.run(["mount", "-o", f"remount,{state}", str(edge_disk)], check=True)
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)
        assert done.returncode == 0, done.stderr[-3000:]
        assert "Traceback" not in done.stderr
        rows = [json.loads(row) for row in (root / "events.jsonl").read_text().splitlines()]
        told.append({row["event_id"] for row in rows if row["kind"] != "model_update"})
    assert "read-only" in done.stderr
    assert len(told[1] - told[0]) >= 2
    kinds = {row["kind"] for row in rows if row["event_id"] in told[1] - told[0]}
    assert "outbox_in_memory" in kinds
