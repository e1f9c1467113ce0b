"""The drift report as one self-contained HTML page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import DataError
from visionloop.core.workspace import Workspace
from visionloop.monitoring.families import FamilyDecision
from visionloop.monitoring.novelty import measure_novelty
from visionloop.monitoring.picture_features import find_picture
from visionloop.monitoring.plots import Figure
from visionloop.monitoring.two_sample import ColumnTest
from visionloop.monitoring.windows import Window, common_embeddings

__all__ = ["choose_pictures", "render_page", "show_p_value"]

TEMPLATES = Path(__file__).parent / "templates"
THUMBNAIL_PIXELS = 176

TITLES = {
    "embeddings": "Embeddings",
    "image_statistics": "Image statistics",
    "predictions": "Predictions",
}


def render_page(
    content: dict[str, Any],
    *,
    families: Sequence[FamilyDecision],
    figures: dict[str, Figure],
    pictures: dict[str, list[dict[str, Any]]],
) -> str:
    """The page as HTML text; pictures and plots are inside, nothing is fetched.

    Parameters
    ----------
    content : dict
        What ``drift.json`` holds.
    families : sequence of FamilyDecision
    figures : dict
        Family to its plot.
    pictures : dict
        ``reference``, ``current`` and ``novel``: as :func:`choose_pictures` gives them.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    shown = [_family_content(family, figures.get(family.name)) for family in families]
    template = environment.get_template("drift.html.j2")
    return template.render(**{**content, "families": shown, "pictures": pictures})


def choose_pictures(
    workspace: Workspace, reference: Window, current: Window, count: int
) -> dict[str, list[dict[str, Any]]]:
    """Example pictures: of both windows evenly over time, and the most novel current ones.

    Frames whose picture was not kept or is damaged are passed over.
    """
    chosen = {
        "reference": _thumbnails(workspace, reference, _evenly(workspace, reference, count)),
        "current": _thumbnails(workspace, current, _evenly(workspace, current, count)),
        "novel": [],
    }
    pair = common_embeddings(reference, current)
    if pair is not None and len(pair[0].rows) > 1:
        first, second = pair
        distances = measure_novelty(first.vectors, second.vectors).current
        rows = second.rows[np.argsort(-distances, kind="stable")]
        pictured = [row for row in rows[: 4 * count] if find_picture(workspace, _row(current, row))]
        chosen["novel"] = _thumbnails(workspace, current, np.array(pictured[:count], np.int64))
    return chosen


def show_p_value(value: float | None) -> str:
    """A p-value for people."""
    if value is None:
        return "–"
    return "p < 0.0001" if value < 1e-4 else f"p = {value:.4f}".rstrip("0").rstrip(".")


def _family_content(family: FamilyDecision, figure: Figure | None) -> dict[str, Any]:
    return {
        "title": TITLES.get(family.name, family.name.replace("_", " ").capitalize()),
        "status": family.status,
        "note": family.note,
        "shown_p_value": show_p_value(family.adjusted_p_value),
        "plot": figure and {"light": _as_url(figure.light), "dark": _as_url(figure.dark)},
        "tests": [_test_content(test) for test in family.tests],
    }


def _test_content(test: ColumnTest) -> dict[str, str]:
    return {
        "name": test.name.replace("probability_", "probability of "),
        "method": test.method,
        "note": test.note,
        "reference": _show(test.reference),
        "current": _show(test.current),
        "statistic": _show(test.statistic),
        "p_value": show_p_value(test.p_value).removeprefix("p = ").removeprefix("p "),
    }


def _show(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _evenly(workspace: Workspace, window: Window, count: int) -> NDArray[np.int64]:
    kept = [row for row in range(len(window)) if find_picture(workspace, _row(window, row))]
    if len(kept) <= count:
        return np.array(kept, np.int64)
    return np.array(kept, np.int64)[np.linspace(0, len(kept) - 1, count).round().astype(np.int64)]


def _row(window: Window, row: int) -> Any:
    return window.frames.iloc[int(row)]


def _thumbnails(
    workspace: Workspace, window: Window, rows: NDArray[np.int64]
) -> list[dict[str, Any]]:
    import cv2

    from visionloop.serving.images import read_image

    thumbnails = []
    for number in rows:
        row = _row(window, number)
        path = find_picture(workspace, row)
        try:
            picture = read_image(path) if path else None
        except DataError:
            continue
        if picture is None:
            continue
        scale = THUMBNAIL_PIXELS / max(picture.shape[:2])
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        _, encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 82])
        thumbnails.append(
            {
                "source": _as_url(encoded.tobytes(), "image/jpeg"),
                "caption": _caption(row),
                "camera": row["camera"],
                "sequence": row["sequence"],
            }
        )
    return thumbnails


def _caption(row: Any) -> str:
    if row["predicted_class"]:
        return f"{row['predicted_class']} {row['confidence']:.2f}"
    if row["boxes"] >= 0:
        return f"{int(row['boxes'])} box{'' if row['boxes'] == 1 else 'es'}"
    return str(row["captured_at"])


def _as_url(content: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
