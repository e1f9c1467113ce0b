"""Training: what it writes, that it resumes, what it refuses."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from mlflow.tracking import MlflowClient

from visionloop.core.errors import ConfigError, DataError, VisionloopError
from visionloop.core.files import read_json
from visionloop.data.embeddings import Embeddings, load_embeddings, save_embeddings
from visionloop.training.checkpoint import load_checkpoint
from visionloop.training.train import train
from visionloop.training.weight_files import load_tensors
from visionloop.training.weights import find_weights

STATE = "artifacts/training_state"


def test_a_frozen_training_writes_checkpoint_report_and_run(embedded_cells):
    report = train(workspace=embedded_cells)
    facts = load_checkpoint(embedded_cells.checkpoint).facts
    assert report.weights_source == "package efficientnet-lite0"
    assert facts.run_id == report.run_id
    assert facts.train_mix["cell_type"].keys() == {"mono", "poly"}
    folder = embedded_cells.reports / "training"
    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(1, 7))
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"]) + 0.1
    metrics = read_json(folder / "metrics.json")
    assert metrics["weights_source"] == "package efficientnet-lite0"
    assert metrics["val_balanced_accuracy"] == report.metrics["val_balanced_accuracy"]
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert not (embedded_cells.root / STATE).exists()
    assert_run_is_complete(report, epochs=6)


def assert_run_is_complete(report, *, epochs: int) -> None:
    client = MlflowClient()
    run = client.get_run(report.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["training.mode"] == "frozen"
    assert run.data.tags["dataset_fingerprint"] == report.dataset_fingerprint
    assert run.data.tags["weights_source"] == report.weights_source
    history = client.get_metric_history(report.run_id, "val_loss")
    assert [row.step for row in history] == list(range(1, epochs + 1))
    dataset = run.inputs.dataset_inputs[0].dataset
    assert report.dataset_fingerprint.startswith(dataset.digest)
    memory = client.get_metric_history(report.run_id, "system/process_memory_megabytes")
    assert len(memory) == epochs
    assert min(row.value for row in memory) > 50
    names = {row.path for row in client.list_artifacts(report.run_id, "training")}
    assert "training/curves.png" in names


def test_a_planted_fault_is_recorded_and_spoils_the_model(embedded_cells, set_training):
    good = train(workspace=embedded_cells)
    set_training(embedded_cells, planted_fault="shuffled_labels")
    bad = train(workspace=embedded_cells)
    assert load_checkpoint(embedded_cells.checkpoint).facts.planted_fault == "shuffled_labels"
    assert MlflowClient().get_run(bad.run_id).data.tags["planted_fault"] == "shuffled_labels"
    assert bad.metrics["val_balanced_accuracy"] < good.metrics["val_balanced_accuracy"]


def test_a_sample_without_embedding_is_refused(embedded_cells):
    known = load_embeddings(embedded_cells.embeddings)
    fewer = Embeddings(known.ids[:-5], known.vectors[:-5], known.package)
    save_embeddings(embedded_cells.embeddings, fewer)
    with pytest.raises(DataError, match="visionloop data embed"):
        train(workspace=embedded_cells)


def test_embeddings_of_another_network_are_refused(embedded_cells):
    known = load_embeddings(embedded_cells.embeddings)
    others = Embeddings(known.ids, known.vectors[:, ::-1].copy(), known.package)
    save_embeddings(embedded_cells.embeddings, others)
    with pytest.raises(DataError, match="are not those of efficientnet-lite0 at 64 pixels"):
        train(workspace=embedded_cells)


def test_embeddings_that_are_not_finite_are_refused(embedded_cells):
    known = load_embeddings(embedded_cells.embeddings)
    known.vectors[3, 3] = np.nan
    save_embeddings(embedded_cells.embeddings, known)
    with pytest.raises(DataError, match="not finite"):
        train(workspace=embedded_cells)


def test_a_head_for_another_input_size_is_refused(embedded_cells, set_training):
    set_training(embedded_cells, image_size=96)
    with pytest.raises(ConfigError, match=r"must equal those of training\.backbone"):
        train(workspace=embedded_cells)


def test_all_contradictions_are_named_at_once(cells, set_training):
    set_training(cells, family="yolo", weights="yolov8n")
    content = yaml.safe_load(cells.params.read_text())
    content["project"]["classes"] = ["defective", "functional"]
    cells.params.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(ConfigError) as caught:
        train(workspace=cells)
    assert "'yolo' is for detection" in str(caught.value)
    assert "has classes" in str(caught.value)


def test_unknown_keys_are_named_with_the_nearest(cells, set_training):
    set_training(cells, epoch=3)
    with pytest.raises(ConfigError, match=r"did you mean '(training\.)?epochs'"):
        train(workspace=cells)


def test_full_training_interrupted_and_resumed_gives_the_same_tensors(cells, fail_at):
    train(workspace=cells)
    whole = load_checkpoint(cells.checkpoint).facts
    fail_at("training.epoch:interrupt:1")
    with pytest.raises(KeyboardInterrupt):
        train(workspace=cells)
    state = json.loads((cells.root / STATE / "state.json").read_text())
    run = MlflowClient().get_run(state["run_id"])
    assert run.info.status == "KILLED"
    assert "goes on" in run.data.tags["reason"]
    fail_at("")
    report = train(workspace=cells)
    assert report.resumed_from == 1
    assert report.run_id == state["run_id"]
    assert load_checkpoint(cells.checkpoint).facts.model_sha256 == whole.model_sha256
    steps = [row.step for row in MlflowClient().get_metric_history(report.run_id, "train_loss")]
    assert sorted(steps) == [1, 2]


def test_killed_and_resumed_goes_on(cells, run_train):
    killed = run_train(cells, VISIONLOOP_FAILPOINT="training.epoch:kill:1")
    assert killed.returncode == -9
    assert not cells.checkpoint.exists()
    report = train(workspace=cells)
    assert report.resumed_from == 1
    assert MlflowClient().get_run(report.run_id).info.status == "FINISHED"


def test_other_numbers_begin_anew(cells, fail_at, set_training):
    fail_at("training.epoch:interrupt:1")
    with pytest.raises(KeyboardInterrupt):
        train(workspace=cells)
    fail_at("")
    set_training(cells, epochs=1)
    assert train(workspace=cells).resumed_from == 0


def test_a_loss_that_is_not_finite_fails_the_run_with_the_reason(cells, tmp_path, monkeypatch):
    tensors = load_tensors(find_weights("efficientnet-lite0"))
    next(iter(tensors.values())).fill_(float("nan"))
    torch.save(tensors, tmp_path / "efficientnet-lite0-57934424.pth")
    monkeypatch.setenv("VISIONLOOP_WEIGHTS", str(tmp_path))
    with pytest.raises(VisionloopError, match="not finite at epoch 1"):
        train(workspace=cells)
    state = json.loads((cells.root / STATE / "state.json").read_text())
    run = MlflowClient().get_run(state["run_id"])
    assert run.info.status == "FAILED"
    assert "not finite" in run.data.tags["reason"]
    assert not cells.checkpoint.exists()


def test_the_train_split_needs_two_classes(tmp_path, cells):
    from visionloop.core.entities import Annotation
    from visionloop.data.versions.version import load_version, save_version

    version = load_version(cells.version("v1"), cells.images)
    annotations = [Annotation(one, "functional") for one in version.samples["sample_id"]]
    shutil.rmtree(cells.version("v1"))
    save_version(
        cells.version("v1"),
        vision_task="classification",
        classes=version.classes,
        samples=version.samples,
        annotations=annotations,
    )
    with pytest.raises(DataError, match="at least two classes, it has: functional"):
        train(workspace=cells)
