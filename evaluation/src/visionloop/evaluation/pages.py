"""Self-contained HTML pages: one file, pictures inside, light and dark."""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionloop.core.files import write_text
from visionloop.evaluation.measurements import Part, Robustness

__all__ = [
    "InlinePicture",
    "condition_table",
    "evaluation_pictures",
    "inline_picture",
    "metric_rows",
    "render_page",
]

PICTURE_SCALE = 1.5
"""Dots of a picture for one CSS pixel."""
TEMPLATES = Path(__file__).parent / "templates"


def render_page(path: Path, template: str, **values: Any) -> Path:
    """Fill a template of ``templates/`` and write the page durably.

    Every value is escaped, so that a class name or a reason cannot become markup.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "span": _span, "short": _short}
    return write_text(path, environment.get_template(template).render(**values))


@dataclass(frozen=True)
class InlinePicture:
    """A PNG inside a page: data URL and the width at which it is shown, CSS pixels."""

    url: str
    width: int


def inline_picture(path: Path) -> InlinePicture | None:
    """Read a PNG; None where there is no such file."""
    if not path.is_file():
        return None
    content = path.read_bytes()
    (dots,) = struct.unpack(">I", content[16:20])
    url = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    return InlinePicture(url, round(dots / PICTURE_SCALE))


def evaluation_pictures(folder: Path) -> dict[str, InlinePicture | None]:
    """The pictures of an evaluation folder by name."""
    names = ("slices", "confusion", "curves", "worst", "mistakes")
    return {name: inline_picture(folder / f"{name}.png") for name in names}


def metric_rows(part: Part) -> list[tuple[str, Any]]:
    """Name and estimate of every metric, those of the classes last."""
    rows: list[tuple[str, Any]] = list(part.metrics.items())
    for class_name, estimates in part.classes.items():
        rows += [(f"{metric} of {class_name}", one) for metric, one in estimates.items()]
    return rows


def condition_table(robustness: Robustness) -> tuple[list[int], list[dict[str, Any]]]:
    """Severities, and one row a condition: its estimates by severity, mPC and rPC; worst first."""
    severities = sorted({row.severity for row in robustness.results})
    known = {(row.condition, row.severity): row.metric for row in robustness.results}
    rows = [
        {
            "condition": name,
            "estimates": [known.get((name, severity)) for severity in severities],
            "mean": one.mean,
            "retained": one.retained,
        }
        for name, one in robustness.conditions.items()
    ]
    rows.sort(key=lambda row: (row["mean"] is None, row["mean"]))
    return severities, rows


def _number(value: float | None) -> str:
    """Three digits after the point below 10, one above; what would vanish as a power."""
    if value is None:
        return "–"
    if 0 < abs(value) < 0.0005:
        return f"{value:.0e}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _span(row: Any) -> str:
    """The interval of anything with ``low`` and ``high``."""
    if row is None or row.low is None or row.high is None:
        return ""
    return f"{_number(row.low)} to {_number(row.high)}"


def _short(sha256: str) -> str:
    return sha256[:12]
