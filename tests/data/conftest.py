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
from visionloop.data.datasets import RawSample


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
    from visionloop.data.imports import import_raw_samples

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
