"""Made samples in a project: DVC makes them once, Kubeflow makes the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from visionloop.core.workspace import Workspace
from visionloop.data.raw import read_samples
from visionloop.data.splits.split import read_splits
from visionloop.data.synthesis.mark import is_synthetic
from visionloop.pipelines.demo.run import set_param, tool_environment
from visionloop.pipelines.init import init
from visionloop.pipelines.kubeflow import run_local

SCRATCHES = {
    "name": "scratches",
    "count": 4,
    "defects": {"scratch": "defective"},
    "on_classes": ["functional"],
}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Workspace:
    """A small project of solar cells whose params.yaml asks for four scratched ones."""
    workspace = init(folder=tmp_path_factory.mktemp("made") / "project", recipe="solar")
    set_param(workspace.params, "data.import.phase_sizes", {"commissioning": 40, "acceptance": 10})
    set_param(workspace.params, "data.import.phases", ["commissioning", "acceptance"])
    set_param(workspace.params, "data.synthesise.surface_defects", [SCRATCHES])
    return workspace


def repro(root: Path) -> str:
    command = [sys.executable, "-m", "dvc", "repro", "split"]
    done = subprocess.run(command, cwd=root, env=tool_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_dvc_makes_them_once_and_they_are_train_only(project) -> None:
    assert "Running stage 'import'" in repro(project.root)
    samples = read_samples(project)
    made = samples[is_synthetic(samples)]
    assert len(made) == 4
    splits = read_splits(project)
    assert {splits[one] for one in made["sample_id"]} == {"train"}
    assert "Running stage" not in repro(project.root)
    assert len(read_samples(project)) == len(samples)


def test_kubeflow_makes_the_same(project) -> None:
    repro(project.root)
    there = {path.name for path in project.images.iterdir()}
    assert run_local("synthesise", workspace=project) == {"Output": 4}
    (made,) = (project.root / "kfp" / "runs").rglob("synthesise-samples/made")
    assert {path.name for path in (made / "images").iterdir()} == there
