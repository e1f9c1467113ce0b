"""Databases of a hub, SQLite and a real PostgreSQL; the hub itself: ``make_hub``."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from visionloop.core.files import canonical_json, sha256_of_bytes
from visionloop.serving.edge.delivery.event_ids import new_event_id


@pytest.fixture(scope="session")
def postgres(tmp_path_factory, lasting_port):
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
    data, port = folder / "data", lasting_port()
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
