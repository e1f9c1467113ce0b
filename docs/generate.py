"""Writes what the docs take from the code: the tree of modules and the table of parameters.

``make docs`` runs it; an architecture test fails when a page is out of date.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

ROOT = Path(__file__).resolve().parents[1]
STAGES = {
    "core": "what every stage shares",
    "serving": "packages, backends, engines, releases, the edge",
    "data": "collect, import, check, split, version",
    "labeling": "Label Studio",
    "training": "model families, training, export",
    "evaluation": "metrics, worst case, gate, promotion",
    "monitoring": "windows, drift, feedback",
    "pipelines": "what spans stages",
}
BLOCKS = {
    "project": "visionloop.core.config:ProjectParams",
    "data": "visionloop.data.params:DataParams",
    "labeling": "visionloop.labeling.params:LabelingParams",
    "training": "visionloop.training.params:TrainingParams",
    "evaluation": "visionloop.evaluation.params:EvaluationParams",
    "serving": "visionloop.serving.params:ServingParams",
    "monitoring": "visionloop.monitoring.params:MonitoringParams",
}


def render_tree() -> str:
    """Every module with the first line of its docstring, stage by stage."""
    lines = []
    for stage, meaning in STAGES.items():
        lines.append(f"{stage}/  {meaning}")
        package = ROOT / stage / "src" / "visionloop" / stage
        for path in sorted(package.rglob("*.py")):
            if path.name in ("__init__.py", "__main__.py"):
                continue
            docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
            first = docstring.splitlines()[0] if docstring else ""
            name = path.relative_to(package).as_posix()
            lines.append(f"    {name:<32} {first.replace('.py', '')}".rstrip())
    return "\n".join(lines) + "\n"


def render_params() -> str:
    """A table of every key of ``params.yaml``: type, default, meaning."""
    lines = [
        "# params.yaml: every number a person may change",
        "",
        "Generated from the models that read the file; unknown keys are refused.",
        "",
    ]
    for block, path in BLOCKS.items():
        module, _, name = path.partition(":")
        model = getattr(importlib.import_module(module), name)
        lines += [f"## {block}", "", "| key | default | meaning |", "|---|---|---|"]
        lines += list(_rows(model, block))
        lines.append("")
    return "\n".join(lines)


def _rows(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        place = f"{prefix}.{field.alias or name}"
        nested = _nested(field.annotation)
        if nested is not None:
            suffix = "[]" if "list" in str(field.annotation) else ""
            yield f"| **`{place}{suffix}`** | | {field.description or ''} |"
            yield from _rows(nested, place + suffix)
        else:
            yield f"| `{place}` | {_default(field)} | {field.description or ''} |"


def _default(field: Any) -> str:
    if field.default_factory is not None:
        return f"`{field.default_factory()}`"
    return "required" if field.default is PydanticUndefined else f"`{field.default}`"


def _nested(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        found = _nested(part)
        if found is not None:
            return found
    return None


def pages() -> dict[Path, str]:
    """The content that each generated page should have."""
    architecture = ROOT / "docs" / "architecture.md"
    before, _, rest = architecture.read_text().partition("```tree\n")
    _, _, after = rest.partition("```")
    return {
        architecture: f"{before}```tree\n{render_tree()}```{after}",
        ROOT / "docs" / "params.md": render_params(),
    }


if __name__ == "__main__":
    for path, content in pages().items():
        path.write_text(content)
        print(path.relative_to(ROOT), file=sys.stderr)
