"""Cameras: connect, read, and connect again; the same code for every protocol."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Frame
from visionloop.core.errors import UnreachableError
from visionloop.serving.source_params import SourceParams
from visionloop.serving.sources.address import CameraAddress
from visionloop.serving.sources.backoff import Backoff, CameraFaultError
from visionloop.serving.sources.frames import Pace, Watcher, make_frame, wait_until

__all__ = ["OPEN_TIMEOUT_S", "READ_TIMEOUT_S", "LiveSource", "Picture"]

OPEN_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 3.0

Thing = TypeVar("Thing")

Picture = tuple[NDArray[np.uint8], bytes | None]
"""Pixels (H, W, 3) BGR, and the file that they came in, where there is one."""


class LiveSource(ABC):
    """A camera. A subclass knows its protocol: :meth:`_connect`.

    A live source that merely ends is a fault too. Between frames that the rate lets
    through, others are dropped: the newest counts. Faults are remembered over several
    calls of :meth:`frames`, so that a camera is never tried more often than it should be.

    Raises
    ------
    ConfigError
        If the password that the parameters refer to is not there.
    UnreachableError
        While playing, if the camera stays away for longer than ``reconnects`` attempts.
    """

    is_live = True
    total: int | None = None

    def __init__(self, params: SourceParams, *, site: str, root: Path, watcher: Watcher) -> None:
        self._params, self._site, self._watcher = params, site, watcher
        self._subject = f"camera '{params.camera or params.name}'"
        self._address = self._make_address(params, root)
        self._backoff = Backoff()
        self.pace = Pace(params.rate)

    def _make_address(self, params: SourceParams, root: Path) -> CameraAddress:
        return CameraAddress(params, root=root, subject=self._subject)

    @abstractmethod
    def _connect(self) -> Iterator[Picture]:
        """Pictures of one connection, at the pace.

        Raises
        ------
        CameraFaultError
            If the connection cannot be made or breaks; no password in it.
        """

    def frames(self, start: int = 0) -> Iterator[Frame]:
        """Frames from sequence number ``start`` on; ends with an error or when told to stop."""
        for sequence, (image, encoded) in enumerate(self.keep_connected(self._connect), start):
            yield make_frame(self._params, self._site, sequence, image, encoded=encoded)

    def keep_connected(self, connect: Callable[[], Iterator[Thing]]) -> Iterator[Thing]:
        """What connections give, one connection after another.

        Parameters
        ----------
        connect : function () -> iterator
            One connection; raises CameraFaultError as :meth:`_connect` does.
        """
        attempts = 0
        stop = self._watcher.should_stop
        while wait_until(self._backoff.ready_at, stop):
            fault = self._fault("the stream ended")
            try:
                for thing in connect():
                    attempts = 0
                    self._backoff.worked()
                    yield thing
                    if stop():
                        return
            except CameraFaultError as error:
                fault = error
            if stop():
                return
            attempts += 1
            wait_s = self._backoff.failed(fault.kind)
            if self._params.reconnects is not None and attempts > self._params.reconnects:
                raise UnreachableError(
                    f"{self._subject} at {self._address.shown}",
                    f"{fault.problems[0]}; {attempts} attempts",
                    fault.next_step or "check cable, address and password, then start again",
                )
            self._watcher.on_fault(f"{self._subject}: {fault.problems[0]}", wait_s)

    def _fault(self, reason: str) -> CameraFaultError:
        return CameraFaultError(self._subject, self._address.hide(reason), kind="lost")

    def _refusal(self, reason: str, next_step: str = "") -> CameraFaultError:
        return CameraFaultError(
            self._subject, self._address.hide(reason), kind="refused", next_step=next_step
        )
