"""The page of collection: what each camera gave, its newest pictures, its faults."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2

from visionloop.core.errors import DataError
from visionloop.core.workspace import Workspace
from visionloop.data.collection.html_report import as_data_url, write_html
from visionloop.data.raw import read_samples
from visionloop.serving.images import read_image

if TYPE_CHECKING:
    import pandas

    from visionloop.data.collection.run import CamerasReport

__all__ = ["write_cameras_page"]

SHOWN = 8
"""Newest pictures of a camera."""
THUMBNAIL = 300
"""Longer side, pixels."""


def write_cameras_page(report: CamerasReport, workspace: Workspace) -> Path:
    """Write ``reports/collect/index.html``: counts, newest pictures and lens states."""
    samples = _collected(workspace)
    rows = [
        {"report": row, **_newest(samples, row.camera, workspace.images)} for row in report.cameras
    ]
    minutes, seconds = divmod(round(report.seconds), 60)
    return write_html(
        workspace.reports / "collect" / "index.html",
        "cameras.html.j2",
        rows=rows,
        kept=report.kept,
        similar=sum(row.similar + row.known for row in report.cameras),
        missed=sum(row.missed + row.no_space + row.misfit for row in report.cameras),
        faults=sum(row.faults for row in report.cameras),
        faulty=sum(bool(row.fault) for row in report.cameras),
        duration=f"{minutes} min {seconds} s" if minutes else f"{seconds} s",
        ended_at=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _collected(workspace: Workspace) -> pandas.DataFrame | None:
    try:
        samples = read_samples(workspace)
    except DataError:  # nothing was kept yet
        return None
    if "lens_state" not in samples:
        return None
    return samples[samples["lens_state"].notna()].sort_values("captured_at", ascending=False)


def _newest(samples: pandas.DataFrame | None, camera: str, images: Path) -> dict[str, Any]:
    if samples is None:
        return {"pictures": [], "lens": ""}
    mine = samples[samples["camera"] == camera]
    states = [f"{count} {state}" for state, count in mine["lens_state"].value_counts().items()]
    pictures = [
        {
            "url": _thumbnail(images / row.file_name),
            "when": row.captured_at[:19].replace("T", " "),
            "by": row.collected_by,
            "lens": row.lens_state,
            "luminance": row.luminance,
            "contrast": row.contrast,
            "blur": row.blur,
        }
        for row in mine.head(SHOWN).itertuples()
        if (images / row.file_name).is_file()
    ]
    return {"pictures": pictures, "lens": ", ".join(states)}


def _thumbnail(path: Path) -> str:
    try:
        image = read_image(path)
    except DataError:
        return ""
    scale = min(1.0, THUMBNAIL / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    done, coded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])
    return as_data_url(bytes(coded), "jpeg") if done else ""
