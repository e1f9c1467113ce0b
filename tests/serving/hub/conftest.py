"""A hub as a process of its own, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from visionloop.core.files import canonical_json, sha256_of_bytes
from visionloop.serving.edge.delivery.event_ids import new_event_id
from visionloop.serving.hub.database import add_device, open_database


def free_port() -> int:
    """A port below those that the kernel gives to clients: nobody takes it while we restart."""
    while True:
        port = random.randint(20_000, 32_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


class HubProcess:
    """``visionloop serve hub``, killed and started again on one port."""

    def __init__(self, database: str, folder: Path) -> None:
        self.database, self.folder, self.port = database, folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True, **environment: str) -> None:
        command = [sys.executable, "-m", "visionloop.serving", "hub", "--port", str(self.port)]
        with (self.folder / "hub.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, "VISIONLOOP_HUB_DATABASE": self.database, **environment},
                stdout=log,
                stderr=log,
            )
        if wait:
            self.wait()

    def wait(self) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.url}/health", trust_env=False).status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.1)
        raise AssertionError((self.folder / "hub.log").read_text())

    def send(self, what: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(what)
        if what == signal.SIGKILL:
            self.process.wait()

    def log(self) -> str:
        return (self.folder / "hub.log").read_text()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """The URL of a PostgreSQL server with an empty database."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        pytest.skip("there is no PostgreSQL server (see tests/debian.txt)")
    binaries = found[-1].parent
    folder = tmp_path_factory.mktemp("postgres")
    as_root = {}
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "postgres", "postgres")
        as_root = {"user": "postgres", "group": "postgres", "extra_groups": []}
        for parent in folder.parents:
            if parent.owner() == "root" and parent != Path("/") and not parent.stat().st_mode & 1:
                parent.chmod(parent.stat().st_mode | 0o011)
    data, port = folder / "data", free_port()
    options = ["-A", "trust", "-U", "hub", "--no-sync", "-E", "UTF8", "--locale=C"]
    subprocess.run(
        [binaries / "initdb", "-D", data, *options],
        check=True,
        capture_output=True,
        cwd=folder,
        **as_root,
    )
    process = subprocess.Popen(
        [binaries / "postgres", "-D", data, "-p", str(port), "-k", folder, "-h", "127.0.0.1"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **as_root,
    )
    ready = [binaries / "pg_isready", "-h", "127.0.0.1", "-p", str(port), "-q"]
    deadline = time.monotonic() + 30
    while subprocess.run(ready, check=False).returncode:
        assert time.monotonic() < deadline, "PostgreSQL does not start"
        time.sleep(0.1)
    yield SimpleNamespace(
        url=f"postgresql://hub:secret-of-the-hub@127.0.0.1:{port}", process=process
    )
    process.send_signal(signal.SIGQUIT)  # its files go away: no checkpoint is needed
    process.wait(20)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path) -> str:
    """The URL of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'hub.db'}"
    server = request.getfixturevalue("postgres")
    name = f"hub{os.getpid()}_{time.monotonic_ns()}"
    import psycopg

    with psycopg.connect(f"{server.url}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{server.url}/{name}"


@pytest.fixture
def make_hub(tmp_path):
    """Start hubs: ``make_hub(database)``, with a device ``d1`` whose token is ``hub.token``."""
    hubs = []

    def make(database: str, *, start: bool = True, **environment: str) -> HubProcess:
        hub = HubProcess(database, tmp_path)
        engine = open_database(database)
        hub.token = add_device(engine, "d1")
        engine.dispose()
        hubs.append(hub)
        if start:
            hub.start(**environment)
        return hub

    yield make
    for hub in hubs:
        if hub.process is not None:
            hub.process.kill()
            hub.process.wait()


@pytest.fixture
def make_event():
    """Build a well-formed event: ``make_event(seq=3, payload={...})``."""

    def make(**changes):
        payload = changes.pop("payload", {"camera": "c1"})
        event = {
            "event_id": new_event_id(),
            "seq": 1,
            "boot_id": "b",
            "kind": "zone",
            "priority": 1,
            "created_at": "2026-11-01T10:00:00Z",
            "created_monotonic": 1.5,
            "clock_ok": True,
            "payload": payload,
            "sha256": sha256_of_bytes(canonical_json(payload)),
        }
        return {**event, **changes}

    return make
