"""Small windows and a small edge database, made from seeds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas
import pytest

from visionloop.core.entities import ClassProbabilities, Detections, Frame, Prediction
from visionloop.core.files import sha256_of_bytes
from visionloop.core.image_statistics import measure_image
from visionloop.core.workspace import Workspace
from visionloop.monitoring.windows import WINDOW, Window
from visionloop.serving.edge.record.records import add_frame
from visionloop.serving.edge.record.store import open_store

PACKAGE = "a" * 64

PARAMS = """
project:
  recipe: test
  model: cells
  vision_task: {task}
  classes: [functional, defective]
  seed: 0
monitoring:
  windows:
    - {{name: reference, where: {{cell_type: mono}}}}
    - {{name: current, where: {{cell_type: poly}}}}
  drift: {{null_draws: 3, pictures: 3, evidently: false}}
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A project folder with parameters and targets, classification."""
    return _make_workspace(tmp_path, "classification")


@pytest.fixture
def boards(tmp_path: Path) -> Workspace:
    """The same for detection."""
    return _make_workspace(tmp_path, "detection")


def _make_workspace(root: Path, task: str) -> Workspace:
    (root / "params.yaml").write_text(PARAMS.format(task=task))
    shutil.copy(Path(__file__).parents[2] / "targets.yaml", root / "targets.yaml")
    return Workspace(root)


@pytest.fixture
def make_window() -> Callable[..., Window]:
    """A classification window of ``n`` independent frames, moved by ``shift`` deviations."""
    return _make_window


def _make_window(
    name: str, n: int, *, seed: int, shift: float = 0.0, package: str = PACKAGE, dimension: int = 24
) -> Window:
    rng = np.random.default_rng(seed)
    probability = 1 / (1 + np.exp(-rng.normal(shift, 1, n)))
    frames = pandas.DataFrame(
        {
            "sample_id": [f"{seed:04d}{number:060d}" for number in range(n)],
            "camera": "north",
            "site": "plant",
            "captured_at": [
                f"2026-03-01T{number // 60 % 24:02d}:{number % 60:02d}:00Z" for number in range(n)
            ],
            "sequence": np.arange(n),
            "package": package,
            "confidence": np.maximum(probability, 1 - probability),
            "predicted_class": np.where(probability > 0.5, "defective", "functional"),
            "boxes": -1,
            "embedding": list(rng.normal(3 + shift, 1, (n, dimension)).astype(np.float32)),
            "embedding_package": package,
            "image": "",
            "probability_functional": 1 - probability,
            "probability_defective": probability,
            **{
                column: rng.normal(100 + 10 * shift, 10, n)
                for column in ("luminance", "contrast", "blur", "noise")
            },
        }
    )
    assert set(WINDOW.columns) <= set(frames.columns)
    return Window(name, frames)


@pytest.fixture
def play() -> Callable[..., None]:
    """Write frames into the edge's database as the agent does, pictures kept."""
    return _play


def _play(
    workspace: Workspace,
    cell_type: str,
    count: int,
    *,
    seed: int,
    first: int = 0,
    package: str = PACKAGE,
    embed: bool = True,
) -> None:
    """``poly`` pictures are darker than ``mono`` ones and coarser."""
    rng = np.random.default_rng(seed)
    is_classification = "vision_task: classification" in workspace.params.read_text()
    folder = workspace.edge / "frames"
    folder.mkdir(parents=True, exist_ok=True)
    connection = open_store(workspace.edge / "outbox.db")
    for number in range(first, first + count):
        picture = _draw(cell_type, rng)
        encoded = cv2.imencode(".png", picture)[1].tobytes()
        sample_id = sha256_of_bytes(encoded)
        (folder / f"{sample_id}.png").write_bytes(encoded)
        moment = f"2026-03-01T06:{number // 60:02d}:{number % 60:02d}Z"
        frame = Frame(picture, "north", "plant", number, moment, 0.0, {"cell_type": cell_type})
        with connection:
            add_frame(
                connection,
                frame,
                Prediction(
                    _answer(is_classification, cell_type, rng),
                    picture.mean(axis=2).reshape(-1)[:32].astype(np.float32) if embed else None,
                ),
                source=cell_type,
                sample_id=sample_id,
                package=package,
                statistics=measure_image(picture).as_row(),
                image=f"frames/{sample_id}.png",
            )
    connection.close()


def _draw(cell_type: str, rng: np.random.Generator) -> np.ndarray:
    level = 150 if cell_type == "mono" else 110
    grey = rng.normal(level + rng.normal(0, 8), 10 if cell_type == "mono" else 20, (32, 32))
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def _answer(
    is_classification: bool, cell_type: str, rng: np.random.Generator
) -> ClassProbabilities | Detections:
    if is_classification:
        defective = float(rng.beta(2, 6) if cell_type == "mono" else rng.beta(6, 2))
        return ClassProbabilities(np.array([1 - defective, defective], np.float32))
    count = int(rng.poisson(1 if cell_type == "mono" else 4))
    xyxy = np.tile(np.array([2, 2, 9, 9], np.float32), (count, 1))
    confidence = rng.beta(8, 2, count).astype(np.float32)
    return Detections(xyxy, rng.integers(0, 2, count), confidence)


@pytest.fixture
def make_backbone(signed) -> Callable[[Workspace], str]:
    """Write a small signed backbone package: four averages of the picture's quarters."""

    def make(workspace: Workspace) -> str:
        import onnx
        from onnx import TensorProto, helper

        from visionloop.serving.manifest import ImageInput, Manifest, ModelOutputs
        from visionloop.serving.package import write_package

        nodes = [
            helper.make_node(
                "AveragePool", ["image"], ["pooled"], kernel_shape=[16, 16], strides=[16, 16]
            ),
            helper.make_node("ReduceMean", ["pooled"], ["grey"], axes=[1], keepdims=0),
            helper.make_node("Flatten", ["grey"], ["embedding"]),
        ]
        graph = helper.make_graph(
            nodes,
            "backbone",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 32, 32])],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 4])],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
        path = workspace.root / "backbone.onnx"
        onnx.save(model, str(path))
        manifest = Manifest(
            name="backbone",
            vision_task="embedding",
            family="test",
            classes=[],
            input=ImageInput(width=32, height=32),
            outputs=ModelOutputs(answer="embedding", kind="embedding"),
        )
        return write_package(
            workspace.backbone, model=path, manifest=manifest, signing_key=signed[0]
        )

    return make
