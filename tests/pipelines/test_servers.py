"""``visionloop up``: ports in use and missing projects are said before anything starts."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from visionloop.core.errors import InputError, UnreachableError
from visionloop.core.workspace import Workspace
from visionloop.pipelines import servers


def test_a_port_in_use_is_refused() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(InputError, match="in use, and MLflow needs it") as caught:
            servers.refuse_taken_port("MLflow", other.getsockname()[1])
    assert caught.value.exit_code == 2


def test_no_project_here(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a project folder"):
        servers.stop_servers(folder=tmp_path)


def test_a_server_that_ends_is_not_waited_for(tmp_path: Path) -> None:
    import subprocess

    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
    with pytest.raises(UnreachableError, match="ended with exit code 7"):
        servers.wait_until_answers("MLflow", "http://127.0.0.1:9/health", process, seconds=30)


def test_mlflow_shows_what_the_project_logged(tmp_path: Path) -> None:
    """A real server on the project's own database."""
    import json
    import urllib.request

    import mlflow

    workspace = Workspace(tmp_path)
    client = mlflow.MlflowClient(tracking_uri=workspace.tracking_uri)
    client.create_experiment("cells", artifact_location=(tmp_path / "mlartifacts").as_uri())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = servers.start_mlflow(workspace, port)
    try:
        servers.wait_until_answers("MLflow", f"http://127.0.0.1:{port}/health", process)
        url = (
            f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/get-by-name?experiment_name=cells"
        )
        with urllib.request.urlopen(url, timeout=20) as answer:
            assert json.load(answer)["experiment"]["name"] == "cells"
    finally:
        servers.stop_process("MLflow", process.pid)
    assert process.wait(timeout=20) is not None
    assert (tmp_path / ".mlflow-webhook-key").stat().st_mode & 0o777 == 0o600
