"""``visionloop up`` and ``down``: MLflow, Label Studio and the report of a project, on loopback."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from visionloop.core.errors import InputError, UnreachableError
from visionloop.core.files import read_json, write_json, write_text
from visionloop.core.privacy import QUIET_ENVIRONMENT
from visionloop.core.progress import say_step
from visionloop.core.workspace import Workspace

__all__ = [
    "refuse_taken_port",
    "start_mlflow",
    "start_servers",
    "stop_process",
    "stop_servers",
    "wait_until_answers",
]


def start_servers(*, folder: Path, mlflow_port: int, studio_port: int, report_port: int) -> None:
    """Start what shows a project: MLflow, Label Studio, the report page.

    Raises
    ------
    InputError
        If there is no project, or a port is in use.
    UnreachableError
        If a server does not answer in time.
    """
    from visionloop.labeling import server as studio
    from visionloop.labeling.state import credentials

    workspace = _open_project(folder)
    refuse_taken_port("MLflow", mlflow_port)
    refuse_taken_port("report", report_port)
    studio.start(workspace, port=studio_port)  # first: it may be missing, or its port taken
    processes = {"MLflow": start_mlflow(workspace, mlflow_port)}
    command = [sys.executable, "-m", "http.server", str(report_port), "--bind", "127.0.0.1"]
    processes["report"] = _spawn(
        [*command, "--directory", str(workspace.reports)], workspace, "report"
    )
    write_json(_record(workspace), {name: process.pid for name, process in processes.items()})
    say_step("waiting for MLflow and Label Studio (up to a minute)")
    wait_until_answers("MLflow", f"http://127.0.0.1:{mlflow_port}/health", processes["MLflow"])
    address = studio.wait_ready(workspace)
    account = credentials(workspace)
    print(f"MLflow        http://127.0.0.1:{mlflow_port}")
    print(f"Label Studio  {address.url}   sign in: {account.email} / {account.password}")
    print(f"report        http://127.0.0.1:{report_port}/demo/index.html")
    print(f"next: visionloop down --folder {folder} stops them")


def stop_servers(*, folder: Path) -> None:
    """Stop what :func:`start_servers` started, by the ids it recorded."""
    from visionloop.labeling import server as studio

    workspace = _open_project(folder)
    record = _record(workspace)
    if record.is_file():
        for name, pid in read_json(record).items():
            stop_process(name, int(pid))
        record.unlink()
    studio.stop(workspace)
    print("stopped")


def start_mlflow(workspace: Workspace, port: int) -> subprocess.Popen[bytes]:
    """Start an MLflow server on the project's own database and artifacts."""
    key_file = workspace.root / ".mlflow-webhook-key"
    if not key_file.exists():
        # Without a fixed key the server forgets how to sign webhooks at each start.
        import base64

        key = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        write_text(key_file, key, mode=0o600)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{workspace.root / 'mlflow.db'}"]
    command += ["--default-artifact-root", (workspace.root / "mlartifacts").as_uri()]
    extra = {
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": key_file.read_text(),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    return _spawn(command, workspace, "mlflow", extra)


def wait_until_answers(
    name: str, url: str, process: subprocess.Popen[bytes], *, seconds: float = 120
) -> None:
    """Wait for a server's health address.

    Raises
    ------
    UnreachableError
        If it ends or does not answer in time.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise UnreachableError(
                name, f"ended with exit code {process.returncode}", "see its log"
            )
        try:
            urllib.request.urlopen(url, timeout=2)
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise UnreachableError(name, f"did not answer within {seconds:.0f} s", "see its log")


def refuse_taken_port(name: str, port: int) -> None:
    """Say clearly that a port is in use, before anything is started."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise InputError(
                f"port {port}",
                f"is in use, and {name} needs it",
                "end that program or choose another port (visionloop up --help)",
            ) from None


def _open_project(folder: Path) -> Workspace:
    workspace = Workspace(folder.resolve())
    if not workspace.params.exists():
        raise InputError(str(folder), "is not a project folder", "make one: visionloop demo")
    return workspace


def _record(workspace: Workspace) -> Path:
    return workspace.root / ".servers.json"


def _spawn(
    command: list[str], workspace: Workspace, name: str, extra: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    logs = workspace.root / "logs"
    logs.mkdir(exist_ok=True)
    environment = {**os.environ, **QUIET_ENVIRONMENT, **(extra or {})}
    with (logs / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )


def stop_process(name: str, pid: int) -> None:
    """End a process that was started here, and its children; kill it after 15 s."""
    try:
        os.killpg(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        try:
            os.killpg(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.2)
    say_step(f"{name} did not end by itself and was killed")
    os.killpg(pid, signal.SIGKILL)
