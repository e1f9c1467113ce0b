"""INT8 of a package: calibration images chosen for coverage, sensitive layers kept in float.

A network quantized as a whole can lose half of its metric unnoticed. Layers are therefore
given back to float32, those first that lose most for what they save, until what is lost on
candidate images is within a budget.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionloop.core.image_statistics import measure_image
from visionloop.serving.images import read_image
from visionloop.serving.package import MODEL_NAME, ModelPackage, load_package
from visionloop.serving.predictor import Predictor
from visionloop.serving.preprocess import make_batch
from visionloop.serving.variants.layer_search import Search, find_sensitive_layers
from visionloop.serving.variants.loss import Comparer
from visionloop.serving.variants.quantizer import RANGES, Quantizer
from visionloop.serving.variants.reference import Reference, ReferenceSample
from visionloop.serving.variants.resize_model import resize_model

__all__ = ["Int8Settings", "choose_for_coverage", "write_int8"]

RANKING_IMAGES = 12
"""Images on which single layers are ranked: they are compared by a continuous measure."""


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


@dataclass(frozen=True)
class Int8Settings:
    """How an INT8 form is made.

    Attributes
    ----------
    calibration_images, search_images : int
        So many are chosen for coverage; the first ``search_images`` judge how many layers stay
        in float, the first ``calibration_images`` give the ranges.
    budget, seconds : float
        See :func:`find_sensitive_layers`.
    symmetric : bool
        For TensorRT; False for processors.
    """

    calibration_images: int
    search_images: int
    budget: float
    seconds: float
    symmetric: bool = True


def write_int8(
    *,
    package: str,
    trusted_keys: list[str],
    images: str,
    reference: dict[str, Any],
    target: str,
    settings: Mapping[str, Any],
    size: Sequence[int] | None = None,
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
    settings : mapping
        Fields of :class:`Int8Settings`.
    size : sequence of int or None
        Width and height of a fitted input: ranges and layers are found there. None: the package's.

    Returns
    -------
    dict
        ``kept_in_float``, ``layers``, ``ranges``, ``calibration`` (file names),
        ``distance_full``, ``distance``, ``tried``, ``is_complete``.

    Raises
    ------
    PackageError
        If the package is not in order, or its graph has one size only.
    """
    wanted = Int8Settings(**settings)
    loaded = load_package(Path(package), trusted_keys=[Path(key) for key in trusted_keys])
    known = Reference.model_validate(reference)
    pictures = [read_image(Path(images) / one.file_name) for one in known.samples]
    count = max(wanted.calibration_images, wanted.search_images)
    chosen = choose_for_coverage(_describe(loaded, pictures), count)
    pictures = [pictures[one] for one in chosen]
    samples = [known.samples[one] for one in chosen]
    model = loaded.read_model()
    if size is not None:
        loaded, model = resize_model(loaded, model, size[0], size[1])
    content, facts = _make(loaded, model, pictures, samples, known.metric, wanted)
    Path(target).write_bytes(content)
    calibration = samples[: wanted.calibration_images]
    return {**facts, "calibration": [one.file_name for one in calibration]}


def _make(
    package: ModelPackage,
    model: bytes,
    pictures: Sequence[NDArray[np.uint8]],
    samples: Sequence[ReferenceSample],
    metric: str,
    settings: Int8Settings,
) -> tuple[bytes, dict[str, Any]]:
    """INT8 of a model, and what was found on the way; pictures by falling coverage."""
    quantizer = _measure_ranges(
        package, model, pictures[: settings.calibration_images], settings.symmetric
    )
    judged = slice(settings.search_images)
    comparer = Comparer(package, pictures[judged], samples[judged], metric=metric, model=model)
    ranges, search = _search(package, quantizer, comparer, settings)
    return quantizer.make(kept_in_float=search.kept, ranges=ranges), {
        "kept_in_float": [*search.kept, *quantizer.cheap],
        "layers": len(quantizer.layers) + len(quantizer.cheap),
        "ranges": ranges,
        "distance_full": search.distance_full,
        "distance": search.distance,
        "tried": search.tried,
        "is_complete": search.is_complete,
    }


def _measure_ranges(
    package: ModelPackage, model: bytes, pictures: Sequence[NDArray[np.uint8]], symmetric: bool
) -> Quantizer:
    """What goes through each layer on the calibration pictures."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / MODEL_NAME
        source.write_bytes(model)
        batches = (make_batch([one], package.manifest.input)[0] for one in pictures)
        return Quantizer(source, batches, symmetric=symmetric)


def _search(
    package: ModelPackage, quantizer: Quantizer, comparer: Comparer, settings: Int8Settings
) -> tuple[str, Search]:
    """The way to make ranges whose answers differ less, and the layers that stay in float."""

    def open_form(kept: Sequence[str], ranges: str) -> Predictor:
        model = quantizer.make(kept_in_float=kept, ranges=ranges)
        return Predictor(package, threads=1, model=model)

    ranges = min(
        RANGES, key=lambda one: comparer.measure_noise(open_form([], one), 2 * RANKING_IMAGES)
    )
    return ranges, find_sensitive_layers(
        quantizer.layers,
        noise=lambda kept: comparer.measure_noise(open_form(kept, ranges), RANKING_IMAGES),
        distance=lambda kept: comparer.compare(open_form(kept, ranges)).distance,
        budget=settings.budget,
        seconds=settings.seconds,
        costs=quantizer.costs,
    )


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
