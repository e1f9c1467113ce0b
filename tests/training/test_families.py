"""Families of timm: every one trains, exports and answers; their weights are loaded for real."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from visionloop.core.errors import ConfigError, DataError
from visionloop.core.plugins import resolve
from visionloop.data.versions.version import load_version, save_version
from visionloop.serving.images import read_image
from visionloop.serving.package import load_package
from visionloop.serving.predictor import Predictor
from visionloop.training.export import export
from visionloop.training.families.table import EXTRAS, FAMILIES, FOR_SCENES, load_family
from visionloop.training.train import train
from visionloop.training.weights import WEIGHTS

ROOT = Path(__file__).parents[2]

FAST = {"mode": "full", "epochs": 1, "allow_scratch": True}


@pytest.mark.parametrize("name", [*FAMILIES, *(f"{one}@scene" for one in FOR_SCENES)])
def test_every_row_is_a_family(name) -> None:
    family, _, task = name.partition("@")
    made = load_family(family, None, task)
    assert made.vision_task in ("classification", "detection", "scene", "anomaly")
    assert made.outputs.answer
    table = FOR_SCENES if task else FAMILIES
    assert resolve(table, family, kind="family", extra=EXTRAS.get(family, "training"))


@pytest.fixture
def tiny_weights(monkeypatch, tmp_path):
    """``tiny_weights("vit-tiny")``: random weights of that architecture, saved under its name."""

    def save(name: str) -> None:
        torch.manual_seed(5)
        network = timm.create_model(WEIGHTS[name].architecture)
        save_file(network.state_dict(), tmp_path / WEIGHTS[name].files[0])
        monkeypatch.setenv("VISIONLOOP_WEIGHTS", str(tmp_path))

    return save


@pytest.mark.parametrize(
    ("family", "weights"), [("convnext", "convnext-atto"), ("vit", "vit-tiny")]
)
def test_weights_from_the_folder_are_trained_and_shipped(
    cells, set_training, tiny_weights, family, weights
) -> None:
    tiny_weights(weights)
    set_training(cells, family=family, weights=weights, mode="probe", epochs=2)
    report = train(workspace=cells)
    assert report.weights_source == f"folder {WEIGHTS[weights].files[0]}"
    exported = export(workspace=cells)
    assert exported.parity.max_difference < 1e-3
    package = load_package(cells.package)
    version = load_version(cells.version("v1"), cells.images)
    images = [read_image(version.image_path(one)) for one in version.samples["sample_id"][:3]]
    found = Predictor(package, threads=1).predict(images)
    assert [one.answer.probabilities.shape for one in found] == [(2,)] * 3
    assert package.manifest.family == family


def test_a_probe_goes_on_with_the_features_it_has(cells, set_training, fail_at) -> None:
    set_training(cells, mode="probe", epochs=3)
    whole = train(workspace=cells)
    fail_at("training.epoch:interrupt:2")
    with pytest.raises(KeyboardInterrupt):
        train(workspace=cells)
    fail_at("")
    kept = cells.root / "artifacts/training_state/features-train.npy"
    before = kept.stat().st_mtime_ns
    for image in cells.images.glob("*.png"):
        image.chmod(0o600)
    assert np.load(kept).shape[1] == 1280 and before
    report = train(workspace=cells)
    assert report.resumed_from == 2
    assert report.metrics == whole.metrics


def test_weights_of_another_family_are_refused(cells, set_training) -> None:
    set_training(cells, **FAST, family="convnext", weights="efficientnet-lite0")
    with pytest.raises(ConfigError, match=r"not of training\.family 'convnext'"):
        train(workspace=cells)


def test_a_family_of_the_projects_own_is_found_beside_its_params(cells, set_training) -> None:
    set_training(cells, family="own_net:Nothing")
    with pytest.raises(ConfigError, match="no module 'own_net'"):
        train(workspace=cells)
    (cells.root / "own_net.py").write_text("class Nothing:\n    vision_task = 'classification'\n")
    with pytest.raises(ConfigError, match="it lacks outputs, train, build, export"):
        train(workspace=cells)


def test_the_example_of_a_family_trains_exports_and_answers(cells, set_training) -> None:
    example = ROOT / "examples" / "02_add_a_model_family" / "tiny_net.py"
    lines = [one for one in example.read_text().splitlines() if one.strip()]
    assert len(lines) < 60
    shutil.copy(example, cells.root)
    set_training(cells, family="tiny_net:TinyNet", weights="none", mode="full", epochs=2)
    report = train(workspace=cells)
    assert report.weights_source == "scratch (none were asked for)"
    assert export(workspace=cells).parity.max_difference < 1e-4
    package = load_package(cells.package)
    version = load_version(cells.version("v1"), cells.images)
    image = read_image(version.image_path(str(version.samples["sample_id"].iloc[0])))
    (found,) = Predictor(package, threads=1).predict([image])
    assert found.answer.probabilities.shape == (2,)


class TestScenes:
    """A scene has any number of attributes."""

    def test_attributes_are_trained_exported_and_answered(self, scenes) -> None:
        report = train(workspace=scenes)
        assert {"val_macro_average_precision", "val_macro_f1"} <= set(report.metrics)
        for name in ("attention", "augmentation"):
            picture = scenes.reports / "training" / f"{name}.png"
            assert picture.read_bytes().startswith(b"\x89PNG")
        exported = export(workspace=scenes)
        assert exported.parity.max_difference < 1e-3
        package = load_package(scenes.package)
        assert package.manifest.outputs.kind == "attributes"
        version = load_version(scenes.version("v1"), scenes.images)
        images = [read_image(version.image_path(one)) for one in version.samples["sample_id"][:2]]
        (first, _) = Predictor(package, threads=1).predict(images)
        assert first.answer.probabilities.shape == (3,)
        assert first.embedding.shape == (192,)

    def test_an_attribute_that_nobody_or_everybody_has_is_named(self, scenes) -> None:
        version = load_version(scenes.version("v1"), scenes.images)
        save_version(
            scenes.version("v1"),
            vision_task="scene",
            classes=version.classes,
            samples=version.samples,
            annotations=[
                replace(row, class_name="") if row.class_name == "bar" else row
                for row in version.annotations
            ],
        )
        with pytest.raises(DataError, match="by no sample or by all: bar"):
            train(workspace=scenes)

    def test_only_mode_full_is_for_scenes(self, scenes, set_training) -> None:
        set_training(scenes, mode="probe")
        with pytest.raises(ConfigError, match="not for scenes"):
            train(workspace=scenes)
