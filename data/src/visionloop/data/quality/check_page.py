"""The page of ``check``: verdict, counts, findings with their pictures, in one file."""

from __future__ import annotations

import base64
import html
from pathlib import Path
from typing import TYPE_CHECKING

from visionloop.core.files import write_text

if TYPE_CHECKING:
    from visionloop.data.quality.contract import CheckReport

__all__ = ["write_page"]

MAX_ROWS = 200
MAX_PICTURES = 60
THUMBNAIL = 96

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;
color:#1c2330;background:#fff}
h1{font-size:1.5rem}table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #dde2ea;vertical-align:middle}
td.n{text-align:right;font-variant-numeric:tabular-nums}
.passed{color:#0b6b3a}.refused{color:#a11d1d}.bar{background:#3b6fb6;height:.8rem;display:block}
img{width:64px;height:64px;object-fit:cover;display:block}
code{font-size:.85em}@media(prefers-color-scheme:dark){body{color:#e6e9ef;background:#14181f}
th,td{border-color:#2c3440}.passed{color:#5fd39a}.refused{color:#ff8a8a}}
"""


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
    verdict = "passed" if report.is_passed else "refused"
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width,initial-scale=1'>",
        f"<title>Data contract: {verdict}</title><style>{_STYLE}</style>",
        f"<h1>Data contract: <span class='{verdict}'>{verdict}</span></h1>",
        _list("Breaches", report.breaches),
        "<h2>Annotations by class</h2>",
        _class_table(report.class_counts),
        "<h2>What was found</h2>",
        _count_table(report.counts),
        _finding_table(report, images, names),
    ]
    return write_text(path, "\n".join(parts) + "</html>\n")


def _list(title: str, rows: tuple[str, ...]) -> str:
    if not rows:
        return ""
    return (
        f"<h2>{title}</h2><ul>" + "".join(f"<li>{html.escape(row)}</li>" for row in rows) + "</ul>"
    )


def _class_table(counts: dict[str, int]) -> str:
    most = max([*counts.values(), 1])
    rows = "".join(
        f"<tr><td>{html.escape(name)}<td class='n'>{count}"
        f"<td style='width:60%'><span class='bar' style='width:{100 * count / most:.0f}%'></span>"
        for name, count in counts.items()
    )
    return f"<table>{rows}</table>"


def _count_table(counts: dict[str, int]) -> str:
    from visionloop.data.quality.findings import MEANING

    rows = "".join(
        f"<tr><td>{html.escape(MEANING.get(name, name))}<td class='n'>{count}"
        for name, count in counts.items()
    )
    return f"<table>{rows}</table>"


def _finding_table(report: CheckReport, images: Path, names: dict[str, str]) -> str:
    if not report.findings:
        return "<p>No findings.</p>"
    rows = []
    for number, found in enumerate(report.findings[:MAX_ROWS]):
        picture = ""
        if number < MAX_PICTURES and found.sample_id in names:
            picture = _thumbnail(images / names[found.sample_id])
        rows.append(
            f"<tr><td>{picture}<td>{html.escape(found.kind)}<td>{html.escape(found.reason)}"
            f"<td><code>{html.escape(found.sample_id[:12])}</code>"
        )
    more = len(report.findings) - MAX_ROWS
    note = f"<p>{more} more in check.json.</p>" if more > 0 else ""
    head = "<tr><th><th>kind<th>reason<th>sample"
    return f"<h2>Findings, worst first</h2><table>{head}{''.join(rows)}</table>{note}"


def _thumbnail(path: Path) -> str:
    import cv2

    from visionloop.core.errors import DataError
    from visionloop.serving.images import read_image

    try:
        image = read_image(path)
    except DataError:
        return ""
    size = max(image.shape[:2])
    scale = min(1.0, THUMBNAIL / size)
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    done, coded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])
    if not done:
        return ""
    text = base64.b64encode(bytes(coded)).decode()
    return f"<img alt='' src='data:image/jpeg;base64,{text}'>"
