"""The page that tells people how to ask the server: from the OpenAPI document, nothing loaded."""

from __future__ import annotations

from html import escape
from typing import Any

__all__ = ["render_page"]

STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .3rem; }
code, pre { font: 14px/1.45 ui-monospace, monospace; }
pre { padding: .8rem 1rem; border: 1px solid var(--line); border-radius: 6px; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
td, th { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0;
         border-top: 1px solid var(--line); }
.method { font-weight: 700; } .soft { opacity: .7; }
"""

SHOWN = (
    *("PredictRequest", "AskedPicture", "PredictAnswer", "PictureAnswer", "BoxAnswer"),
    *("Milliseconds", "ModelAnswer", "Problems"),
)
"""Schemas, in the order of the page."""

EXAMPLE = """\
# one picture
curl --data-binary @cell.jpg -H 'Content-Type: image/jpeg' \\
     -H "Authorization: Bearer $TOKEN" {base}/v1/predict

# several, with a confidence of your own
curl -F images=@one.jpg -F images=@two.png -F minimum_confidence=0.4 \\
     -H "Authorization: Bearer $TOKEN" {base}/v1/predict"""


def render_page(document: dict[str, Any], base: str) -> str:
    """A self-contained HTML page.

    Parameters
    ----------
    document : dict
        OpenAPI 3.
    base : str
        Address of the server, for the examples.
    """
    schemas = document.get("components", {}).get("schemas", {})
    parts = [
        f"<h1>{escape(document['info']['title'])}</h1>",
        *(f"<p>{_text(line)}</p>" for line in document["info"]["description"].split("\n\n")),
        f"<pre>{escape(EXAMPLE.format(base=base))}</pre>",
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts.append(_render_operation(method, path, operation))
    parts += ["<h2>Requests and answers</h2>"]
    parts += [_render_schema(name, schemas[name]) for name in SHOWN]
    parts.append(
        '<p class="soft">As a document for programs: <a href="openapi.json">openapi.json</a></p>'
    )
    body = "\n".join(parts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>visionloop</title>'
        f"<style>{STYLE}</style></head><body>{body}</body></html>"
    )


def _render_operation(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(status)}</code></td><td>{_text(response['description'])}</td></tr>"
        for status, response in operation["responses"].items()
    )
    body = operation.get("requestBody", {})
    kinds = ", ".join(f"<code>{escape(kind)}</code>" for kind in body.get("content", {}))
    takes = f"<p>{_text(body['description'])} Takes {kinds}.</p>" if body else ""
    return (
        f'<h2><span class="method">{escape(method.upper())}</span> <code>{escape(path)}</code></h2>'
        f"<p>{_text(operation.get('summary', ''))}</p>{takes}<table>{rows}</table>"
    )


def _render_schema(name: str, schema: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(field)}</code></td><td>{escape(_type(about))}</td>"
        f"<td>{_text(about.get('description', ''))}</td></tr>"
        for field, about in schema.get("properties", {}).items()
    )
    return (
        f"<h3><code>{escape(name)}</code></h3><p>{_text(schema.get('description', ''))}</p>"
        f"<table>{rows}</table>"
    )


def _type(about: dict[str, Any]) -> str:
    if "$ref" in about:
        return str(about["$ref"]).rpartition("/")[2]
    if "anyOf" in about:
        return " or ".join(_type(one) for one in about["anyOf"])
    if about.get("type") == "array":
        return f"list of {_type(about['items'])}"
    if about.get("type") == "object" and isinstance(about.get("additionalProperties"), dict):
        return f"{_type(about['additionalProperties'])} by name"
    return str(about.get("type", ""))


def _text(text: str) -> str:
    """Escaped, with `code` and **strong** of the document kept."""
    pieces = escape(text).split("`")
    text = "".join(f"<code>{p}</code>" if n % 2 else p for n, p in enumerate(pieces))
    pieces = text.split("**")
    return "".join(f"<strong>{p}</strong>" if n % 2 else p for n, p in enumerate(pieces))
