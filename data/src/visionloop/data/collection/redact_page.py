"""The page of ``redact``: counts, what was withheld and why, redacted pictures to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2

from visionloop.data.collection.html_report import as_data_url, write_html
from visionloop.serving.images import read_image

if TYPE_CHECKING:
    from visionloop.data.collection.redact import RedactReport
    from visionloop.data.collection.redact_staging import RedactedPicture

__all__ = ["write_redaction_page"]

SHOWN = 24
"""Pictures with boxes, and as many without."""
_THUMBNAIL = 420


def write_redaction_page(
    report: RedactReport, rows: Sequence[RedactedPicture], content: dict[str, Any], folder: Path
) -> Path:
    """Write the page. Only redacted pictures are shown: the page may leave the site too."""
    with_boxes = sorted(
        (row for row in rows if row.boxes), key=lambda row: (-len(row.boxes), row.name)
    )
    without = [row for row in rows if not row.boxes and not row.withheld]
    return write_html(
        report.page,
        "redact.html.j2",
        report=report,
        content=content,
        redacted=[_show(row, folder) for row in _spread(with_boxes)],
        untouched=[_show(row, folder) for row in _spread(without)],
    )


def _spread(rows: Sequence[RedactedPicture]) -> list[RedactedPicture]:
    """At most ``SHOWN`` of them, evenly from the first to the last."""
    if len(rows) <= SHOWN:
        return list(rows)
    return [rows[number * len(rows) // SHOWN] for number in range(SHOWN)]


def _show(row: RedactedPicture, folder: Path) -> dict[str, Any]:
    image = read_image(folder / row.name)
    scale = min(1.0, _THUMBNAIL / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    for box in row.boxes:
        x1, y1, x2, y2 = (round(value * scale) for value in box)
        cv2.rectangle(small, (x1, y1), (x2 - 1, y2 - 1), (60, 60, 235), 1)
    done, coded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])
    picture = as_data_url(bytes(coded), "jpeg") if done else ""
    return {"name": row.name, "boxes": len(row.boxes), "picture": picture}
