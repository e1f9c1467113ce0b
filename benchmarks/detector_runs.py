"""Detectors trained by the stage's own verb for a budget of image passes, then measured.

Shared by ``families_neu.py`` and ``families_pcb.py``. A run is a project folder: cut off at any
time, the same command goes on at its last epoch; what is finished leaves a result file.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from family_runs import make_project, train_within
from report import RESULTS, make_row, save_results

from visionloop.core.entities import Detections
from visionloop.core.files import read_json, write_json
from visionloop.core.geometry import match_boxes
from visionloop.core.progress import say_step, track
from visionloop.core.workspace import Workspace
from visionloop.data.datasets.table import RawSample
from visionloop.serving.images import decode_image
from visionloop.serving.postprocess import decode
from visionloop.serving.preprocess import make_batch
from visionloop.training.checkpoint import load_checkpoint
from visionloop.training.families.table import load_family
from visionloop.training.validation import measure_boxes

__all__ = ["DetectorRun", "run_all"]


@dataclass(frozen=True)
class DetectorRun:
    """One training.

    Attributes
    ----------
    name : str
        Of its row.
    splits : sequence of str
        ``train``, ``val`` or ``test`` of each sample.
    groups : sequence of str
        Of each sample; none crosses the splits.
    training : mapping
        What differs from ``params.yaml``; ``image_passes`` is the budget.
    target : float or None
        Of mAP50.
    """

    name: str
    splits: Sequence[str]
    groups: Sequence[str]
    training: Mapping[str, Any]
    target: float | None = None


def run_all(
    benchmark: str,
    samples: Sequence[RawSample],
    classes: Sequence[str],
    runs: Sequence[DetectorRun],
    options: argparse.Namespace,
) -> None:
    """Train what is missing within ``options.minutes`` and save a row a run."""
    torch.set_num_threads(1)
    end = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    rows: list[dict[str, Any]] = []
    for run in runs:
        folder = RESULTS / benchmark
        path = folder / f"{run.name}-{run.training['image_passes']}.json"
        workspace = Workspace(folder / "work" / path.stem)
        if not path.is_file() and not options.report and time.monotonic() < end:
            if not workspace.params.is_file():
                own = [one.annotations for one in samples]
                make_project(workspace, samples, vision_task="detection", classes=classes,
                             annotations=own, splits=run.splits, groups=run.groups,
                             training=run.training)  # fmt: skip
            say_step(run.name)
            left = None if end == float("inf") else max(1.0, end - time.monotonic())
            if train_within(workspace, left):
                write_json(path, measure(workspace, samples, run.splits, len(classes)))
        rows += _rows(run, path, workspace)
    save_results(benchmark, rows)


def measure(
    workspace: Workspace, samples: Sequence[RawSample], splits: Sequence[str], classes: int
) -> dict[str, float]:
    """mAP50 and the best F1 at IoU 0.5 over one confidence, on the test samples."""
    checkpoint = load_checkpoint(workspace.checkpoint)
    family = load_family(checkpoint.facts.family, workspace.root)
    network = family.build(checkpoint)
    # A network may answer otherwise than its family usually does (YOLO 26): it says so itself.
    kind = getattr(network, "outputs", family.outputs).kind
    names = checkpoint.facts.classes
    found, truth = [], []
    smallest = np.full(classes, 0.001, np.float32)
    tests = [one for one, split in zip(samples, splits, strict=True) if split == "test"]
    for sample in track(tests, "test pictures"):
        batch, placements = make_batch([decode_image(sample.content)], checkpoint.facts.input)
        with torch.inference_mode():
            output = network(torch.from_numpy(batch))[0].numpy()
        (answer,) = decode(output, placements, kind=kind,
                           minimum_confidence=smallest, max_iou=0.6)  # fmt: skip
        assert isinstance(answer, Detections)
        found.append(answer)
        boxes = [one for one in sample.annotations if one.xyxy is not None]
        xyxy = np.array([one.xyxy for one in boxes], np.float32).reshape(-1, 4)
        truth.append((xyxy, np.array([names.index(one.class_name) for one in boxes], np.int64)))
    map50 = measure_boxes(found, truth, classes)["val_map50"]
    return {"map50": map50, "f1": best_f1(found, truth), "test": float(len(tests))}


def best_f1(found: Sequence[Detections], truth: Sequence[tuple[Any, Any]]) -> float:
    """F1 of boxes of the right class at IoU 0.5, at the best of 19 confidences."""
    best = 0.0
    total = sum(len(class_id) for _, class_id in truth)
    for limit in np.linspace(0.05, 0.95, 19):
        right = said = 0
        for answer, (xyxy, class_id) in zip(found, truth, strict=True):
            kept = answer[answer.confidence >= limit]
            said += len(kept)
            for number in np.unique(kept.class_id):
                own = kept.xyxy[kept.class_id == number]
                right += len(match_boxes(own, xyxy[class_id == number], min_iou=0.5))
        best = max(best, 2 * right / max(said + total, 1))
    return best


def _rows(run: DetectorRun, path: Path, workspace: Workspace) -> list[dict[str, Any]]:
    budget = f"{run.training['image_passes']:,} image passes"
    if path.is_file():
        found = read_json(path)
        return [
            make_row(f"{run.name}: mAP50 after {budget}", found["map50"], target=run.target),
            make_row(f"{run.name}: best F1", found["f1"]),
        ]
    state = workspace.own / "artifacts" / "training_state" / "state.json"
    if not state.is_file() or not (history := read_json(state)["history"]):
        return []
    seen = Counter(run.splits)["train"] * len(history)
    last = max(history, key=lambda row: row.get("val_map50", 0.0))
    claim = f"{run.name}: unfinished, val mAP50 after {seen:,} of {budget}"
    return [make_row(claim, last.get("val_map50", 0.0))]
