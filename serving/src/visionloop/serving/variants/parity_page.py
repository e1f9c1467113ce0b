"""The parity page: what each precision variant loses, and the pictures on which it differs most."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Detections, Prediction
from visionloop.core.files import write_bytes, write_json, write_text
from visionloop.core.targets import ParityTargets
from visionloop.serving.engines.record import EngineManifest
from visionloop.serving.package import ModelPackage
from visionloop.serving.variants.make import MadeVariant

__all__ = ["draw_pair", "write_parity_page"]

TEMPLATES = Path(__file__).parent / "templates"
PAGE_NAME, NUMBERS_NAME = "index.html", "parity.json"
SIDE = 320
"""Longer side of a shown picture, pixels."""
COLOURS = ((196, 130, 59), (58, 133, 232))
"""BGR of FP32's boxes and of the variant's."""


def draw_pair(
    path: Path,
    image: NDArray[np.uint8],
    first: Prediction,
    second: Prediction,
    classes: Sequence[str],
) -> None:
    """Write a JPEG of an image with FP32's answer on the left and the variant's on the right."""
    halves = [
        _draw(image, one, classes, colour)
        for one, colour in zip((first, second), COLOURS, strict=True)
    ]
    gap = np.full((halves[0].shape[0], 6, 3), 255, np.uint8)
    joined = np.concatenate([halves[0], gap, halves[1]], axis=1)
    _, content = cv2.imencode(".jpg", joined, [cv2.IMWRITE_JPEG_QUALITY, 85])
    write_bytes(path, content.tobytes())


def write_parity_page(
    folder: Path,
    package: ModelPackage,
    manifest: EngineManifest,
    made: Sequence[MadeVariant],
    limits: ParityTargets,
) -> Path:
    """Write ``index.html`` (one file, pictures inside) and ``parity.json``; returns the page."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    values: dict[str, Any] = {
        "package": package,
        "manifest": manifest,
        "variants": [_shown(one) for one in made],
        "limits": limits,
        "fp32_bytes": (package.path / "model.onnx").stat().st_size,
    }
    write_json(
        folder / NUMBERS_NAME,
        {
            "package": package.sha256,
            "limits": limits.model_dump(mode="json"),
            "variants": [one.facts.model_dump(mode="json") for one in made],
            "engines": [one.model_dump(mode="json") for one in manifest.engines],
            "measured": manifest.measured,
        },
    )
    return write_text(folder / PAGE_NAME, environment.get_template("parity.html.j2").render(values))


def _shown(made: MadeVariant) -> dict[str, Any]:
    """What the template needs of a variant: facts, points of the plot, pictures as data URLs."""
    folder = Path(made.shown["pictures"]) if made.shown else None
    pictures = []
    for place, row in enumerate(made.shown.get("worst", [])):
        path = folder / f"{place}.jpg" if folder else None
        if path is not None and path.is_file():
            url = base64.b64encode(path.read_bytes()).decode()
            changed = int(row["difference"]) if row["difference"] >= 1 else 0
            pictures.append(
                {
                    "url": f"data:image/jpeg;base64,{url}",
                    "name": Path(row["file_name"]).stem[:10],
                    "difference": row["difference"],
                    "changed": changed,
                }
            )
    points = [(20 + 200 * x, 220 - 200 * y) for x, y in made.shown.get("pairs", [])]
    return {"facts": made.facts, "points": points, "pictures": pictures, "search": made.search}


def _draw(
    image: NDArray[np.uint8], prediction: Prediction, classes: Sequence[str], colour: Any
) -> NDArray[np.uint8]:
    scale = SIDE / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    shown = np.ascontiguousarray(cv2.resize(image, size, interpolation=way), np.uint8)
    answer = prediction.answer
    if isinstance(answer, Detections):
        for xyxy, class_id, confidence in zip(
            answer.xyxy * scale, answer.class_id, answer.confidence, strict=True
        ):
            x1, y1, x2, y2 = (round(float(v)) for v in xyxy)
            cv2.rectangle(shown, (x1, y1), (x2, y2), colour, 2)
            text = f"{classes[class_id]} {confidence:.2f}"
            _write(shown, text, (x1 + 2, max(y1 - 3, 10)))
        return np.asarray(shown, np.uint8)
    lines = sorted(zip(answer.probabilities.tolist(), classes, strict=True), reverse=True)[:3]
    for place, (probability, name) in enumerate(lines):
        _write(shown, f"{name} {probability:.3f}", (6, 18 + 18 * place))
    return np.asarray(shown, np.uint8)


def _write(image: NDArray[np.uint8], text: str, place: tuple[int, int]) -> None:
    plain = text.encode("ascii", "replace").decode()
    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(image, plain, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, width, cv2.LINE_AA)
