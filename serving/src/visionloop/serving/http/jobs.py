"""Requests on their way through the server, and why one is not taken."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from visionloop.core.entities import Prediction
from visionloop.serving.http.served import Served

__all__ = ["Answered", "BusyError", "Job", "NothingServedError", "Picture"]

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
class Job:
    """A request that waits, or is at work.

    Attributes
    ----------
    pictures : sequence of Picture
    minimum_confidence : float or None
    answer : future of Answered
        Of the event loop that awaits it.
    came : float
        Moment of the monotonic clock.
    is_first : bool
        Whether nothing else was going on when it came.
    """

    pictures: Sequence[Picture]
    minimum_confidence: float | None
    answer: asyncio.Future[Answered]
    came: float
    is_first: bool

    def settle(self, answer: Answered) -> None:
        """Answer it; called from any thread."""
        self._tell(lambda: self.answer.set_result(answer))

    def fail(self, error: Exception) -> None:
        """Let it fail; called from any thread."""
        self._tell(lambda: self.answer.set_exception(error))

    def _tell(self, tell: Callable[[], None]) -> None:
        """In the event loop of the one who waits; who went away is told nothing."""

        def safely() -> None:
            if not self.answer.done():
                tell()

        try:
            self.answer.get_loop().call_soon_threadsafe(safely)
        except RuntimeError:  # the loop was closed
            log.warning("nobody waits for an answer any more")
