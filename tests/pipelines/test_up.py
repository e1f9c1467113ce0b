"""``visionloop up`` in an empty folder: from nothing to annotating, again, and down."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from visionloop.core.config import load_project
from visionloop.core.errors import InputError
from visionloop.core.workspace import Workspace
from visionloop.labeling.client import connect
from visionloop.labeling.processes import free_port, is_port_free
from visionloop.labeling.project import find_project
from visionloop.pipelines.first_run import open_or_make_project


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="not a project folder"):
        open_or_make_project(tmp_path, "solar")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.slow
def test_one_command_leads_to_annotating(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("VISIONLOOP_SIGNING_KEY", "VISIONLOOP_TRUSTED_KEYS"):
        monkeypatch.delenv(name, raising=False)
    ports = [free_port() for _ in range(4)]
    names = ("mlflow", "studio", "report", "backend")
    options = [
        part for name, port in zip(names, ports, strict=True)
        for part in (f"--{name}-port", str(port))
    ]  # fmt: skip
    command = [sys.executable, "-m", "visionloop.pipelines", "up", "--folder", "plant", *options]

    def up() -> str:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1500)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    space = Workspace(tmp_path / "plant")
    try:
        first = up()
        email, password = re.search(r"sign in +(\S+) / (\S+)", first).groups()
        backend = re.search(r"training +(\S+)", first).group(1)
        page = httpx.get(backend, auth=(email, password), trust_env=False)
        assert page.status_code == 200 and "Train now" in page.text
        client = connect(space)
        number = find_project(client, load_project(space.params))["id"]
        assert f"/projects/{number}/data" in first
        assert client.get("/api/tasks", project=number, page_size=1)["total"] == 200
        (model,) = client.get("/api/ml/", project=number)
        assert model["readable_state"] == "Connected"
        assert up() == first  # nothing is made twice, nothing starts again
        assert client.get("/api/tasks", project=number, page_size=1)["total"] == 200
    finally:
        down = [*command[:3], "down", "--folder", "plant"]
        subprocess.run(down, cwd=tmp_path, check=True, timeout=120)
    assert all(is_port_free(port) for port in ports)
