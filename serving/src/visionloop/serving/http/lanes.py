"""Lanes: a bounded queue of requests, and threads that take them through the model in batches."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from visionloop.serving.http.batches import Observer, answer_jobs
from visionloop.serving.http.jobs import Answered, BusyError, Job, NothingServedError, Picture
from visionloop.serving.http.served import Served

__all__ = ["Lanes"]

STUCK_SECONDS = 60.0
NICENESS = 5
"""Of lanes: the event loop, which tells the busy to go elsewhere, goes first."""

log = logging.getLogger(__name__)


@dataclass
class _Lane:
    number: int
    began: float = 0.0
    until: float = 0.0
    """When it is expected to be free; 0 while it is."""


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
        self._waiting: deque[Job] = deque()
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
            self._waiting.append(Job(pictures, minimum_confidence, future, now, is_first))
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
        _step_back()
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
                    raise NothingServedError
                answer_jobs(jobs, served, lane.number, self._observer)
            except Exception as error:  # a lane that died would answer nobody any more
                if not isinstance(error, NothingServedError):
                    log.exception("a batch failed")
                for job in jobs:
                    job.fail(error)
            finally:
                with self._changed:
                    lane.until = 0.0

    def _take(self, served: Served | None) -> list[Job]:
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


def _step_back() -> None:
    """This thread alone becomes nicer; only Linux knows threads of different niceness."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        was = os.getpriority(os.PRIO_PROCESS, thread)
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, was + NICENESS)
