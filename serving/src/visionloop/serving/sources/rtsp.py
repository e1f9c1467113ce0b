"""Cameras over RTSP (PyAV, over TCP)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from visionloop.serving.sources.backoff import CameraFaultError
from visionloop.serving.sources.live import OPEN_TIMEOUT_S, READ_TIMEOUT_S, LiveSource, Picture

__all__ = ["RtspSource"]

OPTIONS = {"rtsp_transport": "tcp", "fpsprobesize": "0", "analyzeduration": "500000"}
"""FFmpeg's. Without the last two it reads up to 3 s of pictures before it gives the first."""


class RtspSource(LiveSource):
    """Watches a camera over RTSP; see :class:`~visionloop.serving.sources.live.LiveSource`.

    Without time limits PyAV waits forever for a camera that froze. Pictures that the decoder
    marks as damaged are left out, and what follows up to the next key frame.
    """

    _has_worked = False
    """An address that gave pictures is right: what it refuses now is a camera that starts up."""

    def packets(self) -> Iterator[Any]:
        """Compressed packets (av.Packet) of one connection after another, not decoded.

        A new connection is one whose ``packet.stream`` is another object.
        """
        return self.keep_connected(self._connect_packets)

    def _connect(self) -> Iterator[Picture]:
        needs_key = True
        for packet in self._connect_packets():
            needs_key = needs_key and not packet.is_keyframe
            if needs_key:
                continue
            for picture in _decode(packet):
                if picture is None or picture.is_corrupt:
                    needs_key = True  # what follows is made from it, and is not marked
                    break
                if self.pace.is_due():
                    yield np.asarray(picture.to_ndarray(format="bgr24"), np.uint8), None

    def _connect_packets(self) -> Iterator[Any]:
        import av

        if host := self._address.unknown_host():
            raise self._refusal(f"the name '{host}' cannot be resolved", "check the address")
        start = time.monotonic()
        has_begun = False
        options = {**OPTIONS, "timeout": str(int(OPEN_TIMEOUT_S * 1e6))}
        limits = (OPEN_TIMEOUT_S, READ_TIMEOUT_S)
        try:
            with av.open(self._address.full(), options=options, timeout=limits) as container:
                stream = container.streams.video[0]
                stream.codec_context.thread_count = 1
                packets = container.demux(stream)
                asked = time.monotonic()
                for packet in packets:
                    # FFmpeg answers the first silence with the packet that it held back.
                    if has_begun and time.monotonic() - asked >= READ_TIMEOUT_S:
                        raise TimeoutError
                    has_begun = self._has_worked = True
                    yield packet
                    if self._watcher.should_stop():
                        return
                    asked = time.monotonic()
        except (OSError, av.FFmpegError, IndexError) as error:
            is_silent = time.monotonic() - start >= OPEN_TIMEOUT_S
            raise self._explain(error, has_begun, is_silent) from None

    def _explain(self, error: Exception, has_begun: bool, is_silent: bool) -> CameraFaultError:
        """Say what a person can do; only what somebody must change is a refusal."""
        import av

        if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
            return self._refusal("refuses this user or password", "check the credentials")
        starting_up = (av.error.HTTPNotFoundError, av.error.InvalidDataError, IndexError)
        if self._has_worked and isinstance(error, starting_up):
            return self._fault("answers, but sends no pictures yet")
        if isinstance(error, av.error.HTTPNotFoundError):
            return self._refusal("has no such stream (404)", "check the end of the address")
        if isinstance(error, av.error.HTTPClientError):
            return self._refusal(f"refuses the request ({error.strerror})", "check the address")
        if isinstance(error, IndexError):
            return self._refusal("sends no video", "check the end of the address")
        if has_begun and isinstance(error, av.error.ExitError | TimeoutError):
            return self._fault(f"no picture for {READ_TIMEOUT_S:.0f} s")
        if is_silent and not has_begun:  # a frozen camera looks like a wrong port here
            return self._fault(f"no answer for {OPEN_TIMEOUT_S:.0f} s")
        if isinstance(error, av.error.InvalidDataError) and not has_begun:
            return self._refusal("does not speak RTSP", "check address and port")
        return self._fault(getattr(error, "strerror", None) or type(error).__name__)


def _decode(packet: Any) -> list[Any]:
    """Pictures of a packet; None in the place of one that cannot be decoded."""
    import av

    try:
        return list(packet.decode())
    except av.FFmpegError:
        return [None]
