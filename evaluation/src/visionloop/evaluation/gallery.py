"""The worst answers as pictures: what was said, what is true."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from visionloop.core.entities import AttributeProbabilities, ClassProbabilities, Detections
from visionloop.core.geometry import match_boxes
from visionloop.evaluation.answers import AnsweredSamples
from visionloop.evaluation.coco_metrics import Truth
from visionloop.evaluation.plots import INK, MUTED, save_figure
from visionloop.serving.images import read_image

__all__ = ["draw_gallery", "worst_rows"]

TRUE_COLOUR, ANSWER_COLOUR = "#2f9e44", "#d9480f"
COLUMNS = 6


def worst_rows(answered: AnsweredSamples, count: int) -> NDArray[np.int64]:
    """Positions of the samples with the worst answers, worst first, wrong ones only.

    Classification: smallest probability of the true class. Detection: most missed and
    spurious boxes at the package's thresholds.
    """
    badness = np.array(
        [_badness(answered, row) for row in range(len(answered.answers))], np.float64
    )
    order = np.argsort(-badness, kind="stable")
    return order[badness[order] > 0][:count]


def draw_gallery(path: Path, answered: AnsweredSamples, images: Path, *, count: int) -> Path:
    """A grid of the worst answers; true boxes are green and dashed, answers orange."""
    rows = worst_rows(answered, count)
    if not len(rows):
        figure = Figure(figsize=(6, 1), layout="constrained")
        figure.text(0.5, 0.5, "no wrong answers", ha="center", va="center", color=MUTED)
        return save_figure(figure, path)
    columns = min(COLUMNS, len(rows))
    lines = -(-len(rows) // columns)
    figure = Figure(figsize=(2.1 * columns, 2.45 * lines), layout="constrained")
    cells = np.atleast_1d(figure.subplots(lines, columns)).ravel()
    for axes in cells:
        axes.set_axis_off()
    for axes, row in zip(cells, rows, strict=False):
        picture = read_image(images / str(answered.samples["file_name"].iloc[row]))
        axes.imshow(picture[:, :, ::-1])
        _draw_answer(axes, answered, int(row))
    return save_figure(figure, path)


def _badness(answered: AnsweredSamples, row: int) -> float:
    truth, answer = answered.truths[row], answered.answers[row]
    if isinstance(answer, AttributeProbabilities):
        return float(len(_wrong_attributes(answered, truth, answer)))
    if isinstance(answer, ClassProbabilities):
        true_class = int(truth.class_id[0])
        is_wrong = answer.class_id != true_class
        return float(1 - answer.probabilities[true_class]) if is_wrong else 0.0
    missed, wrong = _count_errors(truth, _reported(answered, answer))
    return float(missed + wrong)


def _wrong_attributes(
    answered: AnsweredSamples, truth: Truth, answer: AttributeProbabilities
) -> list[str]:
    """Attributes that were missed (said with a minus) or wrongly reported (with a plus)."""
    has = set(truth.class_id.tolist())
    wrong = []
    for number, (name, value) in enumerate(
        zip(answered.classes, answer.probabilities, strict=True)
    ):
        is_said = value >= answered.thresholds.get(name, 0.5)
        if is_said != (number in has):
            wrong.append(f"{'+' if is_said else '-'}{name}")
    return wrong


def _count_errors(truth: Truth, reported: Detections) -> tuple[int, int]:
    """True boxes that were missed, and reported boxes that are wrong."""
    right = sum(
        int(truth.class_id[first] == reported.class_id[second])
        for first, second, _ in match_boxes(truth.xyxy, reported.xyxy, min_iou=0.5)
    )
    return len(truth.class_id) - right, len(reported) - right


def _reported(answered: AnsweredSamples, found: Detections) -> Detections:
    limits = np.array([answered.thresholds.get(name, 0.5) for name in answered.classes])
    return found[found.confidence >= limits[found.class_id]]


def _draw_answer(axes: Axes, answered: AnsweredSamples, row: int) -> None:
    truth, answer = answered.truths[row], answered.answers[row]
    if isinstance(answer, AttributeProbabilities):
        said = ", ".join(_wrong_attributes(answered, truth, answer))
        axes.set_title(said or "all right", fontsize=8, color=INK)
        return
    if isinstance(answer, ClassProbabilities):
        said = f"said {answered.classes[answer.class_id]} {answer.confidence:.2f}"
        true_name = answered.classes[int(truth.class_id[0])]
        axes.set_title(f"{said}\nis {true_name}", fontsize=8, color=INK)
        return
    reported = _reported(answered, answer)
    _draw_boxes(axes, truth, TRUE_COLOUR, "--")
    _draw_boxes(axes, Truth(reported.class_id, reported.xyxy), ANSWER_COLOUR, "-")
    missed, wrong = _count_errors(truth, reported)
    text = f"{missed} of {len(truth.class_id)} missed\n{wrong} of {len(reported)} reported wrong"
    axes.set_title(text, fontsize=8, color=INK)


def _draw_boxes(axes: Axes, boxes: Truth, colour: str, line: str) -> None:
    for x1, y1, x2, y2 in boxes.xyxy.tolist():
        axes.add_patch(
            Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=colour, ls=line, lw=1.2)
        )
