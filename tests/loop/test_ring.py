"""The ring on one small project: one set of verbs with four callers (DVC, the command line,
MLflow Projects, Kubeflow), then from the champion to the edge to drift.

One file, so that one worker makes the project once.
"""

from __future__ import annotations

import re
import shutil
import signal

import pytest

from visionloop.core.errors import PackageError, RefusedError, VisionloopError
from visionloop.core.files import read_json, sha256_of_file
from visionloop.core.workspace import Workspace
from visionloop.pipelines.demo.run import set_param
from visionloop.pipelines.watch import watch_once


def stages_run(text: str) -> list[str]:
    return re.findall(r"Running stage '(\w+)'", text)


def test_dvc_reproduces_the_ring(ring) -> None:
    workspace = ring.workspace
    assert (workspace.package / "model.onnx").is_file()
    assert read_json(workspace.reports / "gate" / "gate.json")["verdict"] == "passed"
    assert (workspace.reports / "promotion" / "promotion.json").is_file()
    accepted = [
        one for one in read_json(workspace.engine / "engine.json")["variants"] if one["accepted"]
    ]
    assert accepted and all(one["onnx_sha256"] for one in accepted)
    assert (workspace.reports / "parity" / "index.html").is_file()


def test_a_second_repro_runs_nothing(ring) -> None:
    again = ring.dvc("repro")
    assert again.returncode == 0
    assert stages_run(again.stdout) == []
    assert "up to date" in again.stdout


def test_one_evaluation_number_runs_evaluation_and_what_follows(ring) -> None:
    before = ring.workspace.params.read_text()
    set_param(ring.workspace.params, "evaluation.evaluate.worst_images", 9)
    try:
        changed = ring.dvc("repro")
        assert changed.returncode == 0, changed.stdout[-3000:] + changed.stderr[-3000:]
        assert stages_run(changed.stdout) == ["evaluate", "gate", "promote"]
    finally:
        ring.workspace.params.write_text(before)
    back = ring.dvc("repro")
    assert stages_run(back.stdout) == []  # from DVC's cache


def test_dvc_shows_metrics_and_plots(ring) -> None:
    metrics = ring.dvc("metrics", "show", "--md")
    assert "reports/evaluation/metrics.json" in metrics.stdout
    plots = ring.dvc("plots", "show", "--out", "plots")
    assert plots.returncode == 0, plots.stderr
    page = (ring.workspace.root / "plots" / "index.html").read_text()
    assert "vegaEmbed" in page
    assert "cdn." not in page.split("<body>")[0].split("<script")[0]


def test_the_gate_refuses_with_exit_code_3(ring) -> None:
    targets = ring.workspace.targets
    before = targets.read_text()
    targets.write_text(before.replace("minimum: 0.30 ", "minimum: 0.99 "))
    try:
        judged = ring.visionloop("evaluate", "gate")
        assert judged.returncode == 3
        assert "0.99" in judged.stderr
        promoted = ring.visionloop("evaluate", "promote")
        assert promoted.returncode == 3
    finally:
        targets.write_text(before)
        # Judged again and recorded again: the registry holds the newest report of a package.
        assert ring.visionloop("evaluate", "gate").returncode == 0
        assert ring.visionloop("evaluate", "promote").returncode == 0


def test_mlflow_project_entry_point(ring) -> None:
    bare = {"MLFLOW_TRACKING_URI": ring.workspace.tracking_uri}
    command = ["mlflow", "run", ".", "-e", "check", "--env-manager", "local"]
    done = ring.run(*command, **bare)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow  # training has a fast one: tests/training/test_train.py
def test_interrupted_training_goes_on(ring) -> None:
    """Ctrl-C in the middle of training, then the same command again: the same checkpoint."""
    wanted = read_json(ring.workspace.package / "manifest.json")["files"]["model.onnx"]
    for path in ring.workspace.checkpoint.rglob("*"):
        if path.is_file():
            path.unlink()
    stopped = ring.visionloop("train", "train", VISIONLOOP_FAILPOINT="training.epoch:interrupt:5")
    assert stopped.returncode == 130
    assert "run the same command again" in stopped.stderr
    killed = ring.visionloop("train", "train", VISIONLOOP_FAILPOINT="training.epoch:kill:5")
    assert killed.returncode == -signal.SIGKILL
    assert ring.visionloop("train", "train").returncode == 0
    assert ring.visionloop("train", "export").returncode == 0
    assert sha256_of_file(ring.workspace.package / "model.onnx") == wanted
    # Evaluation and gate belong to the package before: bring everything in line again.
    again = ring.dvc("repro")
    assert again.returncode == 0, again.stdout[-3000:] + again.stderr[-3000:]


def test_kubeflow_local_gives_the_same_version_and_model(in_ring) -> None:
    from visionloop.pipelines.kubeflow import run_local

    workspace = in_ring.workspace
    outputs = run_local("train_and_export", workspace=workspace)
    manifest = read_json(workspace.version("v1") / "manifest.json")
    assert outputs["fingerprint"] == manifest["fingerprint"]
    assert outputs["onnx_sha256"] == sha256_of_file(workspace.package / "model.onnx")
    assert outputs["verdict"] == "passed"
    runs = workspace.root / "kfp" / "runs"
    assert list(runs.rglob("engine.json"))
    proofs = [read_json(path) for path in runs.rglob("leaks.json")]
    assert proofs and all(proof["is_tight"] for proof in proofs)


@pytest.mark.slow
def test_kubeflow_takes_the_other_branch_when_refused(in_ring) -> None:
    from visionloop.pipelines.kubeflow import run_local

    workspace = in_ring.workspace
    before = workspace.targets.read_text()
    engines = len(list((workspace.root / "kfp" / "runs").rglob("engine.json")))
    workspace.targets.write_text(before.replace("minimum: 0.30 ", "minimum: 0.99 "))
    try:
        outputs = run_local("train_and_export", workspace=workspace)
    finally:
        workspace.targets.write_text(before)
    assert outputs["verdict"] == "refused"
    assert len(list((workspace.root / "kfp" / "runs").rglob("engine.json"))) == engines


def test_a_failing_component_tells_its_reason(in_ring) -> None:
    from visionloop.core.errors import VisionloopError
    from visionloop.pipelines.kubeflow import run_local

    params = in_ring.workspace.params
    before = params.read_text()
    params.write_text(before.replace("  dataset: elpv", "  datasset: elpv"))
    try:
        with pytest.raises(VisionloopError) as caught:
            run_local("monitor", workspace=in_ring.workspace)
    finally:
        params.write_text(before)
    assert "edge" in str(caught.value) or "datasset" in str(caught.value)


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
    """One character of the gate report is changed in the registry's artifacts.

    The watcher's record is lost too, or it would not look again at what it has released.
    """
    (record,) = in_ring.workspace.releases.glob(".champion-*.json")
    record.unlink()
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
    from visionloop.serving.edge.record.records import read_frames

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
