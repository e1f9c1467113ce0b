"""A backend in this process, asked over a real connection."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import uvicorn
import yaml

from visionloop.core.files import write_text
from visionloop.core.workspace import Workspace
from visionloop.labeling.backend.app import Backend, make_app
from visionloop.labeling.backend.keys import backend_keys
from visionloop.labeling.processes import free_port


@dataclass
class Running:
    """A backend that serves."""

    url: str
    backend: Backend
    workspace: Workspace

    @property
    def auth(self) -> tuple[str, str]:
        keys = backend_keys(self.workspace)
        return keys.user, keys.password

    def ask(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        arguments.setdefault("auth", self.auth)
        return httpx.request(
            method, self.url + path, **{"timeout": 30, "trust_env": False, **arguments}
        )


@contextmanager
def serve(workspace: Workspace) -> Iterator[Running]:
    url = f"http://127.0.0.1:{free_port()}"
    backend = Backend.of(workspace, url)
    port = int(url.rpartition(":")[2])
    config = uvicorn.Config(make_app(backend), port=port, log_level="error", timeout_keep_alive=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield Running(url, backend, workspace)
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        assert not thread.is_alive()


def until(is_so: Callable[[], Any], *, seconds: float = 60) -> Any:
    """Wait for something to come true, and return it."""
    deadline = time.monotonic() + seconds
    while True:
        found = is_so()
        if found:
            return found
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def change(workspace: Workspace, **labeling: Any) -> None:
    """Change keys of the labeling block."""
    content = yaml.safe_load(workspace.params.read_text())
    content["labeling"] |= labeling
    write_text(workspace.params, yaml.safe_dump(content, sort_keys=False))


@pytest.fixture(scope="session")
def set_param():
    return change


@pytest.fixture(scope="session")
def train_by():
    """Make these the training commands."""
    return lambda workspace, *commands: change(workspace, training_commands=list(commands))


@pytest.fixture
def wait_until():
    return until


@pytest.fixture
def serve_backend(monkeypatch):
    """Serve a workspace inside a block."""
    monkeypatch.setattr("visionloop.labeling.backend.hints.GATHER_SECONDS", 0.05)
    monkeypatch.setattr("visionloop.labeling.backend.current.LOOK_SECONDS", 0.1)
    return serve
