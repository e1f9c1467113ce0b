"""Self-contained HTML pages: one file, pictures inside, light and dark."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from visionloop.core.files import write_text
from visionloop.evaluation.measurements import Part

__all__ = ["evaluation_pictures", "inline_picture", "metric_rows", "render_page"]

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


def inline_picture(path: Path) -> str:
    """A PNG as a data URL; empty where there is no such file."""
    if not path.is_file():
        return ""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def evaluation_pictures(folder: Path) -> dict[str, str]:
    """The pictures of an evaluation folder as data URLs, by name."""
    names = ("slices", "confusion", "curves", "worst")
    return {name: inline_picture(folder / f"{name}.png") for name in names}


def metric_rows(part: Part) -> list[tuple[str, Any]]:
    """Name and estimate of every metric, those of the classes last."""
    rows: list[tuple[str, Any]] = list(part.metrics.items())
    for class_name, estimates in part.classes.items():
        rows += [(f"{metric} of {class_name}", one) for metric, one in estimates.items()]
    return rows


def _number(value: float | None) -> str:
    """Three digits after the point below 10, one above."""
    if value is None:
        return "–"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _span(row: Any) -> str:
    """The interval of anything with ``low`` and ``high``."""
    if row is None or row.low is None or row.high is None:
        return ""
    return f"{_number(row.low)} to {_number(row.high)}"


def _short(sha256: str) -> str:
    return sha256[:12]
