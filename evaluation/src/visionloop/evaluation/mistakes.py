"""Mistakes by kind as pictures: what is taken for what, what is missed, what is invented."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from visionloop.core.entities import AttributeProbabilities, ClassProbabilities, Detections
from visionloop.core.geometry import match_boxes
from visionloop.evaluation.answers import AnsweredSamples
from visionloop.evaluation.plots import INK, MUTED, save_figure
from visionloop.serving.images import read_image

__all__ = ["Mistake", "draw_mistakes", "find_mistakes"]

KINDS, EXAMPLES = 5, 6
MARGIN = 0.6
"""Share of a box's longer side that is shown around it."""


@dataclass(frozen=True, eq=False)
class Mistake:
    """One mistake.

    Attributes
    ----------
    kind : str
        For example ``defective taken for functional``, ``open missed``.
    row : int
        Position of the sample.
    confidence : float
        Of the wrong answer; 0 where something was missed.
    xyxy : float32 array (4,) or None
        Where, for boxes.
    """

    kind: str
    row: int
    confidence: float
    xyxy: NDArray[np.float32] | None = None


def find_mistakes(answered: AnsweredSamples) -> dict[str, list[Mistake]]:
    """Mistakes by kind, the most frequent kind first; of a kind the surest ones first."""
    kinds: dict[str, list[Mistake]] = defaultdict(list)
    for row in range(len(answered.answers)):
        for mistake in _mistakes_of(answered, row):
            kinds[mistake.kind].append(mistake)
    ordered = sorted(kinds.items(), key=lambda one: (-len(one[1]), one[0]))
    return {kind: sorted(found, key=lambda one: -one.confidence) for kind, found in ordered}


def draw_mistakes(path: Path, answered: AnsweredSamples, images: Path) -> Path:
    """A row of examples for each of the five most frequent kinds of mistake."""
    kinds = list(find_mistakes(answered).items())[:KINDS]
    if not kinds:
        figure = Figure(figsize=(6, 1), layout="constrained")
        figure.text(0.5, 0.5, "no mistakes", ha="center", va="center", color=MUTED)
        return save_figure(figure, path)
    figure = Figure(figsize=(1.75 * EXAMPLES, 2.05 * len(kinds)), layout="constrained")
    table = figure.subplots(len(kinds), EXAMPLES, squeeze=False)
    for cells, (kind, found) in zip(table, kinds, strict=True):
        for axes in cells:
            axes.set_axis_off()
        cells[0].set_title(f"{kind}, {len(found)} times", loc="left", fontsize=9, color=INK)
        for axes, mistake in zip(cells, found, strict=False):
            name = str(answered.samples["file_name"].iloc[mistake.row])
            axes.imshow(_part(read_image(images / name), mistake)[:, :, ::-1])
    return save_figure(figure, path)


def _mistakes_of(answered: AnsweredSamples, row: int) -> Iterator[Mistake]:
    truth, answer, classes = answered.truths[row], answered.answers[row], answered.classes
    if isinstance(answer, ClassProbabilities):
        true = int(truth.class_id[0])
        if answer.class_id != true:
            kind = f"{classes[true]} taken for {classes[answer.class_id]}"
            yield Mistake(kind, row, answer.confidence)
        return
    if isinstance(answer, AttributeProbabilities):
        has = set(truth.class_id.tolist())
        for number, value in enumerate(answer.probabilities.tolist()):
            is_said = value >= answered.thresholds.get(classes[number], 0.5)
            if is_said != (number in has):
                word = "wrongly said" if is_said else "missed"
                yield Mistake(f"{classes[number]} {word}", row, value if is_said else 1 - value)
        return
    yield from _mistakes_of_boxes(answered, row, answer)


def _mistakes_of_boxes(
    answered: AnsweredSamples, row: int, answer: Detections
) -> Iterator[Mistake]:
    truth, classes = answered.truths[row], answered.classes
    limits = np.array([answered.thresholds.get(name, 0.5) for name in classes])
    found = answer[answer.confidence >= limits[answer.class_id]]
    pairs = match_boxes(truth.xyxy, found.xyxy, min_iou=0.5)
    for first, second, _ in pairs:
        true, said = int(truth.class_id[first]), int(found.class_id[second])
        if true != said:
            kind = f"{classes[true]} taken for {classes[said]}"
            yield Mistake(kind, row, float(found.confidence[second]), truth.xyxy[first])
    seen, used = {one for one, _, _ in pairs}, {two for _, two, _ in pairs}
    for number, class_id in enumerate(truth.class_id.tolist()):
        if number not in seen:
            yield Mistake(f"{classes[class_id]} missed", row, 0.0, truth.xyxy[number])
    for number, class_id in enumerate(found.class_id.tolist()):
        if number not in used:
            confidence = float(found.confidence[number])
            kind = f"{classes[class_id]} where nothing is"
            yield Mistake(kind, row, confidence, found.xyxy[number])


def _part(image: NDArray[np.uint8], mistake: Mistake) -> NDArray[np.uint8]:
    """The picture, or what lies around a box."""
    if mistake.xyxy is None:
        return image
    x1, y1, x2, y2 = mistake.xyxy.tolist()
    around = MARGIN * max(x2 - x1, y2 - y1, 8.0)
    left, top = max(0, int(x1 - around)), max(0, int(y1 - around))
    right, bottom = int(x2 + around) + 1, int(y2 + around) + 1
    part = image[top:bottom, left:right]
    return part if part.size else image
