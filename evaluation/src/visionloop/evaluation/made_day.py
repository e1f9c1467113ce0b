"""A made day: one normal picture through 24 hours of light, flickering lamps and sensor noise."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from visionloop.core.config import ONE_CLASS_TASKS
from visionloop.core.entities import Frame
from visionloop.core.errors import DataError
from visionloop.evaluation.answers import truth_of
from visionloop.evaluation.inputs import EvaluationInputs
from visionloop.serving.images import read_image

__all__ = ["light_at", "made_day"]

DAY_S = 86_400
NIGHT, NOON = 0.55, 1.15
"""Gain of the light at night, under lamps, and at noon."""
FLICKER = 0.04
NOISE = 3.0
"""Standard deviation of the sensor noise, grey levels."""
CLOUDS_S = 600.0


def light_at(second: float) -> float:
    """Gain of the light at a second of the day: night, dawn at six, noon, dusk at eighteen."""
    sun = max(0.0, float(np.sin((second / DAY_S - 0.25) * 2 * np.pi)))
    cloud = 0.06 * np.sin(second / CLOUDS_S) * np.sin(second / (3.7 * CLOUDS_S)) * sun
    return NIGHT + (NOON - NIGHT) * sun + float(cloud)


def made_day(inputs: EvaluationInputs) -> tuple[Iterator[Frame], str, float, int]:
    """Frames of the day, its name, frames a second, and how many frames there are.

    The picture is the first test sample on which nothing is to be found: without boxes, or
    of the first class.

    Raises
    ------
    DataError
        If every test sample shows something.
    """
    rate = inputs.params.alarms.day_frames_per_second
    total = round(DAY_S * rate)
    picture = _normal_picture(inputs)
    return _frames(picture, rate, total, inputs.project.seed), "made day", rate, total


def _frames(picture: NDArray[np.uint8], rate: float, total: int, seed: int) -> Iterator[Frame]:
    generator = np.random.default_rng(seed)
    base = picture.astype(np.float32)
    for number in range(total):
        gain = light_at(number / rate) * (1 + FLICKER * generator.uniform(-1, 1))
        # Photon noise grows with the light, that of the electronics does not.
        noise = generator.standard_normal(base.shape, np.float32) * NOISE * np.sqrt(0.5 + gain / 2)
        image = np.clip(base * gain + noise, 0, 255).astype(np.uint8)
        seconds = int(number / rate)
        moment = f"2026-03-01T{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}Z"
        yield Frame(image, "made", "made", number, moment, number / rate)


def _normal_picture(inputs: EvaluationInputs) -> NDArray[np.uint8]:
    version = inputs.version
    for row in version.split("test").itertuples():
        truth = truth_of(version, str(row.sample_id))
        if version.vision_task in ONE_CLASS_TASKS:
            is_normal = int(truth.class_id[0]) == 0
        else:
            is_normal = not len(truth.class_id)
        if is_normal:
            return read_image(version.images / str(row.file_name))
    raise DataError(
        f"dataset version {version.name}",
        "has no test sample on which nothing is to be found, so no day can be made of it",
        "annotate some that show nothing, or run with --no-day on footage",
    )
