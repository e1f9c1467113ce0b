"""Families of every vision task through all callers: DVC, MLflow Projects, Kubeflow.

Each trains on a folder of generated pictures of one's own (``data.import.sources``); what the
callers make must be the same model.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from visionloop.core.files import read_json, sha256_of_file
from visionloop.core.workspace import Workspace
from visionloop.pipelines.demo.run import tool_environment
from visionloop.pipelines.init import init
from visionloop.pipelines.kubeflow import run_local

pytestmark = pytest.mark.slow

SIDE = 96
SMALL = {"mode": "full", "image_size": SIDE, "epochs": 1, "image_passes": 0, "batch_size": 4,
         "allow_scratch": True}  # fmt: skip
FAMILIES = {
    "efficientnet": ("solar", {"weights": "efficientnet-lite0"}),
    "convnext": ("solar", {"weights": "convnext-atto"}),
    "vit": ("solar", {"weights": "vit-tiny"}),
    "yolo": ("pcb", {"weights": "yolov8n"}),
    "rtdetr": ("pcb", {"weights": "rtdetr-v2-nano"}),
    "gaussian": ("tiles", {"weights": "efficientnet-lite0"}),
    "patch": ("tiles", {"weights": "efficientnet-lite0", "anomaly": {"memory": 60}}),
    "flaws": ("tiles", {"weights": "efficientnet-lite0"}),
    "autoencoder": ("tiles", {"weights": "none"}),
    "clip": ("tiles", {"weights": "clip-vit-b-32", "image_size": 64,
                       "anomaly": {"memory": 60, "layers": [0, 1]}}),
    "ensemble": ("tiles", {"weights": "efficientnet-lite0",
                           "anomaly": {"memory": 60, "members": ["autoencoder", "patch"]}}),
}  # fmt: skip
CLASSES = {"solar": ["functional", "defective"], "pcb": ["bar", "dot"],
           "tiles": ["normal", "defective"]}  # fmt: skip


def draw_folder(folder: Path, recipe: str) -> None:
    """48 pictures with a dark bar or none: YOLO text for boxes, else a folder a class."""
    rng = np.random.default_rng(4)
    for number in range(48):
        image = rng.normal(150, 9, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)
        bad = number % 3 == 0
        x, y = (int(one) for one in rng.integers(8, SIDE - 40, 2))
        if bad or recipe == "pcb":
            image[y : y + 10, x : x + 30] //= 4
        if recipe == "pcb":
            place = folder / "images" / f"{number:03}.png"
            text = folder / "labels" / f"{number:03}.txt"
            text.parent.mkdir(parents=True, exist_ok=True)
            centre = f"{(x + 15) / SIDE:.5f} {(y + 5) / SIDE:.5f} {30 / SIDE:.5f} {10 / SIDE:.5f}"
            text.write_text(f"{number % 2} {centre}\n")
        else:
            place = folder / CLASSES[recipe][int(bad)] / f"{number:03}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place), image)
    if recipe == "pcb":
        (folder / "data.yaml").write_text("names: [bar, dot]\n")


@pytest.fixture
def project(tmp_path, request, key_pair, monkeypatch) -> Workspace:
    """A project of one family on its own pictures."""
    monkeypatch.setenv("VISIONLOOP_SIGNING_KEY", str(key_pair[0]))
    monkeypatch.setenv("VISIONLOOP_TRUSTED_KEYS", str(key_pair[1]))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("VISIONLOOP_WEIGHTS", raising=False)
    family = request.param
    recipe, training = FAMILIES[family]
    draw_folder(tmp_path / "pictures", recipe)
    workspace = init(folder=tmp_path / "project", recipe=recipe)
    content = yaml.safe_load(workspace.params.read_text())
    content["project"]["classes"] = CLASSES[recipe]
    content["data"]["import"] |= {"sources": [{"path": str(tmp_path / "pictures")}]}
    content["data"]["split"] |= {"test_fraction": 0.25, "same_view": {"enabled": False}}
    anomaly = content["training"]["anomaly"] | training.get("anomaly", {})
    content["training"] |= {**SMALL, "family": family, **training, "anomaly": anomaly}
    # One epoch from random weights gives boxes of equal confidence: none is compared here.
    content["training"]["export"] |= {"min_confidence": 0.9, "parity_samples": 3}
    content["evaluation"]["evaluate"]["slice_columns"] = []
    workspace.params.write_text(yaml.safe_dump(content, sort_keys=False))
    targets = yaml.safe_load(workspace.targets.read_text())
    targets["quality"] = {"metric": targets["quality"]["metric"], "minimum": 0.01}
    targets["parity"] |= {"minimum_iou": 0.9, "max_difference": 0.05}
    workspace.targets.write_text(yaml.safe_dump(targets, sort_keys=False))
    return workspace


def call(workspace: Workspace, *command: str) -> None:
    environment = tool_environment() | {"MLFLOW_TRACKING_URI": workspace.tracking_uri}
    done = subprocess.run(
        command, cwd=workspace.root, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.parametrize("project", FAMILIES, indirect=True)
def test_every_caller_makes_the_same_model(project) -> None:
    call(project, sys.executable, "-m", "dvc", "repro", "evaluate")
    model = project.package / "model.onnx"
    by_dvc = sha256_of_file(model)
    assert read_json(project.reports / "evaluation" / "metrics.json")
    for entry in ("train", "export"):
        call(project, "mlflow", "run", ".", "-e", entry, "--env-manager", "local")
    assert sha256_of_file(model) == by_dvc
    outputs = run_local("train_and_export", workspace=project)
    assert outputs["onnx_sha256"] == by_dvc
    assert outputs["verdict"] in ("passed", "refused")
