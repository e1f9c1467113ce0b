"""FP16, its parity, and engines built ahead of time."""

from __future__ import annotations

import importlib.util
import json
import shutil

import onnx
import pytest

from visionloop.core.errors import DataError, PackageError, VisionloopError
from visionloop.core.files import sha256_of_file
from visionloop.serving import signing
from visionloop.serving.apart import run_apart
from visionloop.serving.backends.tensorrt_backend import find_tensorrt
from visionloop.serving.build import build
from visionloop.serving.engines import build_engine, load_engine
from visionloop.serving.package import load_package

needs_tensorrt = pytest.mark.skipif(find_tensorrt() is None, reason="TensorRT is not installed")


@pytest.fixture
def workspace(make_workspace, make_line, tiny):
    """A workspace with a package and six pictures."""
    found = make_workspace("[]", "[]")
    make_line([20, 60, 100, 140, 180, 220], found.images)
    found.package.parent.mkdir()
    shutil.move(tiny.classifier(), found.package)
    return found


def test_the_build_of_a_package(workspace, signed):
    """One build (it starts three processes), and everything that must hold about it."""
    report = build(workspace=workspace)
    content = json.loads((report.folder / "engine.json").read_text())
    check_fp16(report.folder, content, load_package(workspace.package).sha256)
    if find_tensorrt() is None:
        assert not content["built"]
        assert "not installed" in content["reason"]
    else:
        check_engine(report.folder, report.manifest)
        check_that_other_engines_are_refused(report.folder, report.manifest, signed[0])


def check_fp16(folder, content, package_sha256):
    fp16 = onnx.load(folder / "model-fp16.onnx")
    assert {row.data_type for row in fp16.graph.initializer} == {onnx.TensorProto.FLOAT16}
    assert content["package_sha256"] == package_sha256
    assert content["onnx_sha256"] == sha256_of_file(folder / "model-fp16.onnx")
    assert content["parity"]["images"] == 4
    assert 0 < content["parity"]["max_difference"] < 0.02
    signing.verify_folder(folder, keys=signing.trusted_keys(), signature_name="engine.sig")


def check_engine(folder, manifest):
    assert manifest.built, manifest.reason
    engine = folder / manifest.engine_file
    assert sha256_of_file(engine) == manifest.engine_sha256
    assert engine.stat().st_size == manifest.engine_bytes > 0
    assert manifest.layers["HALF"] > 0
    assert manifest.input_shapes == {"image": [8, 3, 32, 32]}
    assert manifest.kind in ("tensorrt", "tensorrt_rtx")
    assert manifest.tensorrt_version == find_tensorrt().version
    _, content = load_engine(folder, package_sha256=manifest.package_sha256)
    assert content == engine.read_bytes()


def check_that_other_engines_are_refused(folder, manifest, key):
    with pytest.raises(PackageError, match="another package"):
        load_engine(folder, package_sha256="0" * 64)
    engine = folder / manifest.engine_file
    content = engine.read_bytes()
    engine.write_bytes(content[:-1] + b"x")
    with pytest.raises(PackageError, match=r"changed after signing: model\.engine"):
        load_engine(folder, package_sha256=manifest.package_sha256)
    engine.write_bytes(content)
    row = json.loads((folder / "engine.json").read_text()) | {"tensorrt_version": "0.1"}
    (folder / "engine.json").write_text(json.dumps(row))
    signing.sign_folder(folder, key=key, signature_name="engine.sig")
    with pytest.raises(PackageError, match="build it here"):
        load_engine(folder, package_sha256=manifest.package_sha256)


@needs_tensorrt
@pytest.mark.parametrize(
    ("capability", "reason"), [("8.7", "cannot build for compute capability 8.7"), ("8.9", "")]
)
def test_targets_that_this_tensorrt_lacks_are_said(tiny, tmp_path, capability, reason):
    found = build_engine(
        onnx=str(tiny.detector() / "model.onnx"),
        engine=str(tmp_path / "e"),
        compute_capability=capability,
        max_batch=4,
    )
    assert found["built"] is (not reason), found
    assert reason in found.get("reason", "")
    assert found["built"] is (tmp_path / "e").is_file()


def test_without_tensorrt_the_absence_is_written_down(workspace, monkeypatch):
    """The child finds no TensorRT: empty modules of its names come first on its path."""
    hidden = workspace.root / "hidden"
    for name in ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings"):
        (hidden / name).mkdir(parents=True)
        (hidden / name / "__init__.py").write_text("raise ImportError('hidden by a test')\n")
    monkeypatch.setenv("PYTHONPATH", str(hidden))
    report = build(workspace=workspace)
    assert not report.manifest.built
    assert report.manifest.reason == "TensorRT is not installed on this machine"
    assert not (report.folder / "model.engine").exists()
    with pytest.raises(PackageError, match="holds no engine"):
        load_engine(report.folder, package_sha256=report.manifest.package_sha256)


def test_fp16_that_is_too_far_from_fp32_gets_no_engine(workspace):
    text = workspace.params.read_text()
    strict = "build: {fp16_max_difference: 1.0e-9, parity_images: 4}"
    workspace.params.write_text(text.replace("build: {parity_images: 4}", strict))
    report = build(workspace=workspace)
    assert not report.manifest.built
    assert "FP16 differs from FP32" in report.manifest.reason


def test_build_needs_a_package_and_images(workspace):
    for image in workspace.images.iterdir():
        image.unlink()
    with pytest.raises(DataError, match="holds no images"):
        build(workspace=workspace)
    (workspace.package / "model.onnx").write_bytes(b"x")
    with pytest.raises(PackageError):
        build(workspace=workspace)
    assert not workspace.engine.exists()


def test_a_crash_in_a_child_becomes_a_message():
    with pytest.raises(VisionloopError, match="ended by SIGABRT"):
        run_apart("os:abort", {})
    with pytest.raises(VisionloopError, match="FileNotFoundError"):
        run_apart("os:remove", {"path": "/no/such/file"})
    with pytest.raises(VisionloopError, match="longer than"):
        run_apart("signal:pause", {}, timeout_s=1.5)


def test_the_bindings_alone_are_found():
    if importlib.util.find_spec("tensorrt_rtx_bindings") is None:
        pytest.skip("TensorRT is not installed")
    found = find_tensorrt()
    assert found is not None
    assert found.kind in ("tensorrt", "tensorrt_rtx")
