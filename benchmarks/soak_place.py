"""Where ``soak.py`` and ``edge_extra.py`` run the agent: cameras, configuration, its metrics."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml
from stream_detector import MODEL

__all__ = [
    "RtspServer",
    "connect",
    "free_port",
    "memory_mb",
    "rtsp_camera",
    "rtsp_server",
    "write_config",
]

SYSTEM_PYTHON = "/usr/bin/python3"
LOOK_EVERY_S = 0.05


class RtspServer:
    """``soak_server.py`` on a port that stays the same."""

    def __init__(self, films: list[Path]) -> None:
        self.port = free_port()
        script = str(Path(__file__).parent / "soak_server.py")
        self._command = [SYSTEM_PYTHON, script, str(self.port), *map(str, films)]
        self.start()

    def start(self) -> None:
        """Start it, again after a kill."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise SystemExit("gst-rtsp-server does not start (see tests/debian.txt)")

    def send(self, what: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(what)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()


@contextmanager
def rtsp_server(films: list[Path]) -> Iterator[RtspServer]:
    """A server that is left alone."""
    server = RtspServer(films)
    try:
        yield server
    finally:
        server.kill()


def rtsp_camera(server: RtspServer, number: int, name: str = "rtsp") -> dict[str, Any]:
    """A camera of the configuration."""
    url = f"rtsp://127.0.0.1:{server.port}/{number}"
    return {"name": f"{name}-{number}", "kind": "rtsp", "path": url}


def write_config(place: Path, cameras: list[dict[str, Any]], port: int) -> Path:
    """``edge.yaml`` of the run."""
    rule = {"name": "person", "kind": "zone_entry", "class_name": "person", "cooldown_s": 5.0}
    content = {
        "model": MODEL,
        "threads": 1,
        "cameras": cameras,
        "rules": [{**rule, "minimum_confidence": 0.4}],
        "gate": {"active_fps": 1.0},
        "evidence": {"clip_before_s": 2.0, "clip_after_s": 1.0, "ring_megabytes": 1.0},
        "status": {"port": port},
        "sinks": [{"name": "log", "kind": "file", "address": "events.jsonl", "max_mb": 1.0}],
    }
    config = place / "edge.yaml"
    config.write_text(yaml.safe_dump(content, sort_keys=False))
    return config


def connect(place: Path, port: int, agent: subprocess.Popen[bytes]) -> httpx.Client:
    """A client of the status page, once all that is there."""
    token = place / "edge" / "status.token"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and agent.poll() is None:
        if token.is_file():
            headers = {"Authorization": f"Bearer {token.read_text().strip()}"}
            client = httpx.Client(
                base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False
            )
            try:
                if "visionloop_camera_up{" in client.get("/metrics", timeout=30).text:
                    return client
            except httpx.HTTPError:
                client.close()
        time.sleep(LOOK_EVERY_S)
    raise SystemExit((place / "agent.log").read_text()[-2000:])


def memory_mb(pid: int) -> float:
    """Proportional set size of a process and its children."""
    total = 0
    children = Path(f"/proc/{pid}/task/{pid}/children")
    for one in [str(pid), *children.read_text().split()]:
        try:
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next(int(row.split()[1]) for row in text.splitlines() if row.startswith("Pss:"))
    return total / 1024


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
