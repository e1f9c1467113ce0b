"""The project in which ``gate.py`` judges planted models: samples of three sites, packages."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pandas
import yaml
from onnx import TensorProto, helper, numpy_helper

from visionloop.core.entities import Annotation
from visionloop.core.files import write_json
from visionloop.core.workspace import Workspace
from visionloop.data.versions.version import load_version, save_version
from visionloop.serving.manifest import ImageInput, Lineage, Manifest, ModelOutputs
from visionloop.serving.package import write_package
from visionloop.serving.signing import signing_key

__all__ = ["SITES", "make_package", "make_workspace"]

ROOT = Path(__file__).parents[1]
CLASSES = ("functional", "defective")
SITES = ("harbour", "hill", "valley")
SAMPLES = 600
SIDE = 8


def make_workspace(root: Path) -> Workspace:
    """A project with 600 test samples; pictures are not needed, answers are made."""
    workspace = Workspace(root)
    root.mkdir(parents=True)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["project"] |= {"model": "planted", "classes": list(CLASSES)}
    params["data"] |= {"version": "v1"}
    params["evaluation"]["intervals"] |= {"draws": 400}
    params["evaluation"]["evaluate"] |= {"slice_columns": ["site"]}
    params["evaluation"]["robustness"] |= {
        "conditions": ["darkness", "fog", "noise", "blur"],
        "severities": [3],
    }
    workspace.params.write_text(yaml.safe_dump(params))
    targets = yaml.safe_load((ROOT / "targets.yaml").read_text())
    targets["quality"] = {
        "metric": "balanced_accuracy",
        "minimum": 0.85,
        "per_class": {"defective": 0.8},
        "slices": [{"column": "site", "value": site, "minimum": 0.82} for site in SITES],
        "max_loss_against_champion": 0.03,
        "max_calibration_error": 0.08,
    }
    targets["worst_case"] = {"severity": 3, "minimum_mean": 0.75, "minimum_worst": 0.7}
    targets["latency"] = {"per_frame_ms": 100, "cameras_per_device": 4, "frames_per_second": 2}
    workspace.targets.write_text(yaml.safe_dump(targets))
    _save_samples(workspace)
    write_json(workspace.reports / "check" / "check.json", {"verdict": "passed", "breaches": []})
    return workspace


def make_package(workspace: Workspace, number: int) -> str:
    """A signed package that no other number shares; its SHA-256."""
    version = load_version(workspace.version("v1"), workspace.images)
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "axis"], ["column"]),
        helper.make_node("MatMul", ["column", "weight"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    constants = {"weight": np.array([[-1.0, 1.0 + number]], np.float32), "axis": np.array([1])}
    graph = helper.make_graph(
        nodes,
        "planted",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = workspace.root / "model.onnx"
    onnx.save(model, path)
    manifest = Manifest(
        name="planted",
        vision_task="classification",
        family="made answers",
        classes=list(CLASSES),
        input=ImageInput(width=SIDE, height=SIDE),
        outputs=ModelOutputs(answer="probabilities", kind="probabilities"),
        lineage=Lineage(dataset_fingerprint=version.fingerprint),
        train_mix={"site": dict.fromkeys(SITES, 500)},
    )
    key = signing_key()
    return write_package(workspace.package, model=path, manifest=manifest, signing_key=key)


def _save_samples(workspace: Workspace) -> None:
    rows, annotations = [], []
    for number in range(SAMPLES + 6):
        split = "test" if number < SAMPLES else "train"
        sample_id = hashlib.sha256(f"planted {number}".encode()).hexdigest()
        rows.append(
            {
                "sample_id": sample_id,
                "file_name": f"{sample_id}.png",
                "width": SIDE,
                "height": SIDE,
                "camera": "camera-1",
                "site": SITES[number % len(SITES)],
                "captured_at": "2026-03-01T06:00:00Z",
                **dict.fromkeys(("luminance", "contrast", "blur", "noise"), 0.5),
                "group": f"{split}-{number}",
                "split": split,
            }
        )
        annotations.append(Annotation(sample_id, CLASSES[number // len(SITES) % 2]))
    save_version(
        workspace.version("v1"),
        vision_task="classification",
        classes=CLASSES,
        samples=pandas.DataFrame(rows),
        annotations=annotations,
    )
