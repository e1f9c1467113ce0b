"""How long a batch takes, by its number of pictures: measured, and used to look ahead."""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np

__all__ = ["WORTH", "Pace"]

KEPT = 64
"""Durations of each batch size; old ones are forgotten."""

CAREFUL = 80.0
"""Percentile of the durations that is reckoned with."""

WORTH = 0.95
"""A larger batch must take at most this share of the time by picture, else it only delays."""

OF_IDLE = 1.7
"""Without a set budget: so many times what a picture takes when nothing else is going on."""


class Pace:
    """Durations of batches. Safe to use from several threads.

    Parameters
    ----------
    budget : float or None
        Seconds from a request of one picture to its answer; None derives it from what one
        picture takes alone.
    """

    def __init__(self, budget: float | None = None) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._durations: dict[int, deque[float]] = {}
        self._alone: deque[float] = deque(maxlen=KEPT)
        self._careful: dict[int, float] = {}

    def observe(self, pictures: int, seconds: float, *, is_alone: bool = False) -> None:
        """Note what a batch took; ``is_alone`` if nothing else was going on."""
        with self._lock:
            found = self._durations.setdefault(pictures, deque(maxlen=KEPT))
            found.append(seconds)
            self._careful[pictures] = float(np.percentile(found, CAREFUL))
            if is_alone and pictures == 1:
                self._alone.append(seconds)

    def seconds(self, pictures: int) -> float:
        """What a batch is expected to take; 0 before anything was measured.

        A size that was never seen is reckoned from those beside it, beyond the largest one
        in proportion.
        """
        with self._lock:
            return self._expected(pictures)

    @property
    def most_waiting(self) -> float:
        """Seconds that a request may wait before its own pictures are at work."""
        with self._lock:
            return max(0.0, self._limit() - self._expected(1))

    def wait(self, now: float, busy_until: Iterable[float], waiting: Iterable[int]) -> float:
        """Seconds until a request that comes now would be at work.

        Parameters
        ----------
        now : float
        busy_until : iterable of float
            Moment at which each lane is expected to be free; ``now`` or earlier for a free one.
        waiting : iterable of int
            Pictures of each request that waits already, in order.
        """
        with self._lock:
            free = [max(now, moment) for moment in busy_until]
            heapq.heapify(free)
            for pictures in waiting:
                heapq.heapreplace(free, free[0] + pictures * self._by_picture())
            return free[0] - now

    def choose(self, pictures: Sequence[int], *, most: int, waited: float) -> int:
        """How many of the requests that wait go into one batch.

        As many as shorten the time by picture, stay within ``most`` pictures, and do not
        take the first one beyond its budget.

        Parameters
        ----------
        pictures : sequence of int
            Of each request that waits, in order; at least one.
        most : int
            Pictures of a batch. A request that alone has more is a batch of its own.
        waited : float
            Seconds that the first one has waited.
        """
        with self._lock:
            total = pictures[0]
            chosen, best = 1, self._expected(total) / total
            left = self._limit() - waited + self._expected(total) - self._expected(1)
            for count in range(2, len(pictures) + 1):
                total += pictures[count - 1]
                takes = self._expected(total)
                if total > most or takes > left:
                    break
                if takes / total <= best * WORTH:
                    chosen, best = count, takes / total
            return chosen

    def _limit(self) -> float:
        """Seconds from a request of one picture to its answer."""
        if self._budget is not None:
            return self._budget
        alone = float(np.median(self._alone)) if self._alone else self._expected(1)
        return OF_IDLE * alone

    def _by_picture(self) -> float:
        """Seconds by picture at the size that is best."""
        return min((took / size for size, took in self._careful.items()), default=0.0)

    def _expected(self, pictures: int) -> float:
        if not self._careful:
            return 0.0
        sizes = sorted(self._careful)
        if sizes[0] <= pictures <= sizes[-1]:
            return float(np.interp(pictures, sizes, [self._careful[size] for size in sizes]))
        nearest = sizes[0] if pictures < sizes[0] else sizes[-1]
        return self._careful[nearest] * pictures / nearest
