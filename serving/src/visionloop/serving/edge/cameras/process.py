"""A decoding process: some cameras, a thread each, and one pipe to the agent.

Nothing here waits for the agent: without credit the newest frame of each camera waits in its
place and is replaced by the next. When the agent is gone, the process ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from datetime import datetime, timezone
from multiprocessing.connection import Connection
from typing import Any

from visionloop.serving.edge.cameras.mailbox import Mailbox, Offer
from visionloop.serving.edge.cameras.messages import (
    ClipDone,
    ClipOrder,
    Credit,
    Follow,
    Look,
    Pace,
    Status,
    Stop,
    Unwatch,
    Watch,
)
from visionloop.serving.edge.cameras.reader import Reader, make_reader

__all__ = ["run_process"]

STATUS_S = 1.0
WAKE_S = 0.25


def run_process(pipe: Connection) -> None:
    """Read cameras until told to stop, or until the agent's end of the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the agent, which ends us
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    process = _Process(pipe)
    threading.Thread(target=process.listen, name="listen", daemon=True).start()
    with contextlib.suppress(OSError):  # the agent is gone
        process.send()
    os._exit(0)  # a thread that hangs in a decoder must not hold us


class _Process:
    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._mailbox = Mailbox()
        self._readers: dict[str, Reader] = {}
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._credit = threading.Semaphore(0)
        self._ended = threading.Event()
        self._pace = 1.0

    def listen(self) -> None:
        """Do what the agent says."""
        try:
            while True:
                self._obey(self._pipe.recv())
        except (EOFError, OSError):
            os._exit(0)

    def send(self) -> None:
        """Send frames while there is credit, and the status once a second."""
        said = 0.0
        while not self._ended.is_set():
            now = time.monotonic()
            if now - said >= STATUS_S:
                said = now
                with self._lock:
                    rows = {name: one.status() for name, one in self._readers.items()}
                self._say(Status(rows))
            if not self._credit.acquire(timeout=WAKE_S):
                continue
            offers = self._mailbox.take(1, WAKE_S)
            if not offers:
                self._credit.release()
            for offer in offers:
                self._say(_look(offer))

    def _say(self, message: Any) -> None:
        with self._sending:
            self._pipe.send(message)

    def _obey(self, message: Any) -> None:
        if isinstance(message, Credit):
            self._credit.release(message.frames)
        elif isinstance(message, Watch):
            self._watch(message)
        elif isinstance(message, Unwatch):
            self._unwatch(message.name)
        elif isinstance(message, Follow):
            with self._lock:
                reader = self._readers.get(message.name)
            if reader is not None:
                reader.gate.follow(message.until)
        elif isinstance(message, Pace):
            self._pace = message.share
            with self._lock:
                for reader in self._readers.values():
                    reader.gate.pace_share = message.share
        elif isinstance(message, ClipOrder):
            self._write_clip(message)
        elif isinstance(message, Stop):
            self._ended.set()

    def _watch(self, watch: Watch) -> None:
        self._unwatch(watch.camera.name)
        os.environ.update(watch.environment)
        reader = make_reader(watch, self._mailbox)
        reader.gate.pace_share = self._pace
        with self._lock:
            self._readers[watch.camera.name] = reader
        reader.start()

    def _unwatch(self, name: str) -> None:
        with self._lock:
            reader = self._readers.pop(name, None)
        if reader is not None:
            reader.stop()
            self._mailbox.forget(name)

    def _write_clip(self, order: ClipOrder) -> None:
        with self._lock:
            reader = self._readers.get(order.name)
        if reader is None:
            self._say(ClipDone(order.name, order.path, "the camera is no longer watched"))
            return
        reader.write_clip(order, lambda why: self._say(ClipDone(order.name, order.path, why)))


def _look(offer: Offer) -> Look:
    candidate = offer.content
    captured = datetime.fromtimestamp(candidate.captured, timezone.utc)
    return Look(
        name=offer.name,
        image=candidate.to_bgr(),
        captured_at=captured.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
        monotonic=offer.monotonic,
        reason=candidate.reason,
        encoded=candidate.encoded,
    )
