"""Tiny ONNX models and packages, made on the spot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from visionloop.core.workspace import Workspace
from visionloop.serving.manifest import ImageInput, Manifest, ModelOutputs
from visionloop.serving.package import write_package

SIZE = 32


def make_classifier(path: Path, gain: float = 6.0, batch: int | str = "batch") -> Path:
    """Bright pictures are 'bright': probabilities (B, 2) and an embedding (B, 3)."""
    weights = np.array([[-gain, gain], [-gain, gain], [-gain, gain]], np.float32)
    bias = np.array([1.5 * gain, -1.5 * gain], np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
        helper.make_node("Gemm", ["embedding", "weights", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    return _save(
        path,
        nodes,
        [("image", [batch, 3, SIZE, SIZE])],
        [("probabilities", [batch, 2]), ("embedding", [batch, 3])],
        {"weights": weights, "bias": bias},
    )


def make_detector(path: Path) -> Path:
    """Three fixed boxes whose confidence is the picture's brightness; the second overlaps
    the first and is less confident, the third is of class 1."""
    boxes = np.array([[16, 16, 8, 8], [16.5, 16, 8, 8], [24, 8, 4, 6]], np.float32).T[None]
    scores = np.array([[0.9, 0.8, 0.0], [0.0, 0.0, 0.7]], np.float32)[None]
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=1),
        helper.make_node("Squeeze", ["mean", "last"], ["brightness"]),
        helper.make_node("Mul", ["scores", "brightness"], ["confidence"]),
        helper.make_node("Concat", ["boxes", "confidence"], ["answer"], axis=1),
    ]
    constants = {
        "axes": np.array([1, 2, 3], np.int64),
        "last": np.array([3], np.int64),
        "boxes": boxes,
        "scores": scores,
    }
    return _save(path, nodes, [("image", [1, 3, SIZE, SIZE])], [("answer", [1, 6, 3])], constants)


def _save(path, nodes, inputs, outputs, constants) -> Path:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def classifier_manifest(name: str = "tiny") -> Manifest:
    return Manifest(
        name=name,
        vision_task="classification",
        classes=["dark", "bright"],
        input=ImageInput(width=SIZE, height=SIZE),
        outputs=ModelOutputs(answer="probabilities", embedding="embedding", kind="probabilities"),
    )


def detector_manifest() -> Manifest:
    return Manifest(
        name="tiny-boxes",
        vision_task="detection",
        classes=["open", "short"],
        input=ImageInput(width=SIZE, height=SIZE, resize="letterbox"),
        outputs=ModelOutputs(answer="answer", kind="yolo"),
        thresholds={"short": 0.3},
        max_iou=0.5,
    )


@dataclass
class Tiny:
    """Builds packages below a folder, signed with the throw-away key."""

    folder: Path
    private: Path

    def classifier(self, name: str = "classifier", *, gain: float = 6.0) -> Path:
        model = make_classifier(self.folder / f"{name}.onnx", gain)
        target = self.folder / name
        write_package(target, model=model, manifest=classifier_manifest(), signing_key=self.private)
        return target

    def detector(self, name: str = "detector") -> Path:
        model = make_detector(self.folder / f"{name}.onnx")
        target = self.folder / name
        write_package(target, model=model, manifest=detector_manifest(), signing_key=self.private)
        return target


@pytest.fixture(scope="session")
def kit() -> SimpleNamespace:
    """The builders of this file, for tests that need the parts."""
    return SimpleNamespace(
        SIZE=SIZE,
        classifier_manifest=classifier_manifest,
        detector_manifest=detector_manifest,
        grey_image=grey_image,
        make_classifier=make_classifier,
        make_detector=make_detector,
    )


@pytest.fixture
def tiny(tmp_path, signed) -> Tiny:
    return Tiny(tmp_path, signed[0])


def grey_image(level: int, size: tuple[int, int] = (40, 60), seed: int = 0) -> np.ndarray:
    """A noisy picture (height, width) of a mean grey level."""
    noise = np.random.default_rng(seed).integers(-8, 8, (*size, 3))
    return np.clip(level + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def make_line(tmp_path):
    """Writes a folder of PNG files of given grey levels."""

    def make(levels, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for number, level in enumerate(levels):
            picture = grey_image(level, seed=number)
            cv2.imwrite(str(folder / f"{number:04d}.png"), picture)
        return folder

    return make


PARAMS = """\
project:
  recipe: tiny
  model: tiny
  vision_task: {task}
  classes: {classes}
  seed: 0
serving:
  build: {{parity_images: 4, latency_calls: 3, search_budget: 1.0}}
  edge:
    keep_share: {keep_share}
    sources: {sources}
    rules: {rules}
"""


@pytest.fixture
def make_workspace(tmp_path):
    """Writes a workspace whose edge agent has the given sources and rules."""

    def make(sources, rules, *, task="classification", keep_share=1.0) -> Workspace:
        root = tmp_path / "workspace"
        root.mkdir(exist_ok=True)
        classes = "[dark, bright]" if task == "classification" else "[open, short]"
        text = PARAMS.format(
            task=task, classes=classes, sources=sources, rules=rules, keep_share=keep_share
        )
        (root / "params.yaml").write_text(text)
        return Workspace(root)

    return make


@pytest.fixture
def gate_report(tmp_path, signed) -> Path:
    """A signed folder in the place of a gate report."""
    from visionloop.serving.signing import sign_folder

    folder = tmp_path / "gate"
    folder.mkdir()
    (folder / "gate.json").write_text('{"verdict": "passed"}')
    sign_folder(folder, key=signed[0], signature_name="gate.sig")
    return folder
