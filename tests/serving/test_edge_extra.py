"""The `edge` extra alone, on the oldest Python that a device has (3.10 is JetPack 6)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from visionloop.serving.edge.record.records import read_frames
from visionloop.serving.releases.store import publish

REPOSITORY = Path(__file__).parents[2]


def find_uv() -> str:
    found = shutil.which("uv") or shutil.which("uv", path=str(REPOSITORY / ".bootstrap" / "bin"))
    if found is None:
        pytest.skip("uv is not installed")
    return found


def find_python_310() -> str:
    """The first Python 3.10 that starts: in PATH, or among pyenv's."""
    candidates = [shutil.which("python3.10")]
    candidates += map(str, Path.home().glob(".pyenv/versions/3.10.*/bin/python3.10"))
    for candidate in filter(None, candidates):
        done = subprocess.run([candidate, "-V"], capture_output=True, text=True, check=False)
        if done.stdout.startswith("Python 3.10"):
            return candidate
    pytest.skip("Python 3.10 is not installed")


@pytest.mark.slow
def test_the_edge_extra_alone_runs_the_agent(
    tmp_path, make_workspace, make_line, tiny, gate_report
):
    uv, python = find_uv(), find_python_310()
    environment = tmp_path / "environment"
    inside = str(environment / "bin" / "python")
    settings = ["-q", "--python", inside]
    for command in (
        [uv, "venv", "-q", "--python", python, str(environment)],
        [uv, "pip", "sync", *settings, "--require-hashes", str(REPOSITORY / "locks" / "edge.txt")],
        [uv, "pip", "install", *settings, "--no-deps", str(REPOSITORY)],
    ):
        subprocess.run(command, check=True, timeout=600)
    source = "{name: line, kind: folder, path: line}"
    rule = "{name: bright, kind: class_confidence, class_name: bright}"
    workspace = make_workspace(f"[{source}]", f"[{rule}]")
    make_line([20, 220], workspace.root / "line")
    publish(
        releases=workspace.releases,
        model="tiny",
        package=tiny.classifier(),
        gate_report=gate_report,
    )
    done = subprocess.run(
        [inside, "-m", "visionloop.serving", "edge", "-w", str(workspace.root)],
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "2 frames" in done.stdout
    assert "1 events" in done.stdout
    assert len(read_frames(workspace.edge / "outbox.db")) == 2
    names = "('torch', 'pandas', 'onnx', 'PIL', 'sympy')"
    absent = f"import importlib.util as u; print([n for n in {names} if u.find_spec(n)])"
    shown = subprocess.run([inside, "-c", absent], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
