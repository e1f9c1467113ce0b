"""Self-contained HTML pages of collection: templates, pictures inside the file."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from visionloop.core.files import write_text

__all__ = ["as_data_url", "write_html"]

TEMPLATES = Path(__file__).parent / "templates"


def write_html(path: Path, template: str, **values: Any) -> Path:
    """Fill a template and write the page durably; every value is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return write_text(path, environment.get_template(template).render(**values))


def as_data_url(content: bytes, kind: str) -> str:
    """A picture as the address of itself: ``as_data_url(content, "png")``."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
