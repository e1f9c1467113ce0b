"""Golden images: a few pictures with the answers that a package gave where it was built.

A device that answers otherwise does not compute what was released: a damaged library, an
engine of another GPU, a wrong pre-processing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from visionloop.core.entities import (
    Answer,
    AttributeProbabilities,
    ClassProbabilities,
    Detections,
    Prediction,
)
from visionloop.core.errors import PackageError
from visionloop.core.files import read_json, write_bytes, write_json
from visionloop.serving.failover import FailoverPredictor
from visionloop.serving.images import read_image
from visionloop.serving.predictor import Predictor
from visionloop.serving.variants.parity import SEARCH_CONFIDENCE, Parity, compare_predictions

__all__ = ["GOLDEN_NAME", "check_golden", "write_golden"]

GOLDEN_NAME = "golden"
"""Folder beside the engine, below its signature."""
ANSWERS_NAME = "answers.json"
LARGEST_DIFFERENCE = 0.1
"""Of a confidence; half precision stays far below it."""


def write_golden(folder: Path, predictor: Predictor, images: Sequence[Path]) -> None:
    """Copy image files into a new folder, with the predictor's answers on them."""
    rows = []
    for path in images:
        (prediction,) = predictor.predict([read_image(path)], minimum_confidence=SEARCH_CONFIDENCE)
        write_bytes(folder / path.name, path.read_bytes())
        rows.append({"image": path.name, **_row(prediction.answer)})
    write_json(folder / ANSWERS_NAME, {"answers": rows})


def check_golden(
    folder: Path,
    predictor: Predictor | FailoverPredictor,
    *,
    against: Predictor | None = None,
) -> Parity:
    """Answer the golden images here, and compare.

    Parameters
    ----------
    folder : Path
        From :func:`write_golden`; its signature was verified by the caller.
    predictor : Predictor or FailoverPredictor
    against : Predictor or None
        Whose answers count in place of the shipped ones: those are of the package's own input.

    Returns
    -------
    Parity

    Raises
    ------
    PackageError
        If an answer differs, or the model fails.
    DataError
        If an image or the answers are damaged.
    """
    rows = read_json(folder / ANSWERS_NAME)["answers"]
    images = [read_image(folder / row["image"]) for row in rows]
    if against is None:
        expected = [Prediction(_answer(row)) for row in rows]
    else:
        expected = against.predict(images, minimum_confidence=SEARCH_CONFIDENCE)
    found = predictor.predict(images, minimum_confidence=SEARCH_CONFIDENCE)
    parity = compare_predictions(expected, found)
    if parity.agreement < 1 or parity.max_difference > LARGEST_DIFFERENCE:
        raise PackageError(
            str(folder),
            f"the golden images are answered otherwise here: {parity.agreement:.0%} agree, "
            f"confidences differ by up to {parity.max_difference:.3f}",
            "build the engine again on this device, or install the locked libraries",
        )
    return parity


def _row(answer: Answer) -> dict[str, Any]:
    if isinstance(answer, Detections):
        return {
            "xyxy": answer.xyxy.tolist(),
            "class_id": answer.class_id.tolist(),
            "confidence": answer.confidence.tolist(),
        }
    key = "probabilities" if isinstance(answer, ClassProbabilities) else "attributes"
    return {key: answer.probabilities.tolist()}


def _answer(row: dict[str, Any]) -> Answer:
    if "probabilities" in row:
        return ClassProbabilities(np.asarray(row["probabilities"], np.float32))
    if "attributes" in row:
        return AttributeProbabilities(np.asarray(row["attributes"], np.float32))
    return Detections(
        np.asarray(row["xyxy"], np.float32),
        np.asarray(row["class_id"], np.int64),
        np.asarray(row["confidence"], np.float32),
    )
