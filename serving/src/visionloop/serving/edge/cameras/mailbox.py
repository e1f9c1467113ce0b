"""One place a camera: the newest frame waits there; an older one that nobody took is gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Mailbox", "Offer", "rank"]

PRIORITY_S = 0.5
"""Waiting time that one step of priority is worth; so the last one is served too."""


@dataclass(frozen=True, eq=False)
class Offer:
    """A frame that waits.

    Attributes
    ----------
    name : str
        The camera.
    priority : int
        0 comes first.
    monotonic : float
        When it was decoded.
    content : object
    """

    name: str
    priority: int
    monotonic: float
    content: Any


def rank(offer: Offer, last_served: float) -> float:
    """Who is served next: the least. Cameras that waited longest, by priority.

    The moment at which a camera was last served, later by half a second for each step of
    priority: nobody starves, and equal cameras take turns.
    """
    return last_served + PRIORITY_S * offer.priority


class Mailbox:
    """Frames of all cameras, at most one each; threads may put and take."""

    def __init__(self) -> None:
        self._offers: dict[str, Offer] = {}
        self._served: dict[str, float] = {}
        self._changed = threading.Condition()
        self._is_closed = False

    def put(self, offer: Offer) -> Offer | None:
        """Put a frame in; returns the one that it replaced."""
        with self._changed:
            replaced = self._offers.get(offer.name)
            self._offers[offer.name] = offer
            self._changed.notify()
        return replaced

    def take(self, most: int, wait_s: float) -> list[Offer]:
        """The frames that are next, at most ``most``; waits for the first one."""
        with self._changed:
            if not self._offers and not self._is_closed:
                self._changed.wait(wait_s)
            order = sorted(
                self._offers.values(), key=lambda one: rank(one, self._served.get(one.name, 0.0))
            )
            taken = order[:most]
            for one in taken:
                del self._offers[one.name]
                self._served[one.name] = time.monotonic()
        return taken

    def drop(self, condition: Callable[[Offer], bool]) -> list[Offer]:
        """Remove the frames for which the condition holds, and return them."""
        with self._changed:
            gone = [one for one in self._offers.values() if condition(one)]
            for one in gone:
                del self._offers[one.name]
        return gone

    def forget(self, name: str) -> None:
        """A camera is gone."""
        with self._changed:
            self._offers.pop(name, None)
            self._served.pop(name, None)

    def close(self) -> None:
        """Wake who waits; nobody will wait again."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def __len__(self) -> int:
        with self._changed:
            return len(self._offers)
