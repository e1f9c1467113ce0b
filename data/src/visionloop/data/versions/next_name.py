"""``data freeze --next``: a new name for what is annotated now, where the old one is taken."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from visionloop.core.errors import ConfigError
from visionloop.core.files import read_json, write_text
from visionloop.core.workspace import Workspace
from visionloop.data.params import load_params
from visionloop.data.versions.freeze import read_work

__all__ = ["take_next_name"]


def take_next_name(workspace: Workspace) -> str:
    """The name to freeze under; ``data.version`` in ``params.yaml`` says it afterwards.

    It stays as it is while no version of that name has other content. Else the number at
    its end grows until the name is free: v1, v2; parts, parts-2.

    Raises
    ------
    DataError
        As freezing would.
    """
    name = load_params(workspace)[1].version
    manifest = workspace.version(name) / "manifest.json"
    if not manifest.exists():
        return name
    if str(read_json(manifest)["fingerprint"]) == read_work(workspace).fingerprint:
        return name
    while (workspace.version(name) / "manifest.json").exists():
        name = _following(name)
    _set_scalar(workspace.params, ("data", "version"), name)
    return name


def _following(name: str) -> str:
    found = re.search(r"\d+$", name)
    if found is None:
        return f"{name}-2"
    return f"{name[: found.start()]}{int(found.group()) + 1}"


def _set_scalar(path: Path, place: tuple[str, ...], value: str) -> None:
    """Change one value of a YAML file; every other character stays, comments too."""
    text = path.read_text(encoding="utf-8")
    node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    for key in place:
        found = [below for above, below in node.value if above.value == key]
        if not found:
            raise ConfigError(str(path), f"'{'.'.join(place)}' is missing")
        node = found[0]
    written = yaml.safe_dump(value).removesuffix("\n").removesuffix("\n...")
    changed = text[: node.start_mark.index] + written + text[node.end_mark.index :]
    write_text(path, changed)
