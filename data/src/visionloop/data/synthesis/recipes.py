"""What every recipe of synthesis shares: its result, and the table of recipes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from visionloop.core.plugins import resolve
from visionloop.data.synthesis.params import RecipeParams

if TYPE_CHECKING:
    from visionloop.data.synthesis.sources import Source, SourcePool

__all__ = [
    "RECIPES",
    "MadeObject",
    "MadeSample",
    "boxes_of",
    "draw_count",
    "make_sample",
    "take_place",
]

Image = NDArray[np.uint8]
Flags = NDArray[np.bool_]
Generator = np.random.Generator

RECIPES = {
    "template_defects": "visionloop.data.synthesis.board_recipe:make_template_defects",
    "paste": "visionloop.data.synthesis.paste_recipe:make_pasted",
    "surface_defects": "visionloop.data.synthesis.surface_recipe:make_surface_defects",
}
"""Kind to function ``(params, pool, generator) -> MadeSample or None``."""

TRIES = 12


@dataclass(frozen=True, eq=False)
class MadeObject:
    """One object or defect: class, exact box in pixels, bool mask (H, W); ``is_real`` was there."""

    class_name: str
    xyxy: tuple[float, float, float, float]
    mask: Flags | None
    is_real: bool = False


@dataclass(frozen=True, eq=False)
class MadeSample:
    """A picture with what is on it, and the sources that it was made from."""

    image: Image
    objects: tuple[MadeObject, ...]
    sources: tuple[Source, ...]
    licence: str


def make_sample(
    kind: str, params: RecipeParams, pool: SourcePool, generator: Generator
) -> MadeSample | None:
    """Make one sample by a recipe; None if chance found no place for anything.

    Raises
    ------
    ConfigError
        Unknown kind.
    DataError
        If the workspace has no fitting source at all.
    """
    function = resolve(RECIPES, kind, kind="recipe")
    for _ in range(TRIES):
        made = cast("MadeSample | None", function(params, pool, generator))
        if made is not None:
            return _turn_some(made, params, generator)
    return None


def _turn_some(made: MadeSample, params: RecipeParams, generator: Generator) -> MadeSample:
    """Turn the share of the samples that the recipe asks for."""
    from visionloop.data.synthesis.turning import turn_sample

    if not params.turned_share or generator.random() >= params.turned_share:
        return made
    quarters, mirrored = int(generator.integers(4)), bool(generator.integers(2))
    return turn_sample(made, quarters=quarters, mirrored=mirrored)


def boxes_of(source: Source, classes: list[str] | None = None) -> list[Any]:
    """Annotated boxes of a source, of these classes."""
    return [
        row
        for row in source.annotations
        if row.xyxy is not None and (not classes or row.class_name in classes)
    ]


def draw_count(params: RecipeParams, generator: Generator) -> int:
    """How many objects this image gets."""
    return int(generator.integers(params.per_image[0], params.per_image[1] + 1))


def take_place(taken: Flags, xyxy: tuple[float, float, float, float]) -> None:
    """Mark a box (pixels) in a bool array (H, W)."""
    x1, y1, x2, y2 = xyxy
    taken[max(0, int(y1)) : int(np.ceil(y2)), max(0, int(x1)) : int(np.ceil(x2))] = True
