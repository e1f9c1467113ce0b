"""CLIP and the ensemble, on a tiny CLIP with random weights: no real ones can be had offline."""

import json
from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from visionloop.core.errors import ConfigError, DataError
from visionloop.data.versions.version import load_version
from visionloop.serving.images import read_image
from visionloop.serving.package import load_package
from visionloop.serving.predictor import Predictor
from visionloop.training import weights as table
from visionloop.training.export import export
from visionloop.training.train import train

TINY = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 96, "layers": 3, "width": 64, "patch_size": 8, "head_width": 32},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture
def tiny_clip(tmp_path, monkeypatch, surfaces, set_training):
    """A row clip-tiny whose random weights lie in the folder VISIONLOOP_WEIGHTS."""
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "vl-tiny.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(folder / "vl-tiny.json")
    row = replace(
        table.WEIGHTS["clip-vit-b-32"], architecture="vl-tiny", files=("tiny.safetensors",)
    )
    monkeypatch.setitem(table.WEIGHTS, "clip-tiny", row)
    monkeypatch.setenv("VISIONLOOP_WEIGHTS", str(folder))
    torch.manual_seed(3)
    model = open_clip.create_model("vl-tiny", pretrained=None)
    save_file(model.state_dict(), folder / "tiny.safetensors")
    anomaly = {"memory": 80, "max_patches": 2000, "false_alarm_rate": 0.1, "layers": [0, 1]}
    set_training(surfaces, family="clip", weights="clip-tiny", anomaly=anomaly)
    return surfaces


def check_spot(workspace) -> None:
    package = load_package(workspace.package)
    version = load_version(workspace.version("v1"), workspace.images)
    bad = version.class_ids(version.samples["sample_id"]) == 1
    one = str(version.samples["sample_id"][int(np.flatnonzero(bad)[0])])
    (found,) = Predictor(package, threads=1).predict([read_image(version.image_path(one))])
    row, column = np.unravel_index(found.heatmap.argmax(), found.heatmap.shape)
    assert abs((column + 0.5) / found.heatmap.shape[1] * 96 - 60) < 18
    assert abs((row + 0.5) / found.heatmap.shape[0] * 96 - 30) < 18


def test_tiny_random_clip_remembers_patches_and_carries_prompts(tiny_clip) -> None:
    report = train(workspace=tiny_clip)
    assert report.weights_source == "folder tiny.safetensors"
    assert report.metrics["val_auroc"] > 0.95
    assert export(workspace=tiny_clip).parity.max_difference < 1e-3
    check_spot(tiny_clip)


def test_prompts_alone_work_without_a_memory_worth_the_name(tiny_clip, set_training) -> None:
    anomaly = {"memory": 1, "max_patches": 100, "prompt_weight": 50.0, "layers": [2]}
    set_training(tiny_clip, anomaly=anomaly)
    first = train(workspace=tiny_clip).metrics["limit"]
    set_training(tiny_clip, anomaly=anomaly | {"object_name": "magnetic tile"})
    assert train(workspace=tiny_clip).metrics["limit"] != pytest.approx(first, rel=1e-4)


def test_autoencoder_and_clip_together(tiny_clip, set_training) -> None:
    set_training(tiny_clip, family="ensemble", epochs=8, batch_size=8, learning_rate=0.003)
    report = train(workspace=tiny_clip)
    assert report.metrics["val_auroc"] > 0.95
    assert export(workspace=tiny_clip).parity.max_difference < 1e-3
    check_spot(tiny_clip)


def test_patch_and_clip_need_weights_of_their_own_libraries(tiny_clip, set_training) -> None:
    set_training(tiny_clip, weights="none")
    with pytest.raises(ConfigError, match="not to open_clip"):
        train(workspace=tiny_clip)


def test_weights_of_another_shape_are_refused(tiny_clip, tmp_path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "weights" / "tiny.safetensors")
    with pytest.raises(DataError, match="do not fit vl-tiny"):
        train(workspace=tiny_clip)
