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


def start_servers(
    *,
    folder: Path,
    mlflow_port: int,
    studio_port: int,
    report_port: int,
    backend_port: int | None = None,
    recipe: str = "solar",
) -> None:
    """Start what people work with: MLflow, Label Studio, its ML backend, the report page.

    A folder that is empty or not there becomes a project of the recipe, with its samples
    imported and its first tasks in Label Studio. What runs already is left running.

    Raises
    ------
    InputError
        If the folder holds something else, or a port is in use.
    UnreachableError
        If a server does not answer in time.
    """
    from visionloop.labeling import server as studio
    from visionloop.labeling.backend.serve import connect_running, start_backend
    from visionloop.labeling.state import credentials
    from visionloop.pipelines.demo.run import use_demo_keys
    from visionloop.pipelines.first_run import (
        open_or_make_project,
        prepare_labeling,
        prepare_samples,
    )

    workspace = open_or_make_project(folder, recipe)
    use_demo_keys(workspace)
    os.environ["VISIONLOOP_WORKSPACE"] = str(workspace.root)
    pages = {"mlflow": mlflow_port, "report": report_port}
    running = _running_pages(workspace)
    for name, port in pages.items():
        if name not in running:
            refuse_taken_port(name, port)
    studio.start(workspace, port=studio_port)  # first: it may be missing, or its port taken
    prepare_samples(workspace)  # while Label Studio starts
    pages = running | _start_pages(workspace, pages, running)
    address = studio.wait_ready(workspace)
    project = prepare_labeling(workspace)
    backend = start_backend(workspace, port=backend_port)
    connect_running(workspace)
    account = credentials(workspace)
    print(f"Label Studio  {project}")
    print(f"   sign in    {account.email} / {account.password}")
    print(f"   training   {backend.url}   the same name and password")
    print(f"MLflow        http://127.0.0.1:{pages['mlflow']}")
    print(f"report        http://127.0.0.1:{pages['report']}/demo/index.html")
    print(f"next: annotate at {address.url}; visionloop down --folder {folder} stops everything")


def stop_servers(*, folder: Path) -> None:
    """Stop what :func:`start_servers` started, by the ids it recorded."""
    from visionloop.labeling import server as studio
    from visionloop.labeling.backend.serve import stop_backend
    from visionloop.labeling.processes import is_running

    workspace = _open_project(folder)
    stop_backend(workspace)
    record = _record(workspace)
    if record.is_file():
        for name, row in read_json(record).items():
            if is_running(int(row["pid"]), str(row["started"])):
                stop_process(name, int(row["pid"]))
        record.unlink()
    studio.stop(workspace)
    print("stopped")


def _running_pages(workspace: Workspace) -> dict[str, int]:
    """Name and port of MLflow and the report page where an earlier call started them."""
    from visionloop.labeling.processes import is_running

    record = _record(workspace)
    rows = read_json(record) if record.is_file() else {}
    return {
        name: int(row["port"])
        for name, row in rows.items()
        if is_running(int(row["pid"]), str(row["started"]))
    }


def _start_pages(
    workspace: Workspace, wanted: dict[str, int], running: dict[str, int]
) -> dict[str, int]:
    """Start MLflow and the report page where they do not run; the ports of the started ones."""
    from visionloop.labeling.processes import start_time

    rows = read_json(_record(workspace)) if running else {}
    started: dict[str, int] = {}
    for name, port in wanted.items():
        if name in running:
            continue
        process = (start_mlflow if name == "mlflow" else _start_report)(workspace, port)
        began = start_time(process.pid)
        rows[name] = {"pid": process.pid, "started": began, "port": port}
        write_json(_record(workspace), rows)
        if name == "mlflow":
            say_step("waiting for MLflow and Label Studio (up to a minute)")
            wait_until_answers("MLflow", f"http://127.0.0.1:{port}/health", process)
        started[name] = port
    return started


def _start_report(workspace: Workspace, port: int) -> subprocess.Popen[bytes]:
    workspace.reports.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    return _spawn([*command, "--directory", str(workspace.reports)], workspace, "report")


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
        # `visionloop watch --webhook-port` listens on this machine, without a certificate.
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_WEBHOOK_CACHE_TTL": "2",  # seconds in which a new webhook is not known yet
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
