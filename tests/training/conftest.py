"""Small projects for the training stage: generated images, real weights, real MLflow."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas
import pytest
import yaml

from visionloop.core import failpoints
from visionloop.core.entities import Annotation
from visionloop.core.workspace import Workspace
from visionloop.data.embeddings import Embeddings, save_embeddings
from visionloop.data.versions.version import save_version

# pytest would catch torch's trace of an export, a hundred thousand records.
logging.getLogger("torch.__trace").addFilter(lambda record: False)

ROOT = Path(__file__).parents[2]
SIDE = 64
SHARED_WEIGHTS = os.environ.get("VISIONLOOP_WEIGHTS", "")
BOX_CLASSES = ["bar", "dot"]


@pytest.fixture(scope="session")
def tracking_database(tmp_path_factory) -> str:
    """One MLflow database for all tests: making one takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture(autouse=True)
def quiet(monkeypatch, tracking_database, signed):
    """Own tracking database, no run to join, no failpoint, weights only from the package."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_database)
    for name in ("MLFLOW_RUN_ID", "VISIONLOOP_FAILPOINT", "VISIONLOOP_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    failpoints._passages.clear()


@pytest.fixture
def fail_at(monkeypatch):
    """Set a failpoint for this process: ``fail_at("training.epoch:interrupt:1")``."""

    def set_it(value: str) -> None:
        failpoints._passages.clear()
        if value:
            monkeypatch.setenv("VISIONLOOP_FAILPOINT", value)
        else:
            monkeypatch.delenv("VISIONLOOP_FAILPOINT")

    return set_it


def _run_train(workspace: Workspace, **environment: str) -> subprocess.CompletedProcess[str]:
    """``python -m visionloop.training train`` in a process of its own."""
    command = [sys.executable, "-m", "visionloop.training", "train", "-w", str(workspace.root)]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300
    )


def _write_params(workspace: Workspace, project: dict[str, Any], training: dict[str, Any]) -> None:
    """``params.yaml`` and ``targets.yaml``: those of the repository with these numbers changed."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["project"] |= project
    content["training"] |= training
    workspace.params.parent.mkdir(parents=True, exist_ok=True)
    workspace.params.write_text(yaml.safe_dump(content, sort_keys=False))
    targets = yaml.safe_load((ROOT / "targets.yaml").read_text())
    targets["vision_task"] = content["project"]["vision_task"]
    metric = {"detection": "map50", "scene": "macro_f1", "anomaly": "auroc"}
    if targets["vision_task"] in metric:
        targets["quality"] = {"metric": metric[targets["vision_task"]], "minimum": 0.1}
    workspace.targets.write_text(yaml.safe_dump(targets, sort_keys=False))


def _set_training(workspace: Workspace, **changes: Any) -> None:
    """Change numbers of the training block."""
    content = yaml.safe_load(workspace.params.read_text())
    content["training"] |= changes
    workspace.params.write_text(yaml.safe_dump(content, sort_keys=False))


@pytest.fixture
def run_train() -> Callable[..., subprocess.CompletedProcess[str]]:
    """``run_train(workspace, NAME=value)``: train in a process of its own."""
    return _run_train


@pytest.fixture
def write_params() -> Callable[..., None]:
    """``write_params(workspace, project, training)``: params and targets with these changes."""
    return _write_params


@pytest.fixture
def set_training() -> Callable[..., None]:
    """``set_training(workspace, epochs=1)``: change the training block."""
    return _set_training


@pytest.fixture
def shared_weights() -> Path:
    """The folder of weights named by VISIONLOOP_WEIGHTS."""
    if not SHARED_WEIGHTS or not Path(SHARED_WEIGHTS).is_dir():
        pytest.skip("VISIONLOOP_WEIGHTS names no folder of weights")
    return Path(SHARED_WEIGHTS)


def save_image(workspace: Workspace, image: np.ndarray) -> str:
    """Store a PNG by content and return its sample id."""
    content = cv2.imencode(".png", image)[1].tobytes()
    sample_id = hashlib.sha256(content).hexdigest()
    workspace.images.mkdir(parents=True, exist_ok=True)
    (workspace.images / f"{sample_id}.png").write_bytes(content)
    return sample_id


def sample_rows(ids: list[str], side: int) -> pandas.DataFrame:
    """A samples table: every fourth sample is val, the first two are test."""
    splits = ["test"] * 2 + ["val" if n % 4 == 0 else "train" for n in range(2, len(ids))]
    return pandas.DataFrame(
        {
            "sample_id": ids,
            "file_name": [f"{one}.png" for one in ids],
            "width": side,
            "height": side,
            "camera": "c1",
            "site": "s1",
            "captured_at": "2026-01-01T00:00:00Z",
            "luminance": 100.0,
            "contrast": 10.0,
            "blur": 10.0,
            "noise": 1.0,
            "cell_type": ["mono" if n % 2 else "poly" for n in range(len(ids))],
            "group": ids,
            "split": splits,
        }
    )


@pytest.fixture
def cells(tmp_path) -> Workspace:
    """40 grey images of 64 pixels; the defective ones hold a dark bar. Mode full, 2 epochs."""
    workspace = Workspace(tmp_path / "cells")
    rng = np.random.default_rng(7)
    annotations, ids = [], []
    for number in range(40):
        image = rng.normal(150, 8, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)
        if number % 3 == 0:
            place = int(rng.integers(5, SIDE - 15))
            image[:, place : place + 9] //= 4
        ids.append(save_image(workspace, image))
        class_name = "defective" if number % 3 == 0 else "functional"
        annotations.append(Annotation(ids[-1], class_name, annotator="expert"))
    save_version(
        workspace.version("v1"),
        vision_task="classification",
        classes=("functional", "defective"),
        samples=sample_rows(ids, SIDE),
        annotations=annotations,
    )
    training = {
        "mode": "full",
        "image_size": SIDE,
        "backbone": {"weights": "efficientnet-lite0", "image_size": SIDE},
        "epochs": 2,
        "batch_size": 8,
        "export": {"parity_samples": 4},
    }
    _write_params(workspace, {"model": "cells"}, training)
    return workspace


@pytest.fixture(scope="session")
def backbone_package(tmp_path_factory, key_pair) -> Path:
    """The folder of a backbone package for 64 pixels, exported once."""
    from visionloop.training.backbone import export_backbone

    workspace = Workspace(tmp_path_factory.mktemp("backbone"))
    backbone = {"weights": "efficientnet-lite0", "image_size": SIDE}
    _write_params(workspace, {}, {"backbone": backbone})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISIONLOOP_SIGNING_KEY", str(key_pair[0]))
        patch.setenv("VISIONLOOP_TRUSTED_KEYS", str(key_pair[1]))
        patch.delenv("VISIONLOOP_WEIGHTS", raising=False)
        export_backbone(workspace=workspace)
    return workspace.backbone


@pytest.fixture
def embedded_cells(cells, backbone_package) -> Workspace:
    """The cells with their backbone and embeddings, mode frozen."""
    from visionloop.data.versions.version import load_version
    from visionloop.serving.images import read_image
    from visionloop.serving.package import load_package
    from visionloop.serving.predictor import Predictor

    shutil.copytree(backbone_package, cells.backbone)
    package = load_package(cells.backbone)
    version = load_version(cells.version("v1"), cells.images)
    ids = version.samples["sample_id"].tolist()
    images = [read_image(version.image_path(one)) for one in ids]
    vectors = Predictor(package, threads=1).embed(images)
    save_embeddings(cells.embeddings, Embeddings(ids, vectors, package.sha256))
    _set_training(cells, mode="frozen", epochs=6)
    return cells


@pytest.fixture
def boards(tmp_path) -> Workspace:
    """24 images of 96 pixels with bars and dots in boxes; YOLO from scratch, 2 epochs."""
    workspace = Workspace(tmp_path / "boards")
    rng = np.random.default_rng(3)
    annotations, ids = [], []
    for _ in range(24):
        image = rng.integers(170, 200, (96, 96, 3)).astype(np.uint8)
        boxes = []
        for kind, width, height in (("bar", 40, 12), ("dot", 16, 16)):
            x, y = int(rng.integers(0, 96 - width)), int(rng.integers(0, 96 - height))
            image[y : y + height, x : x + width] = 20 if kind == "bar" else 90
            boxes.append((kind, (float(x), float(y), float(x + width), float(y + height))))
        ids.append(save_image(workspace, image))
        annotations += [Annotation(ids[-1], kind, xyxy) for kind, xyxy in boxes]
    save_version(
        workspace.version("v1"),
        vision_task="detection",
        classes=tuple(BOX_CLASSES),
        samples=sample_rows(ids, 96),
        annotations=annotations,
    )
    project = {"model": "boards", "vision_task": "detection", "classes": BOX_CLASSES}
    training = {
        "family": "yolo",
        "weights": "yolov8n",
        "allow_scratch": True,
        "mode": "full",
        "image_size": 96,
        "epochs": 2,
        "batch_size": 8,
        "export": {"min_confidence": 0.001, "parity_samples": 3},
    }
    _write_params(workspace, project, training)
    return workspace


@pytest.fixture
def scenes(tmp_path) -> Workspace:
    """32 images of 64 pixels that may be bright, hold a bar, and be noisy; ViT from scratch."""
    workspace = Workspace(tmp_path / "scenes")
    rng = np.random.default_rng(9)
    names = ["bright", "bar", "noisy"]
    annotations, ids = [], []
    for number in range(32):
        bright, bar, noisy = (bool(number >> place & 1) for place in range(3))
        level, spread = 190 if bright else 90, 30 if noisy else 4
        image = rng.normal(level, spread, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)
        if bar:
            image[:, 20:30] //= 3
        ids.append(save_image(workspace, image))
        has = [name for name, given in zip(names, (bright, bar, noisy), strict=True) if given]
        annotations += [Annotation(ids[-1], name) for name in has or [""]]
    save_version(
        workspace.version("v1"),
        vision_task="scene",
        classes=tuple(names),
        samples=sample_rows(ids, SIDE),
        annotations=annotations,
    )
    training = {
        "family": "vit",
        "weights": "vit-tiny",
        "allow_scratch": True,
        "mode": "full",
        "image_size": SIDE,
        "epochs": 1,
        "batch_size": 8,
        "export": {"parity_samples": 3},
    }
    project = {"model": "scenes", "vision_task": "scene", "classes": names}
    _write_params(workspace, project, training)
    return workspace


@pytest.fixture
def surfaces(tmp_path) -> Workspace:
    """60 striped surfaces of 96 pixels, one in six with a dark spot at (60, 30); patch memory."""
    workspace = Workspace(tmp_path / "surfaces")
    rng = np.random.default_rng(11)
    annotations, ids = [], []
    stripes = 120 + 30 * np.sin(np.arange(96) / 3)
    for number in range(60):
        image = np.repeat((stripes[None, :, None] + rng.normal(0, 6, (96, 96, 1))), 3, axis=2)
        if number % 6 == 4:
            cv2.circle(image, (60, 30), 9, (20, 20, 20), -1)
        ids.append(save_image(workspace, image.clip(0, 255).astype(np.uint8)))
        class_name = "defective" if number % 6 == 4 else "normal"
        annotations.append(Annotation(ids[-1], class_name))
    save_version(
        workspace.version("v1"),
        vision_task="anomaly",
        classes=("normal", "defective"),
        samples=sample_rows(ids, 96),
        annotations=annotations,
    )
    training = {
        "family": "patch",
        "weights": "efficientnet-lite0",
        "mode": "full",
        "image_size": 96,
        "epochs": 1,
        "anomaly": {"memory": 60, "max_patches": 2000, "false_alarm_rate": 0.1},
        "export": {"parity_samples": 4},
    }
    project = {"model": "surfaces", "vision_task": "anomaly", "classes": ["normal", "defective"]}
    _write_params(workspace, project, training)
    return workspace
