"""Lanes: a bounded queue of requests, and threads that take them through the model in batches."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Prediction
from visionloop.core.errors import DataError, PackageError
from visionloop.serving.http.served import Served
from visionloop.serving.images import decode_image

__all__ = [
    "Answered",
    "BusyError",
    "Lanes",
    "NothingServedError",
    "Observer",
    "Picture",
    "retry_after",
]

STUCK_SECONDS = 60.0
log = logging.getLogger(__name__)


class BusyError(Exception):
    """The queue is full, or the answer would come too late.

    Attributes
    ----------
    seconds : float
        After which it is worth to ask again.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"busy for {seconds:.3f} s")
        self.seconds = seconds


class NothingServedError(Exception):
    """There is no release that can be served."""


@dataclass(frozen=True)
class Picture:
    """A picture as it was sent: its name, and the bytes of a PNG or JPEG file."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Answered:
    """What one request gets.

    Attributes
    ----------
    served : Served
        The release that answered.
    predictions : list of Prediction
        One a picture.
    sizes : list of (int, int)
        Width and height of each picture, pixels.
    waited, worked : float
        Seconds in the queue, and in the batch.
    """

    served: Served
    predictions: list[Prediction]
    sizes: list[tuple[int, int]]
    waited: float
    worked: float


@dataclass(eq=False)
class _Job:
    pictures: Sequence[Picture]
    minimum_confidence: float | None
    answer: asyncio.Future[Answered]
    came: float
    is_first: bool
    """Whether nothing else was going on when it came."""


@dataclass
class _Lane:
    number: int
    began: float = 0.0
    until: float = 0.0
    """When it is expected to be free; 0 while it is."""


@dataclass
class Observer:
    """Called from the lanes with what they did; every function must be quick."""

    on_batch: Callable[[int, float, Any], object] = lambda pictures, seconds, timings: None
    on_failure: Callable[[], object] = lambda: None
    failures: int = field(default=0, init=False)
    """Batches since the last answer in which the model, not a picture, was at fault."""


class Lanes:
    """Answers requests with what is served now.

    Each lane is a thread with a predictor of its own. A lane that is free takes the oldest
    requests at once; it never waits for more to come. A request is turned away at the door
    if it would be kept waiting beyond the latency budget, so what is taken is answered in time.

    Parameters
    ----------
    current : function
        What is served now, or None.
    lanes : int
    max_batch : int
        Pictures.
    queue_pictures : int
        Most pictures that wait.
    observer : Observer
    """

    def __init__(
        self,
        current: Callable[[], Served | None],
        *,
        lanes: int,
        max_batch: int,
        queue_pictures: int,
        observer: Observer,
    ) -> None:
        self._current = current
        self._max_batch, self._queue_pictures = max_batch, queue_pictures
        self._observer = observer
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._lanes = [_Lane(number) for number in range(lanes)]
        self._is_over = False
        self._threads = [
            threading.Thread(target=self._work, args=(lane,), name=f"lane-{lane.number}")
            for lane in self._lanes
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Answer what waits, then end the threads."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._lanes)

    @property
    def waiting_pictures(self) -> int:
        """Pictures in the queue."""
        with self._changed:
            return sum(len(job.pictures) for job in self._waiting)

    @property
    def problem(self) -> str:
        """Why the lanes do not work; empty if they do."""
        if not all(thread.is_alive() for thread in self._threads):
            return "a lane has ended"
        now = time.monotonic()
        if any(lane.until and now - lane.began > STUCK_SECONDS for lane in self._lanes):
            return f"a batch has taken more than {STUCK_SECONDS:.0f} s"
        return ""

    def refuse_if_busy(self, pictures: int = 1) -> None:
        """Raise what :meth:`submit` would raise now, before the pictures are there.

        Raises
        ------
        BusyError
        NothingServedError
        """
        with self._changed:
            self._check(pictures, time.monotonic())

    def submit(
        self, pictures: Sequence[Picture], *, minimum_confidence: float | None = None
    ) -> asyncio.Future[Answered]:
        """Queue a request; called from the event loop that awaits the answer.

        Returns
        -------
        future of Answered
            Fails with DataError if a picture is damaged, with PackageError if the model
            gave no usable answer.

        Raises
        ------
        BusyError
            If it would wait too long.
        NothingServedError
            If nothing is served.
        """
        now = time.monotonic()
        future: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        with self._changed:
            self._check(len(pictures), now)
            is_first = not self._waiting and not any(lane.until for lane in self._lanes)
            self._waiting.append(_Job(pictures, minimum_confidence, future, now, is_first))
            self._changed.notify()
        return future

    def _check(self, pictures: int, now: float) -> None:
        served = self._current()
        if served is None or self._is_over:
            raise NothingServedError
        waiting = [len(job.pictures) for job in self._waiting]
        wait = served.pace.wait(now, [self._free_at(lane, now) for lane in self._lanes], waiting)
        is_full = sum(waiting) + pictures > self._queue_pictures and bool(waiting)
        if is_full or wait > served.pace.most_waiting:
            raise BusyError(wait)

    def _free_at(self, lane: _Lane, now: float) -> float:
        """A lane that takes longer than expected is taken to need a tenth more."""
        if not lane.until:
            return now
        return max(lane.until, now + 0.1 * (lane.until - lane.began))

    def _work(self, lane: _Lane) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._is_over:
                    self._changed.wait()
                if not self._waiting:
                    return
                served = self._current()
                jobs = self._take(served)
                count = sum(len(job.pictures) for job in jobs)
                lane.began = time.monotonic()
                lane.until = lane.began + (served.pace.seconds(count) if served else 0.0)
            try:
                if served is None:
                    _fail(jobs, NothingServedError())
                else:
                    self._answer(jobs, served, lane)
            except Exception as error:  # a lane that died would answer nobody any more
                log.exception("a batch failed")
                _fail(jobs, error)
            finally:
                with self._changed:
                    lane.until = 0.0

    def _take(self, served: Served | None) -> list[_Job]:
        """The oldest request, and those behind it that go with it."""
        first = self._waiting[0]
        alike = list(
            takewhile(lambda j: j.minimum_confidence == first.minimum_confidence, self._waiting)
        )
        count = 1
        if served is not None:
            count = served.pace.choose(
                [len(job.pictures) for job in alike],
                most=self._max_batch,
                waited=time.monotonic() - first.came,
            )
        return [self._waiting.popleft() for _ in range(count)]

    def _answer(self, jobs: list[_Job], served: Served, lane: _Lane) -> None:
        decoded: list[tuple[_Job, list[NDArray[np.uint8]]]] = []
        for job in jobs:
            try:
                decoded.append((job, [_decode(picture) for picture in job.pictures]))
            except DataError as error:
                _fail([job], error)
        if not decoded:
            return
        try:
            self._predict(decoded, served, lane)
        except PackageError as error:
            if len(decoded) == 1:
                self._note_failure(error)
                _fail([decoded[0][0]], error)
                return
            # One picture made the model fail: the others must not suffer.
            for one in decoded:
                self._answer([one[0]], served, lane)

    def _predict(
        self,
        decoded: list[tuple[_Job, list[NDArray[np.uint8]]]],
        served: Served,
        lane: _Lane,
    ) -> None:
        images = [image for _, found in decoded for image in found]
        predictions, timings = served.predictors[lane.number].predict_timed(
            images, minimum_confidence=decoded[0][0].minimum_confidence
        )
        took = time.monotonic() - lane.began
        is_alone = len(decoded) == 1 and decoded[0][0].is_first
        served.pace.observe(len(images), took, is_alone=is_alone)
        self._observer.failures = 0
        self._observer.on_batch(len(images), took, timings)
        for job, found in decoded:
            mine, predictions = predictions[: len(found)], predictions[len(found) :]
            sizes = [(image.shape[1], image.shape[0]) for image in found]
            _settle(job, Answered(served, mine, sizes, max(0.0, lane.began - job.came), took))

    def _note_failure(self, error: PackageError) -> None:
        log.error("the model failed: %s", error)
        self._observer.failures += 1
        self._observer.on_failure()


def retry_after(seconds: float) -> int:
    """Whole seconds for the header ``Retry-After``; at least one."""
    return max(1, math.ceil(seconds))


def _decode(picture: Picture) -> NDArray[np.uint8]:
    return decode_image(picture.content, subject=picture.name)


def _settle(job: _Job, answer: Answered) -> None:
    _tell(job, lambda: job.answer.set_result(answer))


def _fail(jobs: Sequence[_Job], error: Exception) -> None:
    for job in jobs:
        _tell(job, lambda job=job: job.answer.set_exception(error))  # type: ignore[misc]


def _tell(job: _Job, tell: Callable[[], None]) -> None:
    """In the event loop of the one who waits; who went away is told nothing."""

    def safely() -> None:
        if not job.answer.done():
            tell()

    try:
        job.answer.get_loop().call_soon_threadsafe(safely)
    except RuntimeError:  # the loop was closed
        log.warning("nobody waits for an answer any more")
