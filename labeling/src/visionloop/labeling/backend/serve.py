"""Runs the backend: in the foreground, or started in the background and connected."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import time

from visionloop.core.errors import InputError, UnreachableError
from visionloop.core.privacy import QUIET_ENVIRONMENT
from visionloop.core.workspace import Workspace
from visionloop.labeling.backend.connect import connect_backend
from visionloop.labeling.backend.keys import forget_backend, running_backend, save_backend
from visionloop.labeling.client import connect
from visionloop.labeling.params import load_params
from visionloop.labeling.processes import is_port_free, start_time, stop_process
from visionloop.labeling.project import find_project
from visionloop.labeling.state import ServerAddress, only_one, state_folder

__all__ = ["connect_running", "run_backend", "start_backend", "stop_backend"]

START_SECONDS = 60.0
CONNECTIONS = 64


def run_backend(*, workspace: Workspace, port: int | None = None, host: str = "127.0.0.1") -> None:
    """Serve until interrupted.

    Parameters
    ----------
    workspace : Workspace
    port : int or None
        None takes ``labeling.backend_port`` of ``params.yaml``; 0 takes any free port.
    host : str
        Address to listen on. Beyond loopback, put TLS in front of it: Label Studio sends
        its password, and one of its own keys, as they are.

    Raises
    ------
    InputError
        If the port is in use.
    VisionloopError
        If a backend runs in this workspace already.
    """
    import uvicorn

    from visionloop.labeling.backend.app import HOSTS, Backend, make_app

    wanted = load_params(workspace)[1].backend_port if port is None else port
    with only_one(workspace, "backend"), _listen(host, wanted) as listener:
        taken = int(listener.getsockname()[1])
        url = f"http://{host}:{taken}"
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
        logging.getLogger("httpx").setLevel(logging.WARNING)
        app = make_app(Backend.of(workspace, url), hosts=(*HOSTS, host))
        settings = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=5,
        )
        save_backend(workspace, ServerAddress(os.getpid(), start_time(os.getpid()), taken, url))
        try:
            uvicorn.Server(settings).run(sockets=[listener])
        finally:
            forget_backend(workspace)


def start_backend(workspace: Workspace, *, port: int | None = None) -> ServerAddress:
    """Start the backend in the background and wait until it answers, or find it running.

    Raises
    ------
    InputError
        If the port is in use.
    UnreachableError
        If it ends or does not answer within a minute.
    """
    running = running_backend(workspace)
    if running is not None:
        return running
    wanted = load_params(workspace)[1].backend_port if port is None else port
    if wanted and not is_port_free(wanted):
        raise _taken(wanted)
    command = [sys.executable, "-m", "visionloop.labeling", "backend", "--port", str(wanted)]
    path = state_folder(workspace) / "backend.log"
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = subprocess.Popen(
            [*command, "--workspace", str(workspace.root)],
            env={**os.environ, **QUIET_ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    finally:
        os.close(log)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        address = running_backend(workspace)
        if address is not None and _answers(address.url):
            return address
        time.sleep(0.1)
    process.terminate()
    raise UnreachableError("the ML backend", "did not start", f"read {path}")


def stop_backend(workspace: Workspace) -> bool:
    """Stop the backend; False if none ran. What waits in its queue stays there."""
    running = running_backend(workspace)
    if running is None:
        return False
    stop_process(running.pid, running.started, patience=20)
    forget_backend(workspace)
    return True


def connect_running(workspace: Workspace) -> str:
    """Connect the running backend with the workspace's project; its address, empty without one."""
    running = running_backend(workspace)
    if running is None:
        return ""
    client = connect(workspace)
    found = find_project(client, load_params(workspace)[0])
    connect_backend(client, found["id"], running.url, workspace)
    return running.url


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise _taken(port) from None
    return listener


def _taken(port: int) -> InputError:
    return InputError(
        f"port {port}",
        "is in use, so the ML backend cannot listen there",
        "stop what listens there, or set labeling.backend_port in params.yaml (0 takes any)",
    )


def _answers(url: str) -> bool:
    """Whether it answers at all: strangers get 401."""
    import httpx

    try:
        return httpx.get(f"{url}/health", timeout=2, trust_env=False).status_code == 401
    except httpx.HTTPError:
        return False
