"""The page of ``check``: verdict, counts, findings with their pictures, in one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionloop.data import pages
from visionloop.data.quality.finding import MEANING, Finding

if TYPE_CHECKING:
    from visionloop.data.quality.contract import CheckReport

__all__ = ["write_page"]

TEMPLATE = Path(__file__).parent / "templates" / "check.html.j2"
PICTURES_OF_KIND = 12
MAX_ROWS = 100
"""Of one kind; the JSON file has all."""


def write_page(path: Path, report: CheckReport, images: Path, names: dict[str, str]) -> Path:
    """Write the page of a check.

    Parameters
    ----------
    path : Path
    report : CheckReport
    images : Path
        Folder of the image files.
    names : dict of sample id to file name
    """
    by_kind: dict[str, list[Finding]] = {}
    for row in report.findings:
        by_kind.setdefault(row.kind, []).append(row)
    sections = [_section(kind, rows, images, names) for kind, rows in by_kind.items()]
    most = max([*report.class_counts.values(), 1])
    return pages.write_page(
        path,
        TEMPLATE,
        report=report,
        sections=sections,
        classes=[(name, count, 100 * count / most) for name, count in report.class_counts.items()],
    )


def _section(kind: str, rows: list[Finding], images: Path, names: dict[str, str]) -> dict[str, Any]:
    shown = []
    for number, row in enumerate(rows[:MAX_ROWS]):
        picture = ""
        if number < PICTURES_OF_KIND and row.sample_id in names:
            boxes = [row.xyxy] if row.xyxy is not None else []
            picture = pages.picture_of(images / names[row.sample_id], boxes=boxes, side=220)
        shown.append({"finding": row, "picture": picture})
    return {
        "kind": kind,
        "meaning": MEANING.get(kind, kind),
        "count": len(rows),
        "is_breach": any(row.is_breach for row in rows),
        "pictures": [row for row in shown if row["picture"]],
        "rows": [row for row in shown if not row["picture"]],
        "more": max(0, len(rows) - MAX_ROWS),
    }
