"""Precision variants, their parity, and engines built ahead of time."""

from __future__ import annotations

import importlib.util
import json
import shutil

import cv2
import numpy as np
import onnx
import pytest

from visionloop.core.errors import DataError, PackageError, VisionloopError
from visionloop.core.files import sha256_of_file
from visionloop.serving import signing
from visionloop.serving.apart import run_apart
from visionloop.serving.backends.tensorrt_backend import find_tensorrt
from visionloop.serving.build import build
from visionloop.serving.engines.builder import build_engine
from visionloop.serving.engines.cache import EngineCache
from visionloop.serving.engines.record import load_engine, load_manifest, read_variant
from visionloop.serving.package import load_package
from visionloop.serving.variants.reference import Reference, ReferenceSample, save_reference

needs_tensorrt = pytest.mark.skipif(find_tensorrt() is None, reason="TensorRT is not installed")


@pytest.fixture
def workspace(make_workspace, make_line, tiny):
    """A workspace with a package and six pictures."""
    found = make_workspace("[]", "[]")
    make_line([10, 30, 50, 205, 225, 245], found.images)
    found.package.parent.mkdir()
    shutil.move(tiny.classifier(), found.package)
    return found


def set_build(workspace, changes: str) -> None:
    text = workspace.params.read_text()
    workspace.params.write_text(text.replace("parity_images: 4,", f"parity_images: 4, {changes},"))


def test_the_build_of_a_package(workspace, signed):
    """One build (it starts several processes), and everything that must hold about it."""
    report = build(workspace=workspace)
    content = json.loads((report.folder / "engine.json").read_text())
    check_variants(report.folder, content, load_package(workspace.package).sha256)
    check_measured(report.manifest)
    check_page(report.page)
    if find_tensorrt() is None:
        assert not report.manifest.built
        assert {one.reason for one in report.manifest.engines} == {
            "TensorRT is not installed on this machine"
        }
    else:
        check_engines(report.folder, report.manifest)
        check_that_other_engines_are_refused(report.folder, report.manifest, signed[0])


def check_variants(folder, content, package_sha256):
    fp16 = onnx.load(folder / "model-fp16.onnx")
    assert {row.data_type for row in fp16.graph.initializer} == {onnx.TensorProto.FLOAT16}
    int8 = onnx.load(folder / "model-int8.onnx")
    operators = [node.op_type for node in int8.graph.node]
    assert operators.count("DequantizeLinear") >= 2 and "QuantizeLinear" in operators
    for model in (fp16, int8):
        for value in (*model.graph.input, *model.graph.output):
            assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert content["package_sha256"] == package_sha256
    for row in content["variants"]:
        assert row["accepted"] and not row["reasons"]
        assert row["onnx_sha256"] == sha256_of_file(folder / f"model-{row['precision']}.onnx")
        assert row["parity"]["images"] == 3  # half of the six; the others give the ranges
        assert row["parity"]["truth"] == "fp32"
        assert 0 < row["parity"]["max_difference"] < (0.05 if row["precision"] == "fp16" else 0.5)
    assert content["variants"][1]["layers"] == 1
    assert len(content["variants"][1]["calibration"]) == 3
    signing.verify_folder(folder, keys=signing.trusted_keys(), signature_name="engine.sig")


def check_measured(manifest):
    rows = {(row["precision"], row["backend"]): row for row in manifest.measured}
    for precision in ("fp32", "fp16", "int8", "int8-cpu"):
        row = rows[precision, "onnxruntime"]
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
        assert row["memory_mb"] > 0
    for one in manifest.built:  # no GPU here: said, not hidden
        row = rows[one.precision, "tensorrt"]
        assert "p50_ms" in row or "GPU" in row["reason"] or "cuda" in row["reason"]


def check_page(page):
    text = page.read_text()
    assert text.count('class="badge accepted"') == 3
    assert "data:image/jpeg;base64," in text and "<circle" in text
    assert json.loads((page.parent / "parity.json").read_text())["limits"]["max_metric_loss"]


def check_engines(folder, manifest):
    assert [one.precision for one in manifest.built] == ["fp16", "int8"]
    for one in manifest.built:
        engine = folder / one.engine_file
        assert sha256_of_file(engine) == one.engine_sha256
        assert engine.stat().st_size == one.engine_bytes > 0
        assert one.shapes == {
            "image": {"min": [1, 3, 32, 32], "opt": [1, 3, 32, 32], "max": [8, 3, 32, 32]}
        }
        assert one.kind in ("tensorrt", "tensorrt_rtx")
        assert one.tensorrt_version == find_tensorrt().version
        assert one.kind != "tensorrt_rtx" or "not the speed of a Jetson" in one.note
    types = [{name for row in one.layers.values() for name in row} for one in manifest.built]
    assert "HALF" in types[0] and "INT8" in types[1]
    facts, content = load_engine(folder, package_sha256=manifest.package_sha256)
    assert facts == manifest.built[0]
    assert content == (folder / facts.engine_file).read_bytes()


def check_that_other_engines_are_refused(folder, manifest, key):
    """Doctored manifests and broken files; each is signed again, as a real signer's mistake."""
    with pytest.raises(PackageError, match="another package"):
        load_engine(folder, package_sha256="0" * 64)
    engine = folder / manifest.built[0].engine_file
    content = engine.read_bytes()
    engine.write_bytes(content[:-1] + b"x")
    with pytest.raises(PackageError, match=r"changed after signing: model-fp16\.engine"):
        load_engine(folder, package_sha256=manifest.package_sha256)
    signing.sign_folder(folder, key=key, signature_name="engine.sig")
    facts, _ = load_engine(folder, package_sha256=manifest.package_sha256)
    assert facts.precision == "int8"  # the other engine is still what it was
    engine.write_bytes(content)
    original = (folder / "engine.json").read_text()
    for change, reason in (
        ({"tensorrt_version": "0.1"}, "was built by tensorrt(_rtx)? 0.1; here is"),
        ({"engine_sha256": "0" * 64}, "does not have the SHA-256"),
    ):
        row = json.loads(original)
        row["engines"] = [one | change for one in row["engines"]]
        (folder / "engine.json").write_text(json.dumps(row))
        signing.sign_folder(folder, key=key, signature_name="engine.sig")
        with pytest.raises(PackageError, match=reason):
            load_engine(folder, package_sha256=manifest.package_sha256)


@needs_tensorrt
def test_an_engine_comes_from_the_cache_unless_anything_is_different(tiny, tmp_path):
    onnx_file = tiny.classifier() / "model.onnx"
    cache = EngineCache(tmp_path / "cache")
    wanted = {"onnx": onnx_file, "precision": "fp32", "compute_capability": "8.0", "max_batch": 2}
    facts, content = cache.provide(**wanted)
    assert facts.built and not facts.from_cache
    again, same = cache.provide(**wanted)
    assert again.from_cache and same == content
    other, _ = cache.provide(**wanted | {"max_batch": 3})
    assert not other.from_cache and other.key != facts.key
    file = tmp_path / "cache" / facts.key / "model.engine"
    file.write_bytes(content[: len(content) // 2])  # broken: thrown away, built again
    rebuilt, whole = cache.provide(**wanted)
    assert rebuilt.built and not rebuilt.from_cache and len(whole) == len(content)
    (tmp_path / "cache" / facts.key / "facts.json").write_text("{")
    assert cache.find(facts.key) is None


@needs_tensorrt
@pytest.mark.parametrize(
    ("capability", "reason"), [("8.7", "cannot build for compute capability 8.7"), ("8.9", "")]
)
def test_targets_that_this_tensorrt_lacks_are_said(tiny, tmp_path, capability, reason):
    found = build_engine(
        onnx=str(tiny.detector() / "model.onnx"),
        engine=str(tmp_path / "e"),
        precision="fp32",
        compute_capability=capability,
        max_batch=4,
    )
    assert found["built"] is (not reason), found
    assert reason in found.get("reason", "")
    assert found["built"] is (tmp_path / "e").is_file()


@needs_tensorrt
def test_a_file_that_is_no_model_is_a_reason(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"<html>not found</html>")
    facts, content = EngineCache(tmp_path / "cache").provide(
        onnx=tmp_path / "m.onnx", precision="fp32", compute_capability="8.0", max_batch=1
    )
    assert not facts.built and content is None and facts.reason


def test_without_tensorrt_the_absence_is_written_down(workspace, monkeypatch):
    """The child finds no TensorRT: empty modules of its names come first on its path."""
    hidden = workspace.root / "hidden"
    for name in ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings"):
        (hidden / name).mkdir(parents=True)
        (hidden / name / "__init__.py").write_text("raise ImportError('hidden by a test')\n")
    monkeypatch.setenv("PYTHONPATH", str(hidden))
    set_build(workspace, "precisions: [fp16]")
    report = build(workspace=workspace)
    (engine,) = report.manifest.engines
    assert not engine.built
    assert engine.reason == "TensorRT is not installed on this machine"
    assert not list(report.folder.glob("*.engine"))
    with pytest.raises(PackageError, match="holds no engine: TensorRT is not installed"):
        load_engine(report.folder, package_sha256=report.manifest.package_sha256)


def test_a_variant_that_loses_too_much_is_left_out_and_it_is_said(workspace, signed):
    """INT8 with ranges of the dark alone: what is bright is cut off, and becomes dark."""
    truth, samples = {"dark": 0, "bright": 1}, []
    for path in sorted(workspace.images.iterdir()):
        name = "bright" if int(path.stem) >= 3 else "dark"
        samples.append(ReferenceSample(file_name=path.name, split="val", class_id=truth[name]))
    dark = workspace.images / "dark.png"
    cv2.imwrite(str(dark), np.full((40, 60, 3), 30, np.uint8))
    samples.append(ReferenceSample(file_name=dark.name, split="train", class_id=0))
    save_reference(
        workspace.reports / "export" / "reference.json",
        Reference(metric="balanced_accuracy", samples=samples),
    )
    workspace.params.write_text(
        workspace.params.read_text().replace("parity_images: 4,", "parity_images: 6,")
    )
    report = build(workspace=workspace)
    fp16, int8 = report.manifest.variants[:2]
    assert fp16.accepted and fp16.parity["truth"] == "annotations"
    assert fp16.parity["reference_value"] == 1.0
    assert not int8.accepted
    assert "balanced_accuracy against annotations falls by 0.5000" in int8.reasons[0]
    assert not (report.folder / "model-int8.onnx").exists()
    assert [one.precision for one in report.manifest.engines] == ["fp16"]
    assert report.manifest.missing[0].startswith("goes without int8: balanced_accuracy")
    assert 'class="badge refused"' in report.page.read_text()
    manifest = load_manifest(report.folder, package_sha256=report.manifest.package_sha256)
    with pytest.raises(PackageError, match="holds no int8 variant: balanced_accuracy"):
        read_variant(report.folder, manifest, "int8")
    assert read_variant(report.folder, manifest, "fp16")


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
