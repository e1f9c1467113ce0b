"""Plug-in tables: ``name -> "module:Class"``, resolved on use.

A table is a plain dictionary in the module that owns it, so that reading the
file shows every choice, and importing it imports none of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from visionloop.core.errors import ConfigError, MissingExtraError

__all__ = ["nearest_hint", "resolve"]


def resolve(table: Mapping[str, str], name: str, *, kind: str, extra: str = "") -> Any:
    """Import and return the row ``name`` of a plug-in table.

    Parameters
    ----------
    table : mapping of str to str
        Rows of the form ``"package.module:attribute"``.
    name : str
        The row wanted.
    kind : str
        What the rows are, for messages: "model family", "dataset", "backend".
    extra : str
        The optional extra that brings the libraries of this table.

    Raises
    ------
    ConfigError
        If there is no such row; the nearest names are offered.
    MissingExtraError
        If the row exists but a library that it needs is not installed.
    """
    if name not in table:
        raise ConfigError(
            f"{kind} '{name}'", "there is no such row in the table", nearest_hint(name, table)
        )
    module_name, _, attribute = table[name].partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("visionloop"):
            raise
        fix = f"install it: pip install 'visionloop[{extra}]'" if extra else "install that library"
        raise MissingExtraError(
            f"{kind} '{name}'", f"needs the library '{error.name}', which is not installed", fix
        ) from error


def nearest_hint(name: str, known: Iterable[str]) -> str:
    """What to try instead of an unknown name: the nearest one, else the whole list."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(names)}"
