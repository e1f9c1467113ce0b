"""A tiny dataset version, tiny ONNX packages, and a workspace that holds them."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pandas
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from visionloop.core.entities import Annotation
from visionloop.core.files import write_json
from visionloop.core.image_statistics import measure_image
from visionloop.core.workspace import Workspace
from visionloop.data.versions.version import save_version
from visionloop.serving.manifest import ImageInput, Lineage, Manifest, ModelOutputs
from visionloop.serving.package import write_package

PARAMS = Path(__file__).parents[2] / "params.yaml"
SIDE = 16
BOARD_SIDE = 64
CLASSES = ("functional", "defective")
BOX_CLASSES = ("open", "short")

TrainMix = dict[str, dict[str, int]]


def targets_for(vision_task: str) -> dict[str, Any]:
    """Targets that a good model of this suite passes with room."""
    is_detection = vision_task == "detection"
    quality: dict[str, Any] = {"metric": "balanced_accuracy", "minimum": 0.7}
    quality |= {"per_class": {"defective": 0.6}}
    quality["slices"] = [
        {"column": "cell_type", "value": "mono", "minimum": 0.7},
        {
            "column": "cell_type",
            "value": "poly",
            "minimum": 0.65,
            "applies_after_train_samples": 100,
        },
    ]
    if is_detection:
        quality = {"metric": "map50", "minimum": 0.5, "per_class": {"open": 0.5}}
    return {
        "vision_task": vision_task,
        "quality": quality,
        "worst_case": {"severity": 2, "minimum_mean": 0.4, "minimum_worst": 0.3},
        "parity": {},
        "latency": {"per_frame_ms": 500, "cameras_per_device": 1, "frames_per_second": 1},
        "deployment": {
            "connectivity": "unreliable",
            "privacy": "images_stay_on_site",
            "uptime_percent": 99.0,
            "sites": 1,
        },
        "cost": {"per_1000_inferences": 1.0, "device_price": 100},
        "monitoring": {},
    }


def params_for(vision_task: str) -> dict[str, Any]:
    classes = CLASSES if vision_task == "classification" else BOX_CLASSES
    columns = ["cell_type", "luminance"] if vision_task == "classification" else ["camera"]
    return {
        "project": {
            "recipe": "test",
            "model": "test-cells",
            "vision_task": vision_task,
            "classes": list(classes),
        },
        "data": yaml.safe_load(PARAMS.read_text())["data"] | {"version": "v1"},
        "training": {"family": "mean brightness"},
        "evaluation": {
            "intervals": {"draws": 300},
            "evaluate": {"slice_columns": columns, "worst_images": 6},
            "robustness": {
                "conditions": ["noise", "occlusion"],
                "severities": [2],
                "max_samples": 60,
            },
        },
    }


@dataclass(frozen=True)
class Ring:
    """A workspace and what made it."""

    workspace: Workspace
    private_key: Path
    public_key: Path
    fingerprint: str

    def edit(self, name: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Change ``params.yaml`` or ``targets.yaml``."""
        path = self.workspace.root / name
        content = yaml.safe_load(path.read_text())
        change(content)
        path.write_text(yaml.safe_dump(content))

    def ship(
        self, kind: str = "good", *, train_mix: dict[str, dict[str, int]] | None = None
    ) -> str:
        """Write the package of a kind ("good", "constant", "inverted") and its parity report."""
        mix = {"cell_type": {"mono": 500}} if train_mix is None else train_mix
        task = yaml.safe_load(self.workspace.params.read_text())["project"]["vision_task"]
        make = classifier_package if task == "classification" else detector_package
        sha256 = make(
            self.workspace.package,
            kind,
            key=self.private_key,
            fingerprint=self.fingerprint,
            train_mix=mix,
        )
        self.write_parity(sha256)
        return sha256

    def write_parity(self, package: str, **changes: Any) -> None:
        """Write what the export says of parity, with changes."""
        content = {
            "samples": 16,
            "max_difference": 1e-6,
            "minimum_iou": 1.0,
            "agreement": 1.0,
            "boxes": 0,
            "problems": [],
            "passed": True,
            "package": package,
        }
        write_json(self.workspace.reports / "export" / "parity.json", content | changes)


def classifier_package(
    folder: Path,
    kind: str,
    *,
    key: Path,
    fingerprint: str = "",
    train_mix: TrainMix | None = None,
) -> str:
    """Mean brightness → softmax; "defective" is the bright class."""
    slope = {"good": 20.0, "steeper": 24.0, "constant": 0.0, "inverted": -20.0}[kind]
    weight = np.array([[-slope, slope]], np.float32)
    bias = np.array([slope / 2 + 2 * (kind == "constant"), -slope / 2], np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "axis"], ["column"]),
        helper.make_node("MatMul", ["column", "weight"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    constants = {"weight": weight, "bias": bias, "axis": np.array([1])}
    model = _save_model(folder, nodes, constants, SIDE, "probabilities", ["batch", 2], "batch")
    manifest = Manifest(
        name="test-cells",
        vision_task="classification",
        family="mean brightness",
        classes=list(CLASSES),
        input=ImageInput(width=SIDE, height=SIDE),
        outputs=ModelOutputs(answer="probabilities", kind="probabilities"),
        lineage=Lineage(dataset_fingerprint=fingerprint),
        train_mix=train_mix or {},
        licence="Apache-2.0",
    )
    return _write(folder, model, manifest, key)


def detector_package(
    folder: Path,
    kind: str,
    *,
    key: Path,
    fingerprint: str = "",
    train_mix: TrainMix | None = None,
) -> str:
    """Two fixed boxes, one a class; "constant" puts them where nothing is."""
    shift = 40.0 if kind == "constant" else 0.0
    rows = np.zeros((1, 6, 2), np.float32)
    rows[0, :4, 0] = (16, 16 + shift, 20, 20)
    rows[0, :4, 1] = (48 - shift, 48, 20, 20)
    rows[0, 4, 0], rows[0, 5, 1] = 0.9, 0.8
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["rows", "nothing"], ["answer"]),
    ]
    constants = {"zero": np.zeros(1, np.float32), "rows": rows}
    model = _save_model(folder, nodes, constants, BOARD_SIDE, "answer", [1, 6, 2], 1)
    manifest = Manifest(
        name="test-boards",
        vision_task="detection",
        family="fixed boxes",
        classes=list(BOX_CLASSES),
        input=ImageInput(width=BOARD_SIDE, height=BOARD_SIDE),
        outputs=ModelOutputs(answer="answer", kind="yolo"),
        thresholds={"open": 0.5, "short": 0.5},
        lineage=Lineage(dataset_fingerprint=fingerprint),
        train_mix=train_mix or {},
    )
    return _write(folder, model, manifest, key)


def _save_model(
    folder: Path,
    nodes: list[Any],
    constants: dict[str, Any],
    side: int,
    output: str,
    shape: list[Any],
    batch: Any,
) -> Path:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, side, side])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = folder.parent / f"{folder.name}.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def _write(folder: Path, model: Path, manifest: Manifest, key: Path) -> str:
    sha256 = write_package(folder, model=model, manifest=manifest, signing_key=key)
    model.unlink()
    return sha256


def save_sample(images: Path, image: np.ndarray, **columns: Any) -> dict[str, Any]:
    """Write an image by content hash and return its row of the samples table."""
    content = cv2.imencode(".png", image)[1].tobytes()
    sample_id = hashlib.sha256(content).hexdigest()
    images.mkdir(parents=True, exist_ok=True)
    (images / f"{sample_id}.png").write_bytes(content)
    return {
        "sample_id": sample_id,
        "file_name": f"{sample_id}.png",
        "width": image.shape[1],
        "height": image.shape[0],
        "camera": "camera-1",
        "site": "site-1",
        "captured_at": "2026-03-01T06:00:00Z",
        **measure_image(image).as_row(),
        **columns,
    }


def save_cells(folder: Path, images: Path, *, counts: dict[tuple[str, str], int]) -> str:
    """Cells whose brightness tells the class, with noise; counts by (split, cell_type)."""
    generator = np.random.default_rng(0)
    rows, annotations = [], []
    for (split, cell_type), count in counts.items():
        for number in range(count):
            class_id = number % 2
            level = 127 + (40 if class_id else -40) + 22 * generator.standard_normal()
            image = generator.normal(np.clip(level, 5, 250), 6, (SIDE, SIDE, 3))
            image = image.clip(0, 255).astype(np.uint8)
            group = f"{split}-{cell_type}-{number // 2}"
            rows.append(save_sample(images, image, group=group, split=split, cell_type=cell_type))
            annotations.append(Annotation(rows[-1]["sample_id"], CLASSES[class_id]))
    return save_version(
        folder,
        vision_task="classification",
        classes=CLASSES,
        samples=pandas.DataFrame(rows),
        annotations=annotations,
    )


def save_boards(folder: Path, images: Path, *, test: int = 40) -> str:
    """Boards with an "open" at one place and, on three of four, a "short" at another."""
    generator = np.random.default_rng(1)
    rows, annotations = [], []
    for number in range(test + 4):
        image = generator.integers(0, 255, (BOARD_SIDE, BOARD_SIDE, 3), np.uint8)
        split = "test" if number < test else "train"
        row = save_sample(images, image, group=f"board-{number}", split=split)
        rows.append(row)
        boxes = {"open": (6.0, 6.0, 26.0, 26.0)}
        if number % 4:
            boxes["short"] = (39.0, 37.0, 58.0, 58.0)
        annotations += [Annotation(row["sample_id"], name, box) for name, box in boxes.items()]
    return save_version(
        folder,
        vision_task="detection",
        classes=BOX_CLASSES,
        samples=pandas.DataFrame(rows),
        annotations=annotations,
    )


def _make_ring(root: Path, vision_task: str, keys: tuple[Path, Path]) -> Ring:
    workspace = Workspace(root)
    root.mkdir(parents=True, exist_ok=True)
    workspace.params.write_text(yaml.safe_dump(params_for(vision_task)))
    workspace.targets.write_text(yaml.safe_dump(targets_for(vision_task)))
    if vision_task == "classification":
        counts = {
            ("train", "mono"): 10,
            ("val", "mono"): 4,
            ("test", "mono"): 100,
            ("test", "poly"): 60,
        }
        fingerprint = save_cells(workspace.version("v1"), workspace.images, counts=counts)
    else:
        fingerprint = save_boards(workspace.version("v1"), workspace.images)
    contract = {"verdict": "passed", "breaches": []}
    write_json(workspace.reports / "check" / "check.json", contract)
    return Ring(workspace, *keys, fingerprint)


@pytest.fixture(scope="session")
def made_cells(tmp_path_factory, key_pair) -> Ring:
    """A dataset version of cells and a good package; copied by ``cells``."""
    ring = _make_ring(tmp_path_factory.mktemp("cells") / "project", "classification", key_pair)
    ring.ship()
    return ring


@pytest.fixture(scope="session")
def made_measured(made_cells, tmp_path_factory) -> Ring:
    """The same after ``evaluate`` and ``robustness``, only to be read; copied by ``measured``."""
    from visionloop.evaluation.evaluate import evaluate
    from visionloop.evaluation.robustness import robustness

    root = tmp_path_factory.mktemp("measured") / "project"
    shutil.copytree(made_cells.workspace.root, root)
    ring = dataclasses.replace(made_cells, workspace=Workspace(root))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISIONLOOP_SIGNING_KEY", str(ring.private_key))
        patch.setenv("VISIONLOOP_TRUSTED_KEYS", str(ring.public_key))
        evaluate(workspace=ring.workspace)
        robustness(workspace=ring.workspace)
    return ring


@pytest.fixture
def cells(made_cells, tmp_path, signed, monkeypatch) -> Ring:
    """A workspace with a dataset version of cells and a good package, of its own."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tmp_path / "project"
    shutil.copytree(made_cells.workspace.root, root)
    return dataclasses.replace(made_cells, workspace=Workspace(root))


@pytest.fixture
def boards(tmp_path, signed, monkeypatch) -> Ring:
    """The same for boxes."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    ring = _make_ring(tmp_path / "boards", "detection", signed)
    ring.ship()
    return ring


@pytest.fixture
def measured(made_measured, tmp_path, signed, monkeypatch) -> Ring:
    """``cells`` after ``evaluate`` and ``robustness``."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tmp_path / "project"
    shutil.copytree(made_measured.workspace.root, root)
    return dataclasses.replace(made_measured, workspace=Workspace(root))


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory) -> Path:
    """A fresh MLflow database: making one takes seconds, so tests copy it."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_registered_models()
    return path


@pytest.fixture
def registered(measured, empty_registry) -> Ring:
    """``measured`` with an empty MLflow registry."""
    shutil.copy(empty_registry, measured.workspace.root / "mlflow.db")
    return measured
