"""A YOLO that was exported at one size is, resized, the one that is exported at the other size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from visionloop.serving.backends.onnxruntime_backend import OnnxRuntimeBackend
from visionloop.serving.manifest import ImageInput, Manifest
from visionloop.serving.package import load_package, write_package
from visionloop.serving.variants.resize_model import resize_model
from visionloop.training.onnx_files import export_traced

pytest.importorskip("ultralytics", reason="the yolo extra is not installed")
OUTPUTS = ["detections", "embedding"]


@pytest.mark.parametrize("name", ["yolov8n", "yolo11n", "yolo26n"])
def test_resized_and_exported_at_that_size_are_one(name, tmp_path, signed):
    from ultralytics.nn.tasks import yaml_model_load

    from visionloop.training.families.yolo import DetectorForExport, _make_network

    torch.manual_seed(0)
    network = DetectorForExport(_make_network(yaml_model_load(f"{name}.yaml"), 2)).eval()
    for width, height in ((96, 96), (96, 64)):
        path = tmp_path / f"{width}x{height}.onnx"
        export_traced(network, path, height=height, width=width, outputs=OUTPUTS)
    manifest = Manifest(
        name=name,
        vision_task="detection",
        classes=["a", "b"],
        input=ImageInput(width=96, height=96, resize="letterbox"),
        outputs=network.outputs,
    )
    write_package(tmp_path / "package", model=tmp_path / "96x96.onnx", manifest=manifest)
    package = load_package(tmp_path / "package")
    _, content = resize_model(package, package.read_model(), 96, 64)
    batch = np.random.default_rng(0).random((2, 3, 64, 96), np.float32)
    expected = OnnxRuntimeBackend(
        (tmp_path / "96x64.onnx").read_bytes(), subject="exported", threads=1
    ).run(batch)
    found = OnnxRuntimeBackend(content, subject="resized", threads=1).run(batch)
    for output in OUTPUTS:
        assert np.allclose(found[output], expected[output], rtol=1e-4, atol=1e-4)
