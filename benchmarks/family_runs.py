"""Projects for benchmarks of model families: a frozen dataset version and its parameters.

Training itself is the stage's own verb, in a process of its own, so that it can be cut off and
goes on where it was.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas
import yaml

from visionloop.core.entities import Annotation
from visionloop.core.files import write_bytes
from visionloop.core.progress import say_step
from visionloop.core.workspace import Workspace
from visionloop.data.datasets.table import RawSample
from visionloop.data.versions.version import save_version
from visionloop.serving.images import decode_image

__all__ = ["make_project", "train_within"]

PARAMS = Path(__file__).parents[1] / "params.yaml"


def make_project(
    workspace: Workspace,
    samples: Sequence[RawSample],
    *,
    vision_task: str,
    classes: Sequence[str],
    annotations: Sequence[Sequence[Annotation]],
    splits: Sequence[str],
    groups: Sequence[str],
    training: Mapping[str, Any],
) -> None:
    """Write a project folder; one that is there is replaced.

    Parameters
    ----------
    samples : sequence of RawSample
        Of samples with the same bytes the first is taken.
    annotations : sequence of sequences of Annotation
        Of each sample; their sample id is filled in.
    splits, groups : sequence of str
        ``train``, ``val`` or ``test``, and the group, of each sample.
    training : mapping
        What differs from the ``training`` block of the repository; blocks inside are merged.
    """
    shutil.rmtree(workspace.root, ignore_errors=True)
    rows: dict[str, dict[str, Any]] = {}
    known: list[Annotation] = []
    for sample, own, split, group in zip(samples, annotations, splits, groups, strict=True):
        if sample.sample_id in rows:
            continue
        file_name = f"{sample.sample_id}.{sample.suffix}"
        write_bytes(workspace.images / file_name, sample.content)
        height, width = decode_image(sample.content).shape[:2]
        rows[sample.sample_id] = {
            "sample_id": sample.sample_id, "file_name": file_name, "width": width,
            "height": height, "camera": "", "site": "", "captured_at": "", "luminance": 0.0,
            "contrast": 0.0, "blur": 0.0, "noise": 0.0, "group": group, "split": split,
        }  # fmt: skip
        known += [Annotation(sample.sample_id, one.class_name, one.xyxy) for one in own]
    save_version(
        workspace.version("v1"),
        vision_task=vision_task,
        classes=tuple(classes),
        samples=pandas.DataFrame(list(rows.values())),
        annotations=known,
    )
    content = yaml.safe_load(PARAMS.read_text())
    content["project"] |= {
        "model": workspace.root.name, "vision_task": vision_task, "classes": list(classes)
    }  # fmt: skip
    for name, value in training.items():
        if isinstance(value, dict):
            content["training"][name] |= value
        else:
            content["training"][name] = value
    workspace.params.write_text(yaml.safe_dump(content, sort_keys=False))


def train_within(
    workspace: Workspace,
    seconds: float | None,
    program: Sequence[str] = ("-m", "visionloop.training"),
) -> bool:
    """Train, or go on; whether it came to its end within so many seconds (None: no limit)."""
    command = [sys.executable, *program, "train", "-w", str(workspace.root)]
    database = workspace.root.parent / "mlflow.db"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{database}"}
    try:
        subprocess.run(command, env=environment, check=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        say_step("time is over: the same command goes on at its last epoch")
        return False
    return True
