"""RT-DETR: trained from random weights on drawn boards, exported as a set of boxes."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from visionloop.core.entities import Detections
from visionloop.core.errors import ConfigError, DataError
from visionloop.core.geometry import match_boxes
from visionloop.data.versions.version import load_version
from visionloop.serving.images import read_image
from visionloop.serving.package import load_package
from visionloop.serving.predictor import Predictor
from visionloop.training.checkpoint import load_checkpoint
from visionloop.training.export import export
from visionloop.training.families.rtdetr import ARCHITECTURES, _make_network
from visionloop.training.train import train
from visionloop.training.validation import measure_boxes


@pytest.fixture
def detr_boards(boards, set_training):
    """The boards with the small RT-DETR from random weights."""
    shown = {"min_confidence": 0.2, "parity_samples": 3}
    set_training(boards, family="rtdetr", weights="rtdetr-v2-nano", epochs=2, batch_size=4,
                 learning_rate=0.0006, export=shown)  # fmt: skip
    return boards


def test_it_trains_and_goes_on_where_it_was_interrupted(detr_boards, fail_at) -> None:
    fail_at("training.epoch:interrupt:1")
    with pytest.raises(KeyboardInterrupt):
        train(workspace=detr_boards)
    fail_at("")
    report = train(workspace=detr_boards)
    assert report.resumed_from == 1
    assert {"val_map50", "val_loss"} <= set(report.metrics)
    sheet = detr_boards.reports / "training" / "augmentation.png"
    assert sheet.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow  # with few epochs the scores of many places are equal, and sets differ
def test_it_learns_boards_and_is_shipped_as_a_set(detr_boards, set_training) -> None:
    set_training(detr_boards, epochs=40, augment={"strength": "none"})
    report = train(workspace=detr_boards)
    assert report.metrics["val_map50"] > 0.15
    exported = export(workspace=detr_boards)
    assert exported.parity.boxes > 0 and exported.parity.agreement == 1
    package = load_package(detr_boards.package)
    assert (package.manifest.outputs.kind, package.manifest.licence) == ("detr", "Apache-2.0")
    version = load_version(detr_boards.version("v1"), detr_boards.images)
    images = [read_image(version.image_path(one)) for one in version.samples["sample_id"][:3]]
    predictor = Predictor(package, threads=1)
    together = predictor.predict(images, minimum_confidence=0.1)
    (alone,) = predictor.predict(images[:1], minimum_confidence=0.1)
    assert isinstance(alone.answer, Detections) and len(alone.answer)
    pairs = match_boxes(alone.answer.xyxy, together[0].answer.xyxy, min_iou=0.98)
    assert len(pairs) == len(alone.answer)
    assert alone.answer.xyxy.min() >= 0 and alone.answer.xyxy.max() <= 96
    assert alone.embedding.shape == (128,)


def test_weights_of_other_classes_are_taken_but_for_the_class_heads(
    detr_boards, tmp_path, monkeypatch, set_training
) -> None:
    torch.manual_seed(2)
    facts = {"transformers": "rtdetr_v2_nano", "classes": 80, "image_size": 96}
    saved = _make_network(facts, frozen_norms=False).state_dict()
    kept = {name: one.clone().contiguous() for name, one in saved.items()}
    save_file(kept, tmp_path / "rtdetr_v2_nano.safetensors")
    monkeypatch.setenv("VISIONLOOP_WEIGHTS", str(tmp_path))
    set_training(detr_boards, epochs=1, learning_rate=1e-9, weight_decay=0.0)
    report = train(workspace=detr_boards)
    assert report.weights_source == "folder rtdetr_v2_nano.safetensors"
    tensors = load_checkpoint(detr_boards.checkpoint).load_tensors()
    name = next(one for one in tensors if one.endswith("encoder.lateral_convs.0.conv.weight"))
    assert torch.allclose(tensors[name], saved[name], atol=1e-5)
    kept.pop(name)
    save_file(kept, tmp_path / "rtdetr_v2_nano.safetensors")
    with pytest.raises(DataError, match="do not fit rtdetr_v2_nano"):
        train(workspace=detr_boards)


def test_pictures_that_are_too_small_for_its_queries_are_refused(detr_boards, set_training) -> None:
    set_training(detr_boards, image_size=64)
    with pytest.raises(ConfigError, match="84 places for the 100 boxes"):
        train(workspace=detr_boards)


def test_weights_of_yolo_are_refused(detr_boards, set_training) -> None:
    set_training(detr_boards, weights="yolov8n")
    with pytest.raises(ConfigError, match="not to transformers"):
        train(workspace=detr_boards)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_can_be_built(name) -> None:
    network = _make_network(
        {"transformers": name, "classes": 3, "image_size": 64}, frozen_norms=False
    )
    with torch.inference_mode():
        found = network.eval()(pixel_values=torch.zeros(1, 3, 128, 128))
    assert found.logits.shape[2] == 3


def test_average_precision_of_boxes_by_hand() -> None:
    truth = [(np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32), np.array([0, 0]))]
    boxes = np.array([[0, 0, 10, 10], [50, 50, 60, 60], [20, 20, 30, 30]], np.float32)
    found = [Detections(boxes, np.zeros(3, np.int64), np.array([0.9, 0.8, 0.7], np.float32))]
    assert measure_boxes(found, truth, 1)["val_map50"] == pytest.approx((1 + 2 / 3) / 2)
    assert measure_boxes([Detections.empty()], truth, 2)["val_map50"] == 0.0
