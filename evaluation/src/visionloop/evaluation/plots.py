"""Pictures of an evaluation: confusions, curves, slices, worst case (PNG, no display needed)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from visionloop.core.files import write_bytes
from visionloop.evaluation.answers import Metrics
from visionloop.evaluation.attributes import AttributeMetrics
from visionloop.evaluation.classification import CALIBRATION_BINS, ClassificationMetrics
from visionloop.evaluation.detection import DetectionMetrics, curve_of_class
from visionloop.evaluation.measurements import Evaluation, Part, Robustness

__all__ = [
    "ACCENT",
    "INK",
    "draw_box_curves",
    "draw_confusion",
    "draw_curves",
    "draw_robustness",
    "draw_slices",
    "finish_axes",
    "save_figure",
]

INK, MUTED, GRID = "#1f2933", "#7b8794", "#e4e7eb"
DOTS_PER_INCH = 144
"""One and a half times what a page shows them at: sharp on dense screens."""
ACCENT, WARN = "#2563eb", "#d9480f"
SERIES = ("#2563eb", "#d9480f", "#2f9e44", "#9c36b5", "#e67700", "#0c8599", "#c2255c", "#495057")


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, durably and with the same bytes each time."""
    import io

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return write_bytes(path, buffer.getvalue())


def draw_confusion(path: Path, table: NDArray[np.int64], classes: Sequence[str]) -> Path:
    """True class by row, answer by column; the colour is the share of the row."""
    names = [*classes, "background"] if len(table) > len(classes) else list(classes)
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    side = 2.4 + 0.75 * len(names)
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(table):
        ink = "white" if share[row, column] > 0.55 else INK
        axes.text(column, row, f"{count}", ha="center", va="center", color=ink)
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")
    axes.set_title("Confusions", loc="left", color=INK)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return save_figure(figure, path)


def draw_curves(path: Path, metrics: Metrics) -> Path:
    """ROC, precision-recall and calibration of a classifier; precision-recall of the others."""
    panels = 3 if isinstance(metrics, ClassificationMetrics) else 1
    figure = Figure(figsize=(4.2 * panels + 0.4, 4), layout="constrained")
    axes: list[Axes] = list(np.atleast_1d(figure.subplots(1, panels)))
    if isinstance(metrics, ClassificationMetrics):
        _draw_ranking(axes[0], axes[1], metrics)
        _draw_calibration(axes[2], metrics)
    elif isinstance(metrics, AttributeMetrics):
        _draw_attribute_curves(axes[0], metrics)
    else:
        draw_box_curves(axes[0], metrics)
    return save_figure(figure, path)


def draw_slices(path: Path, evaluation: Evaluation, minima: Mapping[str, float]) -> Path:
    """The gate's metric with its interval, for each slice; a red line is a limit that binds."""
    parts: list[tuple[str, Part, str]] = [
        ("guarded samples", evaluation.guarded, "guarded"),
        ("all test samples", evaluation.overall, "reported"),
    ]
    parts += [(name, one, one.status) for name, one in evaluation.slices.items()]
    figure = Figure(figsize=(8, 1.2 + 0.42 * len(parts)), layout="constrained")
    axes = figure.subplots()
    for row, (name, part, status) in enumerate(reversed(parts)):
        estimate = part.metrics.get(evaluation.metric)
        if estimate is None or estimate.value is None or not part.enough:
            axes.text(0.01, row, f"not enough data ({part.samples})", va="center", color=MUTED)
            continue
        colour = ACCENT if status == "guarded" else MUTED
        if estimate.low is not None and estimate.high is not None:
            axes.plot([estimate.low, estimate.high], [row, row], color=colour, lw=2.5, alpha=0.6)
        axes.plot(estimate.value, row, "o", color=colour)
        if name in minima and status == "guarded":
            axes.plot([minima[name]] * 2, [row - 0.35, row + 0.35], color=WARN, lw=2)
        axes.text(1.02, row, f"{estimate.value:.3f}  n = {part.samples}", va="center", color=INK)
    axes.set_yticks(range(len(parts)), [_row_name(*one) for one in reversed(parts)])
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.7, len(parts) - 0.3)
    finish_axes(axes, f"{evaluation.metric} by slice", "", "")
    return save_figure(figure, path)


def draw_robustness(
    path: Path, robustness: Robustness, *, minimum_mean: float, minimum_worst: float
) -> Path:
    """The metric against severity, one line a condition; severity 0 is the clean subset."""
    figure = Figure(figsize=(7.4, 4.2), layout="constrained")
    axes = figure.subplots()
    clean = robustness.clean.value
    for number, condition in enumerate(dict.fromkeys(row.condition for row in robustness.results)):
        rows = [row for row in robustness.results if row.condition == condition]
        points = [(0, clean), *((row.severity, row.metric.value) for row in rows)]
        defined = [(x, y) for x, y in points if y is not None]
        colour = SERIES[number % len(SERIES)]
        axes.plot(*zip(*defined, strict=True), "-o", color=colour, label=condition, ms=5)
    for limit, text in ((minimum_mean, "mean"), (minimum_worst, "worst")):
        axes.axhline(limit, color=WARN, lw=1, ls="--")
        axes.text(0.02, limit + 0.01, f"least {text}", color=WARN, fontsize=8)
    axes.axvline(robustness.severity, color=GRID, lw=8, zorder=0)
    axes.set_xticks(range(6), ["clean", "1", "2", "3", "4", "5"])
    axes.set_xlim(-0.1, 5.2)
    axes.set_ylim(0, 1.02)
    finish_axes(axes, f"Worst case: {robustness.samples} samples", "severity", robustness.metric)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return save_figure(figure, path)


def _draw_ranking(roc: Axes, precision: Axes, metrics: ClassificationMetrics) -> None:
    two = len(metrics.classes) == 2
    for number in [1] if two else range(len(metrics.classes)):
        member = metrics.truth == number
        if not member.any() or member.all():
            continue
        order = np.argsort(-metrics.probabilities[:, number], kind="stable")
        hits = np.cumsum(member[order])
        reported = np.arange(1, len(order) + 1)
        recall = np.concatenate([[0], hits / hits[-1]])
        alarms = np.concatenate([[0], (reported - hits) / max(len(order) - hits[-1], 1)])
        colour, name = SERIES[number % len(SERIES)], metrics.classes[number]
        roc.plot(alarms, recall, color=colour, label=name)
        precision.plot(recall[1:], hits / reported, color=colour, label=name)
    roc.plot([0, 1], [0, 1], color=GRID, lw=1, zorder=0)
    for axes in (roc, precision):
        axes.set(xlim=(-0.01, 1.01), ylim=(0, 1.02))
    finish_axes(roc, "ROC", "false alarms", "found (recall)")
    finish_axes(precision, "Precision and recall", "found (recall)", "precision")
    precision.legend(frameon=False, loc="lower left")


def _draw_calibration(axes: Axes, metrics: ClassificationMetrics) -> None:
    confidence = metrics.probabilities.max(axis=1)
    correct = metrics.probabilities.argmax(axis=1) == metrics.truth
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    counts = np.bincount(bins, minlength=CALIBRATION_BINS)
    filled = counts > 0
    x = np.bincount(bins, confidence, CALIBRATION_BINS)[filled] / counts[filled]
    y = np.bincount(bins, correct, CALIBRATION_BINS)[filled] / counts[filled]
    axes.plot([0, 1], [0, 1], color=GRID, lw=1, zorder=0)
    axes.plot(x, y, "-", color=ACCENT, lw=1)
    axes.scatter(x, y, s=12 + 220 * counts[filled] / counts.sum(), color=ACCENT, alpha=0.7)
    axes.set(xlim=(1 / len(metrics.classes) - 0.03, 1.02), ylim=(0, 1.02))
    finish_axes(axes, "Calibration", "confidence", "right")


def _draw_attribute_curves(axes: Axes, metrics: AttributeMetrics) -> None:
    for number, name in enumerate(metrics.classes):
        order = np.argsort(-metrics.probabilities[:, number], kind="stable")
        hits = np.cumsum(metrics.truth[order, number])
        if len(hits) and hits[-1]:
            precision = hits / np.arange(1, len(hits) + 1)
            axes.plot(hits / hits[-1], precision, color=SERIES[number % len(SERIES)], label=name)
    axes.set(xlim=(-0.01, 1.01), ylim=(0, 1.02))
    finish_axes(axes, "Precision and recall", "found (recall)", "precision")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))


def draw_box_curves(axes: Axes, metrics: DetectionMetrics) -> None:
    """Precision over recall of each class at IoU 0.5."""
    for number, name in enumerate(metrics.classes):
        recall, precision = curve_of_class(metrics, number)
        if len(recall):
            axes.plot(recall, precision, color=SERIES[number % len(SERIES)], label=name)
    axes.set(xlim=(-0.01, 1.01), ylim=(0, 1.02))
    finish_axes(axes, "Precision and recall, IoU 0.5", "found (recall)", "precision")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))


def _row_name(name: str, part: Part, status: str) -> str:
    return f"{name}\n(not trained for)" if status == "not trained for" else name


def finish_axes(axes: Any, title: str, x: str, y: str) -> None:
    """Title, names of the axes and a quiet grid."""
    axes.set_title(title, loc="left", color=INK, fontsize=11)
    axes.set_xlabel(x, color=MUTED)
    axes.set_ylabel(y, color=MUTED)
    axes.grid(color=GRID, lw=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    axes.tick_params(colors=MUTED, length=0)
