"""Pictures of what detection families reach on real data: ``docs/pictures/family-<name>.png``.

Charts of our own, no picture of a data set: the metric over the image passes of the training, and
precision and recall of each class, answered by the exported package on the held-out pictures. The
trainings are those of ``export_models.py`` (YOLOv8n from COCO on DeepPCB; a small RT-DETR from
random weights on BCCD), trained first where they are not there.

    python benchmarks/family_pictures.py [--families yolo rtdetr]
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

from export_models import prepare_model, use_throwaway_keys
from matplotlib.figure import Figure

from visionloop.core.privacy import set_quiet_environment
from visionloop.core.workspace import Workspace
from visionloop.data.versions.version import load_version
from visionloop.evaluation.answers import answer_samples, truth_of
from visionloop.evaluation.detection import DetectionMetrics
from visionloop.evaluation.plots import ACCENT, INK, draw_box_curves, finish_axes, save_figure
from visionloop.serving.package import load_package
from visionloop.serving.predictor import Predictor

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
DATA = {
    "yolo": "YOLOv8n (COCO) on DeepPCB, 416 px",
    "rtdetr": "small RT-DETRv2 (random weights) on BCCD, 256 px",
}
LEAST_CONFIDENCE = 0.01


def main() -> None:
    """Draw one picture a family."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", nargs="+", default=list(DATA), choices=list(DATA))
    options = parser.parse_args()
    set_quiet_environment()
    use_throwaway_keys()
    for family in options.families:
        workspace = prepare_model(family)
        metrics = measure(workspace)
        path = PICTURES / f"family-{family}.png"
        draw(path, DATA[family], passes_of(workspace), metrics)
        print(f"{family}: mAP50 {metrics.values()['map50']:.3f} on {len(metrics)} pictures: {path}")


def measure(workspace: Workspace) -> DetectionMetrics:
    """Answers of the package on the test split."""
    version = load_version(workspace.version("v1"), workspace.images)
    package = load_package(workspace.package)
    samples = version.split("test")
    found, _ = answer_samples(
        Predictor(package, threads=1),
        version,
        samples,
        minimum_confidence=LEAST_CONFIDENCE,
        description="held-out pictures",
    )
    truths = [truth_of(version, str(name)) for name in samples["sample_id"]]
    answers: list[Any] = [one.answer for one in found]
    return DetectionMetrics(truths, answers, package.manifest.classes, package.manifest.thresholds)


def passes_of(workspace: Workspace) -> tuple[list[int], list[float]]:
    """Image passes and mAP50 on the val split after each epoch."""
    version = load_version(workspace.version("v1"), workspace.images)
    train = len(version.split("train"))
    with (workspace.reports / "training" / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [train * int(row["epoch"]) for row in rows], [float(row["val_map50"]) for row in rows]


def draw(
    path: Path, title: str, history: tuple[list[int], list[float]], metrics: DetectionMetrics
) -> None:
    """The metric while it was trained, and the curves of the package."""
    figure = Figure(figsize=(9.6, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(*history, color=ACCENT, marker="o", markersize=4)
    left.set(ylim=(0, 1.02), xlim=(0, None))
    finish_axes(left, "While it is trained", "image passes", "mAP50, val split")
    draw_box_curves(right, metrics)
    reached = metrics.values()["map50"]
    right.set_title(f"The package on {len(metrics)} new pictures, mAP50 {reached:.2f}",
                    loc="left", color=INK, fontsize=11)  # fmt: skip
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=12)
    save_figure(figure, path)


if __name__ == "__main__":
    main()
