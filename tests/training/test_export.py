"""Export: the same bytes, a signed package, parity with the checkpoint, refusals."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import yaml

from visionloop.core.errors import DataError, InputError, RefusedError
from visionloop.core.files import read_json, sha256_of_folder
from visionloop.core.workspace import Workspace
from visionloop.data.versions.version import load_version
from visionloop.serving.images import read_image
from visionloop.serving.package import load_package
from visionloop.serving.predictor import Predictor
from visionloop.training.backbone import export_backbone
from visionloop.training.export import export
from visionloop.training.train import train


@pytest.fixture
def trained(embedded_cells) -> Workspace:
    train(workspace=embedded_cells)
    return embedded_cells


def test_the_same_seed_gives_the_same_onnx_and_parity_holds(trained):
    first = export(workspace=trained)
    train(workspace=trained)
    second = export(workspace=trained)
    assert first.model_sha256 == second.model_sha256
    parity = read_json(trained.reports / "export" / "parity.json")
    assert parity["passed"] is True
    assert parity["samples"] == 4
    assert parity["max_difference"] < 1e-4
    package = load_package(trained.package)
    assert parity["package"] == package.sha256 == second.package_sha256
    content = package.read_model()
    assert str(trained.root).encode() not in content
    assert b"site-packages" not in content
    check_answers(trained, package)


def check_answers(workspace: Workspace, package) -> None:
    """The manifest is filled in, and the embedding is that of the shared backbone."""
    manifest = package.manifest
    assert manifest.lineage.weights.startswith("efficientnet-lite0@")
    assert manifest.train_mix["camera"] == {"c1": 29}
    version = load_version(workspace.version("v1"), workspace.images)
    assert manifest.lineage.dataset_fingerprint == version.fingerprint
    images = [read_image(version.image_path(one)) for one in version.samples["sample_id"][:3]]
    predictions = Predictor(package, threads=1).predict(images)
    shared = Predictor(load_package(workspace.backbone), threads=1).embed(images)
    assert np.allclose([one.embedding for one in predictions], shared, atol=1e-3)


def test_beyond_the_limit_it_is_refused_and_the_old_package_stays(trained):
    shutil.copytree(trained.backbone, trained.package)
    before = sha256_of_folder(trained.package)
    targets = yaml.safe_load(trained.targets.read_text())
    targets["parity"]["max_difference"] = 1e-12
    trained.targets.write_text(yaml.safe_dump(targets))
    with pytest.raises(RefusedError, match="differs by") as caught:
        export(workspace=trained)
    assert caught.value.exit_code == 3
    assert sha256_of_folder(trained.package) == before
    assert read_json(trained.reports / "export" / "parity.json")["passed"] is False


@pytest.mark.slow
def test_a_graph_of_fixed_batch_answers_alike(trained, set_training):
    export(workspace=trained)
    version = load_version(trained.version("v1"), trained.images)
    images = [read_image(version.image_path(one)) for one in version.samples["sample_id"][:5]]
    free = Predictor(load_package(trained.package), threads=1).predict(images)
    set_training(trained, export={"parity_samples": 4, "batch": 3})
    export(workspace=trained)
    predictor = Predictor(load_package(trained.package), threads=1)
    fixed = predictor.predict(images)
    assert predictor._backend.input_shape[0] == 3
    for one, two in zip(free, fixed, strict=True):
        assert np.allclose(one.answer.probabilities, two.answer.probabilities, atol=1e-5)


def test_without_a_signing_key_nothing_is_exported(trained, monkeypatch):
    monkeypatch.delenv("VISIONLOOP_SIGNING_KEY")
    with pytest.raises(InputError, match="VISIONLOOP_SIGNING_KEY"):
        export(workspace=trained)
    assert not trained.package.exists()


def test_without_a_checkpoint_the_next_step_is_named(embedded_cells):
    with pytest.raises(DataError, match="visionloop train train"):
        export(workspace=embedded_cells)


def test_a_changed_checkpoint_is_refused(trained):
    path = trained.checkpoint / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="not what checkpoint"):
        export(workspace=trained)


def test_a_backbone_of_the_same_content_is_kept(tmp_path, backbone_package, write_params):
    workspace = Workspace(tmp_path)
    write_params(workspace, {}, {"backbone": {"weights": "efficientnet-lite0", "image_size": 64}})
    first = export_backbone(workspace=workspace)
    assert not first.was_there
    assert first.package_sha256 == load_package(backbone_package).sha256
    changed = (workspace.backbone / "model.onnx").stat().st_mtime_ns
    second = export_backbone(workspace=workspace)
    assert second.was_there
    assert second.package_sha256 == first.package_sha256
    assert (workspace.backbone / "model.onnx").stat().st_mtime_ns == changed


@pytest.mark.slow
def test_a_backbone_of_another_size_replaces_the_old_one(tmp_path, backbone_package, write_params):
    workspace = Workspace(tmp_path)
    shutil.copytree(backbone_package, workspace.backbone)
    write_params(workspace, {}, {"backbone": {"weights": "efficientnet-lite0", "image_size": 96}})
    assert not export_backbone(workspace=workspace).was_there
    assert load_package(workspace.backbone).manifest.input.width == 96


@pytest.mark.slow
def test_full_training_exports_too(cells, set_training):
    set_training(cells, epochs=1)
    train(workspace=cells)
    report = export(workspace=cells)
    assert report.parity.images == 4
    assert report.parity.agreement == 1
