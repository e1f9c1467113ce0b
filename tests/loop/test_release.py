"""From champion to the edge to drift: the second half of the ring, on the small project."""

from __future__ import annotations

import shutil

import pytest

from visionloop.core.errors import PackageError, RefusedError, VisionloopError
from visionloop.core.files import read_json
from visionloop.core.workspace import Workspace
from visionloop.pipelines.watch import watch_once


def test_watch_releases_the_verified_champion_once(in_ring) -> None:
    first = watch_once(workspace=in_ring.workspace)
    assert (first.release, first.is_new) == (1, True)
    again = watch_once(workspace=in_ring.workspace)
    assert (again.release, again.is_new) == (1, False)
    assert again.version == first.version


def test_watch_command_says_what_it_did(in_ring) -> None:
    done = in_ring.visionloop("watch", "--once")
    assert done.returncode == 0, done.stderr
    assert "release" in done.stdout


def test_nothing_is_released_without_a_true_gate_report(in_ring, tmp_path, monkeypatch) -> None:
    """One character of the gate report is changed in the registry's artifacts."""
    root = tmp_path / "project"
    shutil.copytree(in_ring.workspace.root / "mlartifacts", tmp_path / "saved")
    reports = list((in_ring.workspace.root / "mlartifacts").rglob("gate.json"))
    assert reports
    try:
        for path in reports:
            path.write_text(path.read_text().replace('"passed"', '"passde"', 1))
        copy = Workspace(in_ring.workspace.root)
        with pytest.raises((RefusedError, PackageError)):
            watch_once(workspace=copy)
    finally:
        shutil.rmtree(in_ring.workspace.root / "mlartifacts")
        shutil.move(tmp_path / "saved", in_ring.workspace.root / "mlartifacts")
    assert not root.exists()
    assert watch_once(workspace=in_ring.workspace).is_new is False


@pytest.fixture
def watched(in_ring) -> Workspace:
    """The project after the released package saw both products; a second time plays nothing."""
    from visionloop.core.config import load_block
    from visionloop.data.datasets.line import write_line
    from visionloop.data.datasets.table import open_workspace_dataset
    from visionloop.serving.edge.agent import run_agent
    from visionloop.serving.params import ServingParams

    workspace = in_ring.workspace
    watch_once(workspace=workspace)
    dataset = open_workspace_dataset(workspace)
    before, after = load_block(workspace.params, "serving", ServingParams).edge.sources
    write_line(dataset, "commissioning", workspace.root / before.path, limit=60)
    write_line(dataset, "production_2", workspace.root / after.path, limit=60)
    assert run_agent(workspace=workspace).release >= 1
    return workspace


def test_edge_watches_and_the_drift_pipeline_asks(watched) -> None:
    """The edge kept what it saw; ``monitor`` runs through ``kfp.local``."""
    from visionloop.pipelines.kubeflow import run_local
    from visionloop.serving.edge.records import read_frames

    assert len(read_frames(watched.edge / "outbox.db")) > 100
    outputs = run_local("monitor", workspace=watched)
    assert "drift" in outputs.values()
    assert list((watched.root / "kfp" / "runs").rglob("requests*"))


def test_dvc_watches_production_too(in_ring, watched) -> None:
    """The same three verbs as stages; without new frames nothing runs again."""
    done = in_ring.dvc("repro", "monitoring/dvc.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (watched.root / "data" / "requests.parquet").is_file()
    again = in_ring.dvc("repro", "monitoring/dvc.yaml")
    assert "Running stage" not in again.stdout
    assert "up to date" in again.stdout


def test_a_bad_model_is_refused_and_not_promoted(in_ring) -> None:
    from visionloop.evaluation.promotion import promote

    variant = Workspace(in_ring.workspace.root, variant="bad")
    variant.own.mkdir(parents=True)
    shutil.copy(in_ring.workspace.params, variant.params)
    shutil.copytree(in_ring.workspace.package, variant.package)
    shutil.copytree(in_ring.workspace.reports / "gate", variant.reports / "gate")
    gate = variant.reports / "gate" / "gate.json"
    gate.write_text(gate.read_text().replace('"value"', '"valeu"', 1))
    with pytest.raises(VisionloopError):
        promote(workspace=variant)
    assert read_json(in_ring.workspace.reports / "gate" / "gate.json")["verdict"] == "passed"
