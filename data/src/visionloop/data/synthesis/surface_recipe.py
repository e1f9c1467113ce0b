"""The recipe ``surface_defects``: scratches, dents, stains and pits on real surfaces."""

from __future__ import annotations

import numpy as np

from visionloop.core.errors import DataError
from visionloop.data.synthesis.params import SurfaceDefectParams
from visionloop.data.synthesis.recipes import MadeObject, MadeSample, boxes_of, draw_count
from visionloop.data.synthesis.sources import SourcePool
from visionloop.data.synthesis.surface_defects import draw_surface_defect

__all__ = ["make_surface_defects"]

Generator = np.random.Generator


def make_surface_defects(
    params: SurfaceDefectParams, pool: SourcePool, generator: Generator
) -> MadeSample | None:
    """Scratches, dents, stains and pits on a surface that shows none of the classes named."""
    wanted = set(params.on_classes)
    grounds = [
        one
        for one in pool.sources
        if ({row.class_name for row in one.annotations} <= wanted if wanted else not boxes_of(one))
    ]
    if not grounds:
        raise DataError("data.synthesise.surface_defects", "train has no such surface")
    ground = grounds[int(generator.integers(len(grounds)))]
    image = pool.image(ground)
    taken = np.zeros(image.shape[:2], bool)
    objects: list[MadeObject] = []
    for _ in range(draw_count(params, generator)):
        kind = str(generator.choice(sorted(params.defects)))
        drawn = draw_surface_defect(
            image,
            kind,
            generator,
            strength=float(generator.uniform(params.strength[0], params.strength[1])),
            size=params.size,
            taken=taken,
        )
        if drawn is None:
            continue
        image = drawn.image
        taken |= drawn.mask
        objects.append(MadeObject(params.defects[kind], drawn.xyxy, drawn.mask))
    if not objects:
        return None
    real = [MadeObject(row.class_name, row.xyxy, None, is_real=True) for row in boxes_of(ground)]
    return MadeSample(image, (*real, *objects), (ground,), pool.licence)
