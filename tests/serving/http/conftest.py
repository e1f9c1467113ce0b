"""HTTP servers: in this process for most tests, as a command where processes are killed."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import onnx
import pytest
import uvicorn
import yaml
from onnx import helper, numpy_helper

from visionloop.core.workspace import Workspace
from visionloop.serving.http.app import make_app
from visionloop.serving.http.state import ServerState, make_state, read_params
from visionloop.serving.http.tokens import Tokens
from visionloop.serving.package import write_package
from visionloop.serving.releases.store import publish

TOKEN = "a-token-of-the-tests"
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def until(is_so: Callable[[], Any], *, seconds: float = 30) -> Any:
    """Wait for something to come true, and return it."""
    deadline = time.monotonic() + seconds
    while True:
        found = is_so()
        if found:
            return found
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def as_png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


@dataclass
class Running:
    """A server that serves."""

    url: str
    state: ServerState

    def ask(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        arguments.setdefault("headers", {})
        arguments["headers"] = {**BEARER, **arguments["headers"]}
        return httpx.request(method, self.url + path, timeout=30, trust_env=False, **arguments)

    def predict(self, content: bytes, **arguments: Any) -> httpx.Response:
        headers = {"Content-Type": "image/png", **arguments.pop("headers", {})}
        return self.ask("POST", "/v1/predict", content=content, headers=headers, **arguments)

    def metric(self, name: str) -> float:
        lines = self.ask("GET", "/metrics").text.splitlines()
        return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


@contextmanager
def serve(workspace: Workspace) -> Iterator[Running]:
    params, model, task = read_params(workspace, None)
    state = make_state(workspace, params, model=model, vision_task=task, tokens=Tokens([TOKEN]))
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(make_app(state), log_level="error"))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield Running(f"http://127.0.0.1:{listener.getsockname()[1]}", state)
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        assert not thread.is_alive()


@pytest.fixture
def serve_http(monkeypatch):
    """Serve a workspace inside a block."""
    monkeypatch.setattr("visionloop.serving.releases.hot_swap.RETRY_SECONDS", 0.2)
    return serve


@pytest.fixture
def wait_until():
    return until


@pytest.fixture
def png():
    return as_png


@dataclass
class Plant:
    """A workspace with releases."""

    workspace: Workspace
    gate_report: Path

    def release(self, package: Path, *, model: str = "tiny", engines: Path | None = None):
        return publish(
            releases=self.workspace.releases,
            model=model,
            package=package,
            gate_report=self.gate_report,
            engines=engines,
        )


@pytest.fixture
def make_plant(tmp_path, signed, gate_report):
    """Writes a workspace whose ``serving.http`` block has the given keys."""

    def make(*, task: str = "classification", **http: Any) -> Plant:
        root = tmp_path / "plant"
        root.mkdir(exist_ok=True)
        classes = ["dark", "bright"] if task == "classification" else ["open", "short"]
        content = {
            "project": {"recipe": "tiny", "model": "tiny", "vision_task": task, "classes": classes},
            "serving": {"http": {"lanes": 2, **http}},
        }
        (root / "params.yaml").write_text(yaml.safe_dump(content))
        return Plant(Workspace(root), gate_report)

    return make


class Command:
    """``visionloop serve http`` in a process of its own."""

    def __init__(self, workspace: Workspace, *options: str) -> None:
        command = [sys.executable, "-m", "visionloop.serving", "http", "--port", "0", *options]
        self.process = subprocess.Popen(
            [*command, "--workspace", str(workspace.root)],
            env={**os.environ, "VISIONLOOP_HTTP_TOKEN": TOKEN},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        assert " at http://" in line, line + self.process.stderr.read()
        self.url = line.split(" at ")[1].split()[0]
        self._lines: list[str] = []
        threading.Thread(target=self._drain, daemon=True).start()
        until(lambda: self.status("/readyz") == 200)

    def _drain(self) -> None:
        assert self.process.stderr is not None
        self._lines += list(self.process.stderr)

    def status(self, path: str) -> int:
        """Status of a GET; 0 if nobody answers."""
        try:
            return httpx.get(
                self.url + path, headers=BEARER, timeout=5, trust_env=False
            ).status_code
        except httpx.HTTPError:
            return 0

    def kill(self, what: signal.Signals = signal.SIGKILL) -> None:
        self.process.send_signal(what)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@pytest.fixture
def start_command():
    """Start servers as commands; whatever is left is killed at the end."""
    started: list[Command] = []

    def start(workspace: Workspace, *options: str) -> Command:
        started.append(Command(workspace, *options))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


@pytest.fixture
def free_port():
    """A port of the loopback that nobody uses now, at each call."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return find


@pytest.fixture
def start_nginx(tmp_path):
    """Start nginx with this text in its http block; ended at the end."""
    if not Path(NGINX).is_file():
        pytest.skip("nginx is not installed (see tests/debian.txt)")
    processes: list[subprocess.Popen[bytes]] = []

    def start(text: str) -> None:
        folder = tmp_path / "nginx"
        folder.mkdir()
        (folder / "visionloop.conf").write_text(text)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
        (folder / "nginx.conf").write_text(
            f"daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;\n"
            f"events {{}}\nhttp {{ access_log off;\n{temporary}"
            f"include {folder}/visionloop.conf; }}\n"
        )
        command = [NGINX, "-c", str(folder / "nginx.conf"), "-p", str(folder)]
        processes.append(subprocess.Popen(command))

    yield start
    for process in processes:
        process.terminate()
        process.wait()


@pytest.fixture
def bearer():
    return BEARER


@pytest.fixture
def slow_classifier(tmp_path, signed, kit):
    """Write a package of a classifier that takes some milliseconds a layer."""

    def make(layers: int, name: str = "slow") -> Path:
        model = onnx.load(kit.make_classifier(tmp_path / f"{name}.onnx"))
        graph, draw = model.graph, np.random.default_rng(0)
        sizes = [3, *[64] * (layers - 1), 3]
        nodes = []
        for number, (into, out) in enumerate(itertools.pairwise(sizes)):
            weights = draw.normal(0, 1e-3, (out, into, 3, 3)).astype(np.float32)
            graph.initializer.append(numpy_helper.from_array(weights, f"w{number}"))
            source = "image" if number == 0 else f"x{number - 1}"
            pads = {"pads": [1, 1, 1, 1]}
            nodes.append(helper.make_node("Conv", [source, f"w{number}"], [f"x{number}"], **pads))
        nodes.append(helper.make_node("Add", [f"x{layers - 1}", "image"], ["same"]))
        for place, node in enumerate(nodes):
            graph.node.insert(place, node)
        pool = next(node for node in graph.node if node.op_type == "GlobalAveragePool")
        pool.input[0] = "same"
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(model.SerializeToString())
        manifest = kit.classifier_manifest()
        write_package(tmp_path / name, model=path, manifest=manifest, signing_key=signed[0])
        return tmp_path / name

    return make
