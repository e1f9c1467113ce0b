"""The ``edge`` extra alone, on the oldest Python a device has: it installs and it runs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MEGABYTES = 500

RUN = """
import sys
from pathlib import Path
import visionloop.serving.edge.agent
from visionloop.core.workspace import Workspace
from visionloop.core.errors import PackageError
heavy = {"torch", "mlflow", "pandas", "ultralytics", "sklearn"} & set(sys.modules)
assert not heavy, heavy
assert sys.version_info[:2] == (3, 10)
"""


def find_python_310() -> str | None:
    """Python 3.10 on PATH or among pyenv's versions."""
    for candidate in (
        shutil.which("python3.10"),
        *Path.home().glob(".pyenv/versions/3.10*/bin/python"),
    ):
        if candidate is None:
            continue
        answer = subprocess.run([candidate, "-V"], capture_output=True, text=True)
        if answer.returncode == 0 and "3.10" in answer.stdout:
            return str(candidate)
    return None


def find_uv() -> str | None:
    return shutil.which(os.environ.get("VISIONLOOP_UV", "uv"), path=f"{os.environ['PATH']}:{ROOT}")


@pytest.mark.slow
def test_edge_extra_installs_alone_and_imports(tmp_path: Path) -> None:
    python, uv = find_python_310(), find_uv()
    if python is None:
        pytest.skip("no Python 3.10 on this machine")
    if uv is None:
        pytest.skip("no uv on PATH")
    venv = tmp_path / "venv"
    target = ["--python", str(venv / "bin" / "python")]
    subprocess.run([uv, "venv", "-q", "--python", python, str(venv)], check=True)
    lock = str(ROOT / "locks" / "edge.txt")
    subprocess.run(
        [uv, "pip", "install", "-q", *target, "--require-hashes", "-r", lock], check=True
    )
    subprocess.run([uv, "pip", "install", "-q", *target, "--no-deps", str(ROOT)], check=True)
    size = sum(path.stat().st_size for path in venv.rglob("*") if path.is_file()) / 1e6
    assert size <= MEGABYTES, f"{size:.0f} MB"
    run = subprocess.run([str(venv / "bin" / "python"), "-c", RUN], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    # The command line runs without the extras of other stages, and without a release it says so.
    project = tmp_path / "project"
    project.mkdir()
    shutil.copy(ROOT / "params.yaml", project)
    command = [str(venv / "bin" / "visionloop"), "serve", "edge", "--workspace", str(project)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2, run.stderr
    assert "Traceback" not in run.stderr
