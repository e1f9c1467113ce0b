"""Compares an ONNX form of a package with the package itself, on image files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from visionloop.serving.images import read_image
from visionloop.serving.package import load_package
from visionloop.serving.predictor import Predictor
from visionloop.serving.variants.loss import Comparer
from visionloop.serving.variants.reference import Reference
from visionloop.serving.variants.resize_model import at_size

__all__ = ["compare_variant"]


def compare_variant(
    *,
    package: str,
    trusted_keys: list[str],
    model: str,
    images: str,
    reference: dict[str, Any],
    pictures: str = "",
    shown: int = 6,
    size: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Compare a package with another ONNX form of its model on image files.

    Call it apart: a badly converted model has crashed ONNX Runtime.

    Parameters
    ----------
    package, model, images, pictures : str
        Paths: the package, the ONNX file, the folder of images, and a folder for drawings of
        the ``shown`` images on which the two forms differ most (empty draws none).
    trusted_keys : list of str
        Paths of public keys.
    reference : dict
        A :class:`Reference`; all its samples are compared.
    size : sequence of int or None
        Width and height of the other form's input; None is the package's.

    Returns
    -------
    dict
        :meth:`VariantParity.as_row`, ``pairs``, and ``worst``: file names and differences.
    """
    loaded = load_package(Path(package), trusted_keys=[Path(key) for key in trusted_keys])
    known = Reference.model_validate(reference)
    decoded = [read_image(Path(images) / one.file_name) for one in known.samples]
    comparer = Comparer(loaded, decoded, known.samples, metric=known.metric)
    resized = loaded if size is None else at_size(loaded, size[0], size[1])
    other = Predictor(resized, threads=1, model=Path(model).read_bytes())
    found = comparer.compare(other)
    order = np.argsort(-np.array(found.parity.by_image), kind="stable")[:shown]
    worst = [
        {"file_name": known.samples[one].file_name, "difference": found.parity.by_image[one]}
        for one in order
    ]
    if pictures and loaded.manifest.vision_task != "embedding":
        from visionloop.serving.variants.parity_page import draw_pair

        answers = other.predict([decoded[one] for one in order])
        own = Predictor(loaded, threads=1).predict([decoded[one] for one in order])
        for place, number in enumerate(order):
            path = Path(pictures) / f"{place}.jpg"
            draw_pair(path, decoded[number], own[place], answers[place], loaded.manifest.classes)
    return {**found.as_row(), "pairs": [list(one) for one in found.pairs], "worst": worst}
