"""INT8 of a package: calibration images chosen for coverage, sensitive layers kept in float.

A network quantized as a whole can lose half of its metric unnoticed. Layers are therefore
given back to float32, those first whose return mends most, until what is lost on the
calibration images is within a budget; then each is tried as INT8 again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionloop.core.image_statistics import measure_image
from visionloop.serving.images import read_image
from visionloop.serving.package import MODEL_NAME, ModelPackage, load_package
from visionloop.serving.precision import Quantizer
from visionloop.serving.predictor import Predictor
from visionloop.serving.preprocess import make_batch
from visionloop.serving.reference import Reference
from visionloop.serving.variant_parity import Comparer

__all__ = ["Search", "choose_for_coverage", "find_sensitive_layers", "write_int8"]

PARTS = 12
"""Neighbouring layers are judged together first: so many parts of the graph."""


@dataclass(frozen=True)
class Search:
    """What the search for sensitive layers found.

    Attributes
    ----------
    kept : list of str
        Layers that stay float32.
    distance_full, distance : float
        Of the form with every layer in INT8, and of the one that was chosen.
    tried : int
        Forms that were measured.
    is_complete : bool
        Whether the budget was reached.
    """

    kept: list[str]
    distance_full: float
    distance: float
    tried: int
    is_complete: bool


def choose_for_coverage(vectors: NDArray[np.floating], count: int) -> list[int]:
    """Rows that lie apart: each next one is the farthest from those chosen before.

    Gonzalez, 1985: Clustering to minimize the maximum intercluster distance.

    Parameters
    ----------
    vectors : float array (N, D)
    count : int

    Returns
    -------
    list of int
        At most ``count`` different rows; the first is the one nearest to the mean.
    """
    spread = vectors.std(axis=0)
    rows = (vectors - vectors.mean(axis=0)) / np.where(spread > 0, spread, 1)
    chosen = [int((rows**2).sum(axis=1).argmin())]
    distance = ((rows - rows[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < min(count, len(rows)):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, ((rows - rows[chosen[-1]]) ** 2).sum(axis=1))
    return chosen


def find_sensitive_layers(
    layers: Sequence[str],
    measure: Callable[[list[str]], float],
    *,
    budget: float,
    seconds: float,
    parts: int = PARTS,
    kinds: Sequence[Sequence[str]] = (),
) -> Search:
    """Choose greedily the layers that stay float32.

    Parameters
    ----------
    layers : sequence of str
        In the order of the graph.
    measure : callable
        Distance from FP32 of the form in which the given layers stay float32.
    budget : float
        The distance that is good enough.
    seconds : float
        No further form is measured after so long a time.
    parts : int
        Parts of neighbouring layers that are returned together before single layers are.
    kinds : sequence of sequences of str
        Further parts to try, whose layers need not be neighbours.
    """
    end = time.monotonic() + seconds
    order = {name: place for place, name in enumerate(layers)}
    found = {"tried": 0}

    def try_form(kept: Iterable[str]) -> float:
        found["tried"] += 1
        return measure(sorted(kept, key=order.__getitem__))

    full = distance = try_form([])
    kept: list[str] = []
    pieces = [list(one) for one in kinds if one]
    pieces += [list(one) for one in np.array_split(np.array(layers, object), parts) if len(one)]
    while distance > budget and pieces and time.monotonic() < end:
        tried: list[tuple[float, int]] = []
        for place, piece in enumerate(pieces):
            tried.append((try_form({*kept, *piece}), place))
            if tried[-1][0] <= budget or time.monotonic() >= end:
                break
        best, place = min(tried)
        distance, kept = best, sorted({*kept, *pieces.pop(place)}, key=order.__getitem__)
    if distance <= budget:
        kept, distance = _give_back(kept, distance, try_form, budget, end)
    kept.sort(key=order.__getitem__)
    return Search(kept, full, distance, found["tried"], distance <= budget)


def _give_back(
    kept: list[str],
    distance: float,
    try_form: Callable[[Iterable[str]], float],
    budget: float,
    end: float,
) -> tuple[list[str], float]:
    """Quantize again what need not stay float32: halves first, then their halves."""
    waiting = [kept[: len(kept) // 2], kept[len(kept) // 2 :]]
    while waiting and time.monotonic() < end:
        piece = waiting.pop(0)
        rest = [name for name in kept if name not in set(piece)]
        if not piece:
            continue
        found = try_form(rest)
        if found <= budget:
            kept, distance = rest, found
        elif len(piece) > 1:
            waiting += [piece[: len(piece) // 2], piece[len(piece) // 2 :]]
    return kept, distance


def write_int8(
    *,
    package: str,
    trusted_keys: list[str],
    images: str,
    reference: dict[str, Any],
    target: str,
    calibration_images: int,
    search_images: int,
    budget: float,
    seconds: float,
    symmetric: bool = True,
) -> dict[str, Any]:
    """Write the INT8 form of a package's model. Call it apart.

    Parameters
    ----------
    package, images, target : str
        Paths: the package, the folder of images, the ONNX file to write.
    trusted_keys : list of str
        Paths of public keys.
    reference : dict
        A :class:`Reference`: candidates for calibration.
    calibration_images, search_images : int
        Chosen for coverage; the first ``search_images`` of them judge the layers.
    budget, seconds : float
        See :func:`find_sensitive_layers`.
    symmetric : bool
        For TensorRT; False for processors.

    Returns
    -------
    dict
        ``kept_in_float``, ``layers``, ``calibration`` (file names), ``distance_full``,
        ``distance``, ``tried``, ``is_complete``.
    """
    loaded = load_package(Path(package), trusted_keys=[Path(key) for key in trusted_keys])
    known = Reference.model_validate(reference)
    pictures = [read_image(Path(images) / one.file_name) for one in known.samples]
    chosen = choose_for_coverage(_describe(loaded, pictures), calibration_images)
    batches = (make_batch([pictures[one]], loaded.manifest.input)[0] for one in chosen)
    quantizer = Quantizer(loaded.path / MODEL_NAME, batches, symmetric=symmetric)
    judged = chosen[:search_images]
    comparer = Comparer(
        loaded,
        [pictures[one] for one in judged],
        [known.samples[one] for one in judged],
        metric=known.metric,
    )

    def measure(kept: list[str]) -> float:
        model = quantizer.make(kept_in_float=kept)
        return comparer.compare(Predictor(loaded, threads=1, model=model)).distance

    search = find_sensitive_layers(
        quantizer.layers, measure, budget=budget, seconds=seconds, kinds=quantizer.kinds
    )
    quantizer.write(Path(target), kept_in_float=search.kept)
    return {
        "kept_in_float": search.kept,
        "layers": len(quantizer.layers),
        "calibration": [known.samples[one].file_name for one in chosen],
        "distance_full": search.distance_full,
        "distance": search.distance,
        "tried": search.tried,
        "is_complete": search.is_complete,
    }


def _describe(package: ModelPackage, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """What the model itself sees in each picture, and its light, contrast, blur and noise."""
    statistics = [list(measure_image(one).as_row().values()) for one in pictures]
    rows = np.array(statistics, np.float64)
    outputs = package.manifest.outputs
    if outputs.embedding is None and outputs.kind != "embedding":
        return rows
    vectors = Predictor(package, threads=1).embed(pictures).astype(np.float64)
    centred = vectors - vectors.mean(axis=0)
    # A few principal directions, so that hundreds of features do not outvote the light.
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    return np.concatenate([rows, centred @ directions[: 2 * rows.shape[1]].T], axis=1)
