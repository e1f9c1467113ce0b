"""Self-contained HTML pages of collection: templates, pictures inside the file."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from visionloop.data.pages import write_page

__all__ = ["as_data_url", "write_html"]

TEMPLATES = Path(__file__).parent / "templates"


def write_html(path: Path, template: str, **values: Any) -> Path:
    """Fill a template and write the page durably; every value is escaped."""
    return write_page(path, TEMPLATES / template, **values)


def as_data_url(content: bytes, kind: str) -> str:
    """A picture as the address of itself: ``as_data_url(content, "png")``."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
