"""Measures forms of a package in turn, picture by picture, in one process of its own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from visionloop.core.errors import VisionloopError
from visionloop.serving.images import read_image
from visionloop.serving.package import ModelPackage, load_package
from visionloop.serving.predictor import Predictor
from visionloop.serving.variants.loss import Comparer
from visionloop.serving.variants.reference import Reference
from visionloop.serving.variants.resize_model import at_size, resize_model

__all__ = ["measure_in_turn"]

WARM_UP = 2


def measure_in_turn(
    *,
    package: str,
    trusted_keys: list[str],
    forms: list[dict[str, Any]],
    images: str,
    reference: dict[str, Any],
    rounds: int,
) -> list[dict[str, Any]]:
    """Fields of :class:`MeasuredForm` for each form. Call it apart.

    Parameters
    ----------
    package, images : str
        Paths: the package and the folder of images.
    trusted_keys : list of str
    forms : list of dict
        Fields of :class:`Choice`; ``model``: the path of the ONNX file or engine; and
        ``is_at_size``: it was made for this input, not for the package's.
    reference : dict
        A :class:`Reference`: what is measured on.
    rounds : int
        Timed calls of each form.
    """
    loaded = load_package(Path(package), trusted_keys=[Path(key) for key in trusted_keys])
    known = Reference.model_validate(reference)
    pictures = [read_image(Path(images) / one.file_name) for one in known.samples]
    rows: list[dict[str, Any]] = []
    able: list[tuple[dict[str, Any], Predictor]] = []
    for form in forms:
        row = {name: form[name] for name in form if name not in ("model", "is_at_size")}
        rows.append(row)
        try:
            able.append((row, _open(loaded, form)))
        except VisionloopError as error:
            row["reason"] = "; ".join(error.problems)
    _add_times(able, pictures, rounds)
    comparer = Comparer(loaded, pictures, known.samples, metric=known.metric)
    known_facts: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row, predictor in able:
        # The number of threads changes no answer.
        form_name = tuple(row[name] for name in ("backend", "precision", "width", "height"))
        if form_name not in known_facts:
            found = comparer.compare(predictor)
            known_facts[form_name] = {
                "metric": found.metric,
                "loss": round(found.loss, 6),
                "agreement": round(found.parity.agreement, 6),
            }
        row |= known_facts[form_name]
    return rows


def _open(package: ModelPackage, form: dict[str, Any]) -> Predictor:
    content = Path(form["model"]).read_bytes()
    size = (form["width"], form["height"])
    if form["is_at_size"]:
        resized = at_size(package, *size)
    else:
        resized, content = resize_model(package, content, *size)
    predictor = Predictor(
        resized, backend=form["backend"], threads=form["threads"], model=content, batch_size=1
    )
    spec = resized.manifest.input
    _ask(predictor, np.zeros((spec.height, spec.width, 3), np.uint8))  # a fixed graph fails here
    return predictor


def _ask(predictor: Predictor, picture: Any) -> None:
    if predictor.package.manifest.vision_task == "embedding":
        predictor.embed([picture])
    else:
        predictor.predict([picture])


def _add_times(
    able: list[tuple[dict[str, Any], Predictor]], pictures: list[Any], rounds: int
) -> None:
    wall = np.zeros((len(able), rounds + WARM_UP))
    busy = np.zeros_like(wall)
    for turn in range(rounds + WARM_UP):
        picture = pictures[turn % len(pictures)]
        for place, (_, predictor) in enumerate(able):
            start, before = time.perf_counter(), time.process_time()
            _ask(predictor, picture)
            wall[place, turn] = time.perf_counter() - start
            busy[place, turn] = time.process_time() - before
    for place, (row, _) in enumerate(able):
        p50, p95, p99 = np.percentile(wall[place, WARM_UP:] * 1e3, [50, 95, 99])
        row |= {
            "p50_ms": round(float(p50), 3),
            "p95_ms": round(float(p95), 3),
            "p99_ms": round(float(p99), 3),
            "cpu_ms": round(float(np.median(busy[place, WARM_UP:]) * 1e3), 3),
        }
