"""One batch: requests are decoded, go through the model together, and each gets its answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import DataError, PackageError
from visionloop.serving.http.jobs import Answered, Job
from visionloop.serving.http.served import Served
from visionloop.serving.images import decode_image

__all__ = ["Observer", "answer_jobs"]

MOST_FAILURES = 5
FAILING_SECONDS = 20.0
log = logging.getLogger(__name__)

Decoded = list[tuple[Job, list[NDArray[np.uint8]]]]


@dataclass
class Observer:
    """Called from the lanes with what they did; every function must be quick."""

    on_batch: Callable[[int, float, Any], object] = lambda pictures, seconds, timings: None
    on_failure: Callable[[], object] = lambda: None
    _failures: int = field(default=0, init=False)
    _failed_at: float = field(default=0.0, init=False)

    def note_success(self) -> None:
        """The model gave an answer."""
        self._failures = 0

    def note_failure(self) -> None:
        """The model, not a picture, was at fault."""
        self._failures += 1
        self._failed_at = time.monotonic()
        self.on_failure()

    @property
    def is_failing(self) -> bool:
        """Whether the model failed several times in a row, and not long ago.

        It is tried again after a while: pictures that make a model fail must not keep a
        server out of service.
        """
        is_fresh = time.monotonic() - self._failed_at < FAILING_SECONDS
        return self._failures >= MOST_FAILURES and is_fresh


def answer_jobs(jobs: Sequence[Job], served: Served, lane: int, observer: Observer) -> None:
    """Take requests through the model; every one is answered or fails, each for itself.

    Parameters
    ----------
    jobs : sequence of Job
        With the same smallest confidence.
    served : Served
    lane : int
        Whose predictor works.
    observer : Observer
    """
    began = time.monotonic()
    decoded: Decoded = []
    for job in jobs:
        try:
            images = [decode_image(one.content, subject=one.name) for one in job.pictures]
            decoded.append((job, images))
        except DataError as error:
            job.fail(error)
    if not decoded:
        return
    try:
        _predict(decoded, served, lane, began, observer)
    except PackageError as error:
        if len(decoded) == 1:
            log.error("the model failed: %s", error)
            observer.note_failure()
            decoded[0][0].fail(error)
            return
        # One picture made the model fail: the others must not suffer.
        for job, _ in decoded:
            answer_jobs([job], served, lane, observer)


def _predict(decoded: Decoded, served: Served, lane: int, began: float, observer: Observer) -> None:
    images = [image for _, found in decoded for image in found]
    first = decoded[0][0]
    predictions, timings = served.predictors[lane].predict_timed(
        images, minimum_confidence=first.minimum_confidence
    )
    took = time.monotonic() - began
    is_alone = len(decoded) == 1 and first.is_first
    served.pace.observe(len(images), took, is_alone=is_alone)
    observer.note_success()
    observer.on_batch(len(images), took, timings)
    for job, found in decoded:
        mine, predictions = predictions[: len(found)], predictions[len(found) :]
        sizes = [(image.shape[1], image.shape[0]) for image in found]
        job.settle(Answered(served, mine, sizes, max(0.0, began - job.came), took))
