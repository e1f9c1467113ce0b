"""Recipes: named sets of numbers, each a file of overrides over the top-level ``params.yaml``."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from visionloop.core.errors import ConfigError
from visionloop.core.plugins import nearest_hint

__all__ = ["Recipe", "load_recipe", "project_files", "recipe_names", "render_params"]

HERE = Path(__file__).resolve()


@dataclass(frozen=True)
class Recipe:
    """A recipe.

    Attributes
    ----------
    name, description : str
    params : dict
        Deep overrides of the top-level ``params.yaml``.
    targets : dict or None
        The whole of ``targets.yaml``, or None for the top-level one.
    """

    name: str
    description: str
    params: dict[str, Any] = field(default_factory=dict)
    targets: dict[str, Any] | None = None


def project_files() -> Path:
    """Folder with ``params.yaml``, ``targets.yaml``, ``dvc.yaml``, ``MLproject`` to copy.

    In a checkout that is the repository itself; in an installed wheel they lie beside
    this module.
    """
    checkout = HERE.parents[4]
    return checkout if (checkout / "training" / "configs").is_dir() else HERE.parent / "project"


def recipe_names() -> list[str]:
    """Names of the recipes that exist."""
    return sorted(path.stem for path in _recipe_folder().glob("*.yaml"))


def load_recipe(name: str) -> Recipe:
    """Read a recipe.

    Raises
    ------
    ConfigError
        If there is none of this name.
    """
    path = _recipe_folder() / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(f"recipe '{name}'", "does not exist", nearest_hint(name, recipe_names()))
    content = yaml.safe_load(path.read_text())
    return Recipe(name, content["description"], content.get("params") or {}, content.get("targets"))


def render_params(recipe: Recipe) -> str:
    """The ``params.yaml`` of a recipe, with the comments of the top-level file kept."""
    from ruamel.yaml import YAML

    editor = YAML()
    editor.preserve_quotes = True
    editor.width = 100
    document = editor.load((project_files() / "params.yaml").read_text())
    _merge(document, {"project": {"recipe": recipe.name}})
    _merge(document, recipe.params)
    text = io.StringIO()
    editor.dump(document, text)
    return text.getvalue()


def _recipe_folder() -> Path:
    files = project_files()
    checkout = files / "training" / "configs"
    return checkout if checkout.is_dir() else files / "recipes"


def _merge(base: Any, overrides: dict[str, Any]) -> None:
    """Overlay nested mappings; lists and plain values are replaced whole."""
    for key, value in overrides.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value
