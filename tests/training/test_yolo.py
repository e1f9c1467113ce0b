"""YOLO on generated boards: train, resume, export, parity after suppression, refusals."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow.tracking import MlflowClient

from visionloop.core.entities import Detections
from visionloop.core.errors import DataError, VisionloopError
from visionloop.data.versions.version import load_version
from visionloop.serving.images import read_image
from visionloop.serving.package import load_package
from visionloop.serving.predictor import Predictor
from visionloop.training.checkpoint import load_checkpoint
from visionloop.training.export import export
from visionloop.training.train import train

pytest.importorskip("ultralytics", reason="the yolo extra is not installed")


def test_train_and_export_twice_gives_the_same_bytes_and_parity(boards):
    report = train(workspace=boards)
    assert report.weights_source.startswith("scratch (random weights: ")
    assert MlflowClient().get_run(report.run_id).data.tags["weights_source"].startswith("scratch")
    assert {"val_map50", "val_map50_95", "val_loss"} <= set(report.metrics)
    assert {path.name for path in boards.checkpoint.iterdir()} == {
        "checkpoint.json",
        "model.safetensors",
    }
    exported = export(workspace=boards)
    assert exported.parity.boxes > 0
    assert exported.parity.agreement == 1
    assert exported.parity.minimum_iou >= 0.99
    assert export(workspace=boards).model_sha256 == exported.model_sha256
    check_package(boards)
    train(workspace=boards)
    assert export(workspace=boards).model_sha256 == exported.model_sha256


@pytest.mark.parametrize(("weights", "kind"), [("yolo11n", "yolo"), ("yolo26n", "detr")])
def test_later_generations_train_and_export(boards, set_training, monkeypatch, weights, kind):
    """YOLO 26 names each object once: its package is read as a set, nothing is suppressed.

    One epoch from random weights, whose answers would all tie with statistics of their own; ties
    have no order that two runtimes could agree on.
    """
    monkeypatch.setattr(
        "visionloop.training.families.yolo_training.measure_again", lambda *_, **__: None
    )
    set_training(boards, weights=weights, epochs=1, export={"min_confidence": 0.001})
    train(workspace=boards)
    exported = export(workspace=boards)
    assert exported.parity.boxes > 0
    assert (exported.parity.agreement, exported.parity.minimum_iou >= 0.99) == (1, True)
    assert load_package(boards.package).manifest.outputs.kind == kind
    check_package(boards)


def check_package(boards) -> None:
    """Any batch size; boxes in pixels of the image, an embedding beside them."""
    package = load_package(boards.package)
    assert package.manifest.input.resize == "letterbox"
    assert package.manifest.licence == "AGPL-3.0"
    version = load_version(boards.version("v1"), boards.images)
    images = [read_image(version.image_path(one)) for one in version.samples["sample_id"][:3]]
    together = Predictor(package, threads=1).predict(images)
    alone = Predictor(package, threads=1, batch_size=1).predict(images[:1])[0]
    assert isinstance(alone.answer, Detections)
    assert len(alone.answer) == len(together[0].answer)
    assert alone.embedding.shape == (256,)


def test_a_moving_average_of_ones_own_is_kept(boards, set_training):
    """Short trainings are averaged too, and the weights that are kept are others."""
    from visionloop.training.families.yolo_training import _rising_decay

    decay = _rising_decay(0.998)
    assert decay(0) == 0.1 and 0.98 < decay(500) < decay(5000) == 0.998
    kept = []
    for average in (0.0, 0.998):
        set_training(boards, epochs=1, average_decay=average)
        train(workspace=boards)
        kept.append(load_checkpoint(boards.checkpoint).load_tensors())
    name = next(name for name in kept[0] if name.endswith("conv.weight"))
    assert not torch.equal(kept[0][name], kept[1][name])


def test_every_batch_is_a_step_of_the_optimizer(boards, set_training, monkeypatch):
    from ultralytics.models.yolo.detect import DetectionTrainer

    sizes, steps = [], []
    prepare, make_step = DetectionTrainer.preprocess_batch, DetectionTrainer.optimizer_step
    monkeypatch.setattr(
        DetectionTrainer,
        "preprocess_batch",
        lambda own, batch: sizes.append(len(batch["img"])) or prepare(own, batch),
    )
    monkeypatch.setattr(
        DetectionTrainer, "optimizer_step", lambda own: steps.append(1) or make_step(own)
    )
    set_training(boards, epochs=2, batch_size=2)
    train(workspace=boards)
    assert max(sizes) == 2 and len(steps) == len(sizes) > 2


@pytest.mark.slow
def test_killed_and_resumed_goes_on(boards, run_train):
    killed = run_train(boards, VISIONLOOP_FAILPOINT="training.epoch:kill:1")
    assert killed.returncode == -9
    report = train(workspace=boards)
    assert report.resumed_from == 1
    history = MlflowClient().get_metric_history(report.run_id, "train_loss")
    assert [row.step for row in history] == [1, 2]
    assert load_checkpoint(boards.checkpoint).facts.run_id == report.run_id


def test_a_loss_that_is_not_finite_stops_at_once(boards, tmp_path, monkeypatch):
    from ultralytics.nn.tasks import DetectionModel

    network = DetectionModel("yolov8n.yaml", verbose=False)
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))
    torch.save({"model": network}, tmp_path / "yolov8n.pt")
    monkeypatch.setenv("VISIONLOOP_WEIGHTS", str(tmp_path))
    with pytest.raises(VisionloopError, match="not finite at epoch 1"):
        train(workspace=boards)


def test_image_files_are_not_touched(boards, set_training):
    before = {path: path.stat().st_mtime_ns for path in boards.images.iterdir()}
    set_training(boards, epochs=1)
    train(workspace=boards)
    assert {path: path.stat().st_mtime_ns for path in boards.images.iterdir()} == before
    assert not (boards.root / "artifacts" / "training_state").exists()


def test_weights_with_other_classes_train_resume_and_export(boards, tmp_path, monkeypatch, fail_at):
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    torch.save({"model": DetectionModel("yolov8n.yaml", verbose=False)}, tmp_path / "yolov8n.pt")
    monkeypatch.setenv("VISIONLOOP_WEIGHTS", str(tmp_path))
    fail_at("training.epoch:interrupt:1")
    with pytest.raises(KeyboardInterrupt):
        train(workspace=boards)
    fail_at("")
    report = train(workspace=boards)
    assert report.resumed_from == 1
    assert report.weights_source == "folder yolov8n.pt"
    assert export(workspace=boards).parity.agreement == 1


def test_pictures_are_augmented_by_our_module_and_boxes_follow(boards, set_training, monkeypatch):
    """Under every box of a bar lies a dark bar; a mosaic or a quarter turn moved it there."""
    from visionloop.training.families import yolo_pictures

    seen = []

    class Watched(yolo_pictures.AugmentPictures):
        def __call__(self, labels):
            done = super().__call__(labels)
            seen.append((self.epoch, done["img"].copy(), done["instances"].bboxes, done["cls"]))
            return done

    monkeypatch.setattr("visionloop.training.families.yolo_training.AugmentPictures", Watched)
    set_training(boards, epochs=2, augment={"strength": "light", "mosaic": 0.5})
    train(workspace=boards)
    assert {epoch for epoch, *_ in seen} == {0, 1}
    levels = [
        float(np.median(image[int(y1) + 2 : int(y2) - 2, int(x1) + 2 : int(x2) - 2]))
        for _, image, xyxy, class_id in seen
        for (x1, y1, x2, y2), kind in zip(xyxy, class_id.ravel(), strict=True)
        if kind == 0 and min(x2 - x1, y2 - y1) > 8
    ]
    bars = np.concatenate([xyxy[kinds.ravel() == 0] for _, _, xyxy, kinds in seen])
    tall = int((bars[:, 3] - bars[:, 1] > bars[:, 2] - bars[:, 0]).sum())
    assert len(levels) > 20
    assert np.mean(np.array(levels) < 40) > 0.8  # small bars may lie over earlier ones
    assert tall > 5
    assert (boards.reports / "training" / "augmentation.png").is_file()


def test_early_stopping_ends_yolo_too(boards, set_training):
    set_training(boards, epochs=6, patience=1, learning_rate=1e-12)
    report = train(workspace=boards)
    assert len(MlflowClient().get_metric_history(report.run_id, "train_loss")) < 6


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


def test_a_checkpoint_that_runs_code_is_refused_and_not_run(boards, tmp_path, monkeypatch):
    marker, folder = tmp_path / "marker", tmp_path / "weights"
    folder.mkdir()
    torch.save({"model": Payload(marker)}, folder / "yolov8n.pt")
    monkeypatch.setenv("VISIONLOOP_WEIGHTS", str(folder))
    with pytest.raises(DataError, match="refused"):
        train(workspace=boards)
    (folder / "yolov8n.pt").write_bytes(pickle.dumps(Payload(marker)))
    with pytest.raises(DataError, match="refused"):
        train(workspace=boards)
    assert not marker.exists()


def test_the_shared_weights_load(boards, shared_weights, monkeypatch, set_training):
    if not (shared_weights / "yolov8n-coco.pt").is_file():
        pytest.skip("VISIONLOOP_WEIGHTS names no folder of weights that holds yolov8n-coco.pt")
    monkeypatch.setenv("VISIONLOOP_WEIGHTS", str(shared_weights))
    set_training(boards, epochs=1)
    assert train(workspace=boards).weights_source == "folder yolov8n-coco.pt"


def test_a_detector_without_val_samples_is_refused(boards):
    from visionloop.data.versions.version import save_version

    version = load_version(boards.version("v1"), boards.images)
    samples = version.samples[version.samples["split"] != "val"]
    kept = set(samples["sample_id"])
    shutil.rmtree(boards.version("v1"))
    save_version(
        boards.version("v1"),
        vision_task="detection",
        classes=version.classes,
        samples=samples,
        annotations=[row for row in version.annotations if row.sample_id in kept],
    )
    with pytest.raises(DataError, match="val has none"):
        train(workspace=boards)


def test_processes_started_after_yolo_train_on_every_core() -> None:
    """Ultralytics would otherwise leave OMP_NUM_THREADS=1 to all that is started later."""
    code = (
        "import os; from visionloop.core.privacy import set_quiet_environment as quiet; quiet();"
        "import visionloop.training.families.yolo;"
        "print(os.environ['OMP_NUM_THREADS'] == str(len(os.sched_getaffinity(0))))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == "True", done.stderr
