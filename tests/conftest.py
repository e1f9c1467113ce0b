"""Fixtures that several stages share, and the rule for skips in continuous integration."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from visionloop.core.privacy import set_quiet_environment

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers share two cores
set_quiet_environment()

SYSTEM_PYTHON = "/usr/bin/python3"
"""Debian's, which sees Debian's GStreamer."""
ALLOWED_SKIPS = Path(__file__).parent / "allowed_skips.txt"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """With CI=true a skip is a failure unless its reason is allowed."""
    outcome = yield
    report = outcome.get_result()
    if not report.skipped or os.environ.get("CI") != "true" or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    if not any(reason.startswith(prefix) for prefix in _allowed_prefixes()):
        report.outcome = "failed"
        report.longrepr = f"skipped in continuous integration: {reason}"


LONGEST_FIRST = ("tests/loop/", "tests/pipelines/", "tests/labeling/test_studio", "tests/training/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes start first, so that no worker is left alone with one at the end."""

    def place(item: pytest.Item) -> int:
        name = item.path.relative_to(item.config.rootpath).as_posix()
        found = [number for number, start in enumerate(LONGEST_FIRST) if name.startswith(start)]
        return found[0] if found else len(LONGEST_FIRST)

    items.sort(key=place)


def _allowed_prefixes() -> list[str]:
    lines = ALLOWED_SKIPS.read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


@pytest.fixture(scope="session")
def key_pair(tmp_path_factory) -> tuple[Path, Path]:
    """A throw-away signing key pair (private, public)."""
    from visionloop.serving.signing import new_key_pair

    return new_key_pair(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def signed(key_pair, monkeypatch) -> tuple[Path, Path]:
    """The key pair, named in the environment as commands expect it."""
    private, public = key_pair
    monkeypatch.setenv("VISIONLOOP_SIGNING_KEY", str(private))
    monkeypatch.setenv("VISIONLOOP_TRUSTED_KEYS", str(public))
    return private, public


@pytest.fixture
def mirror() -> Path:
    """The folder of data set archives named by VISIONLOOP_MIRROR."""
    folder = os.environ.get("VISIONLOOP_MIRROR")
    if not folder or not Path(folder).is_dir():
        pytest.skip("VISIONLOOP_MIRROR names no folder of data set archives")
    return Path(folder)


class RtspServer:
    """A real RTSP server in a process of its own: ``tests/rtsp_server.py``."""

    def __init__(self, port: int, options: list[str], launcher: list[str]) -> None:
        self.port = port
        script = str(Path(__file__).parent / "rtsp_server.py")
        self._command = [*launcher, SYSTEM_PYTHON, script, str(port), *options]
        self.start()

    def start(self) -> None:
        """Start it, again after a kill, on the same port."""
        self.process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def send(self, what: signal.Signals) -> None:
        """Send it a signal: SIGKILL, SIGSTOP, SIGCONT."""
        self.process.send_signal(what)
        if what == signal.SIGKILL:
            self.process.wait()

    @staticmethod
    def read(image) -> tuple[int, int]:
        """Camera and number that stand in the bars of a picture."""
        bits = "".join("1" if bar > 128 else "0" for bar in image[60, 8::16, 0])
        return int(bits[:4], 2), int(bits[4:], 2)


@pytest.fixture
def rtsp_server():
    """Start RTSP servers: ``rtsp_server(cameras, "--user", "u", ..., launcher=[...])``."""
    probe = "import gi; gi.require_version('GstRtspServer', '1.0')"
    try:
        found = subprocess.run([SYSTEM_PYTHON, "-c", probe], capture_output=True)
    except OSError:
        found = None
    if found is None or found.returncode:
        pytest.skip(f"{SYSTEM_PYTHON} has no gst-rtsp-server (see tests/debian.txt)")
    servers: list[RtspServer] = []

    def start(cameras: int, *options: str, launcher: tuple[str, ...] = ()) -> RtspServer:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        servers.append(RtspServer(port, [str(cameras), *options], list(launcher)))
        return servers[-1]

    yield start
    for server in servers:
        server.process.kill()
        server.process.wait()


def find_lasting_port() -> int:
    """A port below those that the kernel gives to clients: nobody takes it while we restart."""
    while True:
        port = random.randint(20_000, 32_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


class HubProcess:
    """``visionloop serve hub``, killed and started again on one port."""

    def __init__(self, database: str, folder: Path) -> None:
        self.database, self.folder, self.port = database, folder, find_lasting_port()
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
def lasting_port():
    """Find ports that stay free while a server on them is killed and started again."""
    return find_lasting_port


@pytest.fixture
def make_hub(tmp_path):
    """Start hubs: ``make_hub(database)``, with a device ``d1`` whose token is ``hub.token``."""
    from visionloop.serving.hub.database import add_device, open_database

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


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """Debian's Chromium, driven by Playwright."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("there is no Chromium here")
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    options += ["--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=options)
        yield started
        started.close()
