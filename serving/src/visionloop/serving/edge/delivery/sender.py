"""Hands events to sinks: one thread a sink, so that a bad one blocks no other.

    sender = Sender(outbox, [SinkParams(...)], SinkContext(site, device, root))
    sender.start()
    sender.states()      # {"hub": SinkState(is_up=True, sent=12, ...)}: metrics, status page
    sender.stop()

A sink that fails is tried again after 1 s, 2 s, ... up to a minute, with jitter, by the monotonic
clock. Batches are as large as the link carries in about five seconds, so that on a narrow one an
alert waits behind one batch of pictures and no more.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from visionloop.core.failpoints import failpoint
from visionloop.core.progress import say_step
from visionloop.serving.edge.delivery.sinks.params import SinkParams
from visionloop.serving.edge.delivery.sinks.table import (
    Sink,
    SinkContext,
    SinkError,
    SinkResult,
    open_sink,
)
from visionloop.serving.edge.record.events import Event

__all__ = ["Sender", "SinkState"]

POLL_S = 1.0
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
BATCH_SECONDS = 5.0
SMALLEST_BATCH, LARGEST_BATCH = 20_000, 2_000_000
"""Bytes of payload."""


class WaitingEvents(Protocol):
    """What the sender needs of an outbox; ``GuardedOutbox`` has it."""

    def pending(self, limit: int, *, sink: str, max_bytes: int | None = None) -> list[Event]: ...

    def acknowledge(self, event_ids: Sequence[str], *, sink: str) -> int: ...

    def refuse(self, reasons: dict[str, str], *, sink: str) -> int: ...

    def wait(self, timeout_s: float) -> None: ...


@dataclass(frozen=True)
class SinkState:
    """How a sink does.

    Attributes
    ----------
    is_up : bool
        Its last answer was good; True before the first one.
    sent, refused, failures : int
        Events it holds, events it will never take, batches that failed; since the start.
    reason : str
        Why the last batch failed; empty after a good one.
    next_try_s : float
        Seconds until it is tried again; 0 where it is up.
    """

    is_up: bool = True
    sent: int = 0
    refused: int = 0
    failures: int = 0
    reason: str = ""
    next_try_s: float = 0.0


class Sender:
    """Threads that empty an outbox.

    Parameters
    ----------
    outbox : WaitingEvents
    sinks : sequence of SinkParams
    context : SinkContext

    Raises
    ------
    ConfigError
        If a sink is configured wrongly.
    """

    def __init__(
        self, outbox: WaitingEvents, sinks: Sequence[SinkParams], context: SinkContext
    ) -> None:
        self._lanes = [_Lane(outbox, row.name, open_sink(row, context)) for row in sinks]
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to send."""
        for lane in self._lanes:
            thread = threading.Thread(target=lane.run, name=f"sink {lane.name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self, timeout_s: float = 15.0) -> None:
        """End after the batches that are under way."""
        for lane in self._lanes:
            lane.should_stop.set()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def states(self) -> dict[str, SinkState]:
        """How each sink does."""
        return {lane.name: lane.state() for lane in self._lanes}


class _Lane:
    """One sink and its thread."""

    def __init__(self, outbox: WaitingEvents, name: str, sink: Sink) -> None:
        self.name = name
        self.should_stop = threading.Event()
        self._outbox, self._sink = outbox, sink
        self._state = SinkState()
        self._retry_at = 0.0
        self._wait_s = FIRST_WAIT_S
        self._batch_bytes = SMALLEST_BATCH * 5
        self._batch_events = sink.max_events

    def run(self) -> None:
        """Send until it is stopped."""
        while not self.should_stop.is_set():
            try:
                is_idle = not self._step()
            except Exception as error:  # the thread must live as long as the agent
                self._fail(SinkError(f"{type(error).__name__}: {error}"))
                is_idle = False
            if is_idle:
                self._outbox.wait(POLL_S)
            elif (left := self._retry_at - time.monotonic()) > 0:
                self.should_stop.wait(left)
        self._sink.close()

    def state(self) -> SinkState:
        """How the sink does now."""
        left = 0.0 if self._state.is_up else max(0.0, self._retry_at - time.monotonic())
        return replace(self._state, next_try_s=left)

    def _step(self) -> bool:
        """Send one batch; False if there was nothing to send."""
        events = self._outbox.pending(
            self._batch_events, sink=self.name, max_bytes=self._batch_bytes
        )
        if not events:
            return False
        start = time.monotonic()
        try:
            result = self._sink.send(events)
            if not (result.stored or result.refused):
                raise SinkError("took none of a batch")
        except SinkError as error:
            self._fail(error)
            return True
        failpoint("sender.before_acknowledge")
        self._succeed(events, result, time.monotonic() - start)
        return True

    def _succeed(self, events: Sequence[Event], result: SinkResult, seconds: float) -> None:
        if result.stored:
            self._outbox.acknowledge(result.stored, sink=self.name)
        if result.refused:
            self._outbox.refuse(result.refused, sink=self.name)
            first = next(iter(result.refused.values()))
            say_step(f"sink '{self.name}' refused {len(result.refused)} events: {first}")
        if not self._state.is_up:
            say_step(f"sink '{self.name}' takes events again")
        self._count(len(result.stored), len(result.refused))
        self._wait_s, self._retry_at = FIRST_WAIT_S, 0.0
        self._fit(sum(_size(event.payload) for event in events), seconds)

    def _count(self, stored: int, refused: int) -> None:
        old = self._state
        self._state = replace(
            old, is_up=True, reason="", sent=old.sent + stored, refused=old.refused + refused
        )

    def _fail(self, error: SinkError) -> None:
        if self._state.is_up:
            say_step(f"sink '{self.name}': {error}; events wait")
        if error.is_too_large and self._batch_events > 1:
            self._batch_events = max(1, self._batch_events // 2)
            self._batch_bytes = max(SMALLEST_BATCH // 4, self._batch_bytes // 2)
        else:  # a slow link that timed out gets less at a time
            self._batch_bytes = max(SMALLEST_BATCH, self._batch_bytes // 2)
        wait = max(error.retry_after_s, self._wait_s * random.uniform(0.5, 1.0))
        self._retry_at = time.monotonic() + wait
        self._wait_s = min(LONGEST_WAIT_S, 2 * self._wait_s)
        failures = self._state.failures + 1
        self._state = replace(self._state, is_up=False, failures=failures, reason=str(error))

    def _fit(self, size: int, seconds: float) -> None:
        """Batches as large as the link carries in five seconds, growing at most twofold."""
        carried = int(size / max(seconds, 1e-3) * BATCH_SECONDS)
        wanted = min(carried, 2 * self._batch_bytes)
        self._batch_bytes = min(LARGEST_BATCH, max(SMALLEST_BATCH, wanted))
        self._batch_events = min(self._sink.max_events, 2 * self._batch_events)


def _size(payload: dict[str, Any]) -> int:
    """Bytes of a payload, roughly: its texts are what is large."""
    return sum(len(value) if isinstance(value, str) else 24 for value in payload.values())
