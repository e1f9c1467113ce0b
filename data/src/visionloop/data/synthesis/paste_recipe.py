"""The recipe ``paste``: annotated objects of train samples, put into others."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import DataError
from visionloop.data.synthesis.cutouts import Box, CutOut, cut_out, mask_of_polygon, turn
from visionloop.data.synthesis.params import PasteParams
from visionloop.data.synthesis.paste import Pasted, find_place, paste
from visionloop.data.synthesis.recipes import (
    MadeObject,
    MadeSample,
    boxes_of,
    draw_count,
    take_place,
)
from visionloop.data.synthesis.sources import Source, SourcePool

__all__ = ["differing_part", "make_pasted"]

Image = NDArray[np.uint8]
Flags = NDArray[np.bool_]
Generator = np.random.Generator


def make_pasted(params: PasteParams, pool: SourcePool, generator: Generator) -> MadeSample | None:
    """Objects of other samples, put into a real one; its own annotations stay."""
    givers = [one for one in pool.sources if boxes_of(one, params.classes)]
    if not givers:
        raise DataError("data.synthesise.paste", f"train has no box of {params.classes or 'any'}")
    if params.onto == "templates":
        ground = pool.with_template[int(generator.integers(len(pool.with_template)))]
        ground = replace(ground, annotations=())
        image = pool.template(ground)
    else:
        ground = pool.sources[int(generator.integers(len(pool.sources)))]
        image = pool.image(ground)
    allowed, taken = _places(ground, (image.shape[0], image.shape[1]), params.inside_class)
    objects: list[MadeObject] = []
    sources = [ground]
    for _ in range(draw_count(params, generator)):
        giver = givers[int(generator.integers(len(givers)))]
        cut = _cut(giver, params, pool, generator)
        cut = turn(
            cut,
            degrees=_draw_turn(params, generator),
            scale=float(generator.uniform(params.scale[0], params.scale[1])),
            flip=bool(generator.random() < 0.5),
        )
        place = find_place(image, cut, generator, where=params.where, allowed=allowed, taken=taken)
        if place is None:
            continue
        done = paste(image, cut, place, blend=params.blend)
        if not _is_visible(image, done):
            continue
        image = done.image
        take_place(taken, done.xyxy)
        objects.append(MadeObject(cut.class_name, done.xyxy, done.mask))
        sources.append(giver)
    if not objects:
        return None
    real = [
        MadeObject(row.class_name, row.xyxy, None, is_real=True)
        for row in ground.annotations
        if row.xyxy is not None
    ]
    return MadeSample(image, (*real, *objects), _unique(sources), pool.licence)


def _is_visible(image: Image, done: Pasted) -> bool:
    """Whether the object can be told from what was there: half of it by 8 grey levels."""
    change = np.abs(done.image[done.mask].astype(int) - image[done.mask]).max(axis=1)
    return bool((change >= 8).mean() >= 0.5)


def _cut(giver: Source, params: PasteParams, pool: SourcePool, generator: Generator) -> CutOut:
    """One annotated object of a source, by its polygon, its template or its box."""

    rows = boxes_of(giver, params.classes)
    row = rows[int(generator.integers(len(rows)))]
    image = pool.image(giver)
    mask: Flags | None = None
    if row.polygon:
        mask = mask_of_polygon(row.polygon, (image.shape[0], image.shape[1]))
    elif params.outline == "template" and giver.sample_id in pool.templates:
        mask = differing_part(image, pool.template(giver), row.xyxy)
    outline = "box" if params.outline == "template" else params.outline
    if mask is not None and not _has_pixels(mask, row.xyxy):
        mask = None
    return cut_out(
        image,
        row.xyxy,
        mask=mask,
        outline=outline,
        class_name=row.class_name,
        source=giver.sample_id,
    )


def differing_part(image: Image, template: Image, xyxy: Box) -> Flags:
    """The largest connected part of a box in which a picture differs from its template.

    Parameters
    ----------
    image, template : uint8 arrays (H, W, 3)
    xyxy : pixels

    Returns
    -------
    bool array (H, W)
    """
    x1, y1, x2, y2 = (max(0, round(value)) for value in xyxy)
    differs = cv2.absdiff(image[y1:y2, x1:x2], template[y1:y2, x1:x2]).max(axis=2, initial=0) > 60
    part = differs.astype(np.uint8)
    count, numbered, facts, _ = cv2.connectedComponentsWithStats(part, connectivity=8)
    mask = np.zeros(image.shape[:2], bool)
    if count > 1:
        mask[y1:y2, x1:x2] = numbered == 1 + int(facts[1:, cv2.CC_STAT_AREA].argmax())
    return mask


def _draw_turn(params: PasteParams, generator: Generator) -> float:
    """Where surroundings must match, quarter turns: they move pixels exactly."""
    if params.where == "matching":
        return 90.0 * int(generator.integers(4)) if params.max_turn >= 90 else 0.0
    return float(generator.uniform(-params.max_turn, params.max_turn))


def _places(
    ground: Source, shape: tuple[int, int], inside_class: str
) -> tuple[Flags | None, Flags]:
    """Where objects may lie, and what is taken by annotated ones."""
    taken = np.zeros(shape, bool)
    allowed = np.zeros(shape, bool) if inside_class else None
    for row in boxes_of(ground):
        if inside_class and row.class_name == inside_class and allowed is not None:
            take_place(allowed, row.xyxy)
        else:
            take_place(taken, row.xyxy)
    return allowed, taken


def _has_pixels(mask: Flags, xyxy: Box) -> bool:
    x1, y1, x2, y2 = (max(0, round(value)) for value in xyxy)
    return bool(mask[y1:y2, x1:x2].sum() >= 6)


def _unique(sources: list[Source]) -> tuple[Source, ...]:
    return tuple({one.sample_id: one for one in sources}.values())
