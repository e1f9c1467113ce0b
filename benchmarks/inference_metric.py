"""The metric rows of ``inference.py``: what the forms answer, where there is a truth.

On the video the peer's reported boxes stand for it; on DeepPCB's boards people's boxes do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from export_models import read_data
from inference_models import Form
from inference_runners import open_form, open_peer
from numpy.typing import NDArray
from report import make_row

from visionloop.core.entities import Detections, Prediction
from visionloop.data.versions.version import DatasetVersion
from visionloop.serving.images import decode_image
from visionloop.serving.package import ModelPackage
from visionloop.serving.predictor import DEFAULT_CONFIDENCE
from visionloop.serving.variants.answer_metrics import measure_metric
from visionloop.serving.variants.reference import ReferenceSample

__all__ = ["loss_row", "unseen_boards", "video_rows"]

GROUPS = 20
LOWEST = 0.01
"""Confidence from which boxes count for average precision."""
Frame = NDArray[np.uint8]


def video_rows(
    package: ModelPackage, forms: Mapping[str, Form], frames: Sequence[Frame]
) -> list[dict[str, Any]]:
    """mAP50 of every form's answers where the boxes that the peer reports are the truth.

    The peer exported for the fitted input is measured so, too: what another input changes.
    """
    truth = [_as_truth(found) for found in _ask_peer(forms["peer"], frames)]
    classes = len(package.manifest.classes)
    shown = {
        "ort": "FP32",
        "int8_f32": "INT8",
        "int8": "INT8, the rest bfloat16",
        "bf16": "bfloat16",
    }
    answers = {}
    for form, name in shown.items():
        for one in (form, f"{form}_fit"):
            if one in forms:
                size = "x".join(str(side) for side in forms[one].size)
                predictor = open_form(forms[one])
                answers[f"{name}, {size}"] = [
                    predictor.predict([frame], minimum_confidence=LOWEST)[0] for frame in frames
                ]
    size = "x".join(str(side) for side in forms["peer_fit"].size)
    peer_fit = _ask_peer(forms["peer_fit"], frames, confidence=LOWEST)
    answers[f"the peer itself, exported for {size}"] = [_as_prediction(one) for one in peer_fit]
    return [
        make_row(
            f"{name}, {len(frames)} frames, the peer's boxes at 640x640 as truth "
            f"({_count_reported(rows)} boxes): mAP50",
            measure_metric("map50", rows, truth, classes),
        )
        for name, rows in answers.items()
    ]


def _ask_peer(form: Form, frames: Sequence[Frame], **options: Any) -> list[Any]:
    ask = open_peer(form.model, threads=1, size=form.size, **options)
    return [ask(frame).boxes for frame in frames]


def _as_truth(boxes: Any) -> ReferenceSample:
    return ReferenceSample(
        file_name="frame",
        xyxy=boxes.xyxy.numpy().astype(float).tolist(),
        box_class_id=boxes.cls.numpy().astype(int).tolist(),
    )


def _as_prediction(boxes: Any) -> Prediction:
    return Prediction(
        Detections(
            boxes.xyxy.numpy(), boxes.cls.numpy().astype(np.int64), boxes.conf.numpy().clip(0, 1)
        )
    )


def _count_reported(rows: Sequence[Prediction]) -> int:
    """Boxes from the usual confidence on."""
    found = [one.answer.confidence for one in rows if isinstance(one.answer, Detections)]
    return sum(int((one >= DEFAULT_CONFIDENCE).sum()) for one in found)


def unseen_boards(
    version: DatasetVersion, classes: Sequence[str], count: int
) -> tuple[list[Frame], list[ReferenceSample]]:
    """Boards of the whole data set of which no picture was trained on."""
    _, _, samples, annotations, groups = read_data("deeppcb")
    trained = set(version.split("train")["group"])
    images: list[Frame] = []
    truth: list[ReferenceSample] = []
    known: set[str] = set()
    for sample, own, group in zip(samples, annotations, groups, strict=True):
        if group in trained or sample.sample_id in known or len(images) == count:
            continue
        known.add(sample.sample_id)
        images.append(decode_image(sample.content))
        truth.append(
            ReferenceSample(
                file_name=sample.sample_id,
                xyxy=[[float(value) for value in one.xyxy] for one in own if one.xyxy],
                box_class_id=[classes.index(one.class_name) for one in own if one.xyxy],
            )
        )
    return images, truth


def loss_row(
    claim: str,
    first: Sequence[Prediction],
    second: Sequence[Prediction],
    samples: Sequence[ReferenceSample],
    classes: int,
) -> dict[str, Any]:
    """Relative loss, with its 95 % interval over boards (a jackknife of pairs)."""

    def loss(rows: Sequence[int]) -> float:
        chosen = [samples[n] for n in rows]
        values = [
            measure_metric("map50", [answers[n] for n in rows], chosen, classes)
            for answers in (first, second)
        ]
        return (values[0] - values[1]) / values[0]

    # Each group of boards is left out once: Efron and Tibshirani, 1993, chapter 11.
    order = np.random.default_rng(0).permutation(len(samples))
    parts = np.array_split(order, GROUPS)
    left = [loss(np.setdiff1d(order, part).tolist()) for part in parts]
    width = 1.96 * float(np.sqrt((GROUPS - 1) * np.var(left)))
    before, after = (measure_metric("map50", rows, samples, classes) for rows in (first, second))
    found = (before - after) / before
    return make_row(
        f"{claim}: relative loss of mAP50 ({before:.4f} to {after:.4f})",
        found,
        spread=(found - width, found + width),
        target=0.005,
        higher_is_better=False,
    )
