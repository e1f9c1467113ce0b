"""A small workspace and small images for the tests of the data stage."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from visionloop.core.entities import Annotation
from visionloop.core.files import sha256_of_bytes
from visionloop.core.workspace import Workspace
from visionloop.data.datasets.table import RawSample


def picture(number: int, *, size: int = 64) -> np.ndarray:
    """A picture that no other number resembles: uint8 (size, size, 3)."""
    noise = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
    return cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def raw_sample(content: bytes, class_name: str | None = None, **fields) -> RawSample:
    """A sample as the plant delivers it; annotated if a class is given."""
    sample_id = sha256_of_bytes(content)
    rows = () if class_name is None else (Annotation(sample_id, class_name, annotator="expert"),)
    defaults = {
        "suffix": "png",
        "camera": "cam-1",
        "site": "plant-1",
        "captured_at": "2026-01-05T06:00:00Z",
        "annotations": rows,
        "phase": "commissioning",
    }
    return RawSample(content=content, **{**defaults, **fields})


def set_params(workspace: Workspace, **data) -> None:
    """Write params.yaml; keyword arguments change keys of the data block."""
    block = {"dataset": "elpv", "import": {"phases": ["commissioning"]}, "version": "v1"}
    project = {
        "recipe": "test",
        "model": "test",
        "vision_task": data.pop("vision_task", "classification"),
        "classes": data.pop("classes", ["functional", "defective"]),
        "seed": data.pop("seed", 0),
    }
    content = {"project": project, "data": {**block, **data}}
    workspace.params.parent.mkdir(parents=True, exist_ok=True)
    workspace.params.write_text(yaml.safe_dump(content, sort_keys=False))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A project folder with a params.yaml and nothing else."""
    place = Workspace(tmp_path / "project")
    set_params(place)
    return place


@pytest.fixture
def fill(workspace: Workspace):
    """Import samples into the workspace: ``fill(samples, classes=...)``."""
    from visionloop.data.datasets.imports import import_raw_samples

    def put(samples, classes=("functional", "defective")):
        return import_raw_samples(
            samples, workspace=workspace, classes=list(classes), name="test", source="made"
        )

    return put


@pytest.fixture
def make():
    """The makers of pictures and samples, for tests that build their own."""

    class Makers:
        picture = staticmethod(picture)
        png = staticmethod(png)
        raw_sample = staticmethod(raw_sample)
        set_params = staticmethod(set_params)

    return Makers


@pytest.fixture
def write_backbone(key_pair, tmp_path):
    """Write a signed backbone package: ``write_backbone(folder, gain)``; its embedding is the
    mean colour times ``gain``."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from visionloop.serving.manifest import ImageInput, Manifest, ModelOutputs
    from visionloop.serving.package import write_package

    def write(folder: Path, gain: float) -> str:
        graph = helper.make_graph(
            [
                helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
                helper.make_node("Flatten", ["pooled"], ["flat"]),
                helper.make_node("Mul", ["flat", "gain"], ["embedding"]),
            ],
            "mean colour",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 16, 16])],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 3])],
            [numpy_helper.from_array(np.float32(gain).reshape(1), "gain")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        path = tmp_path / "backbone.onnx"
        onnx.save(model, path)
        manifest = Manifest(
            name="backbone",
            vision_task="embedding",
            input=ImageInput(width=16, height=16),
            outputs=ModelOutputs(answer="embedding", kind="embedding"),
        )
        return write_package(folder, model=path, manifest=manifest, signing_key=key_pair[0])

    return write


@pytest.fixture
def write_detector(key_pair, tmp_path):
    """Write a signed detector package that always answers the same boxes.

    ``write_detector(folder, boxes, classes, fingerprint)``; boxes are (centre x, centre y,
    width, height, class id, confidence) in pixels of 64 x 64.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from visionloop.serving.manifest import ImageInput, Lineage, Manifest, ModelOutputs
    from visionloop.serving.package import write_package

    def write(folder: Path, boxes, classes, fingerprint: str) -> str:
        answer = np.zeros((1, 4 + len(classes), len(boxes)), np.float32)
        for number, (*place, class_id, confidence) in enumerate(boxes):
            answer[0, :4, number] = place
            answer[0, 4 + class_id, number] = confidence
        graph = helper.make_graph(
            [
                helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0),
                helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
                helper.make_node("Add", ["constant", "nothing"], ["answer"]),
            ],
            "constant boxes",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 64, 64])],
            [helper.make_tensor_value_info("answer", TensorProto.FLOAT, list(answer.shape))],
            [
                numpy_helper.from_array(answer, "constant"),
                numpy_helper.from_array(np.zeros(1, np.float32), "zero"),
                numpy_helper.from_array(np.array([0, 1, 2, 3], np.int64), "axes"),
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        path = tmp_path / "detector.onnx"
        onnx.save(model, path)
        manifest = Manifest(
            name="detector",
            vision_task="detection",
            classes=list(classes),
            input=ImageInput(width=64, height=64),
            outputs=ModelOutputs(answer="answer", kind="yolo"),
            lineage=Lineage(dataset_fingerprint=fingerprint),
        )
        return write_package(folder, model=path, manifest=manifest, signing_key=key_pair[0])

    return write
