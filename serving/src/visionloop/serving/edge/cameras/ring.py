"""The seconds before an event, in memory, and the clip that is made of them.

Of video streams the camera's own packets are kept, so a clip costs no encoding; of single
pictures their JPEG files.
"""

from __future__ import annotations

import io
import threading
from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.core.files import write_bytes

__all__ = ["PacketRing", "PictureRing", "Piece"]

CLOCK = Fraction(1, 90_000)


@dataclass(frozen=True, eq=False)
class Piece:
    """A packet or picture: when it came (monotonic), its bytes, whether it stands alone."""

    moment: float
    content: bytes
    is_key: bool
    pts: int = 0
    dts: int = 0


class _Ring:
    """Pieces of the newest ``seconds``, at most ``max_bytes``; threads may add and read."""

    def __init__(self, seconds: float, max_bytes: int) -> None:
        self._seconds, self._max_bytes = seconds, max_bytes
        self._pieces: deque[Piece] = deque()
        self._lock = threading.Lock()
        self.bytes = 0

    def _add(self, piece: Piece) -> None:
        with self._lock:
            self._pieces.append(piece)
            self.bytes += len(piece.content)
            while self._pieces and (self.bytes > self._max_bytes or self._is_too_old(piece.moment)):
                self.bytes -= len(self._pieces.popleft().content)

    def _is_too_old(self, now: float) -> bool:
        return now - self._pieces[0].moment > self._seconds

    def clear(self) -> None:
        """Forget everything: another stream begins."""
        with self._lock:
            self._pieces.clear()
            self.bytes = 0

    def between(self, begin: float, end: float) -> list[Piece]:
        """The pieces of a time, from the last one before it that stands alone."""
        with self._lock:
            pieces = [one for one in self._pieces if one.moment <= end]
        keys = [row for row, one in enumerate(pieces) if one.is_key]
        starts = [row for row in keys if pieces[row].moment <= begin]
        if not keys:
            return []
        return pieces[starts[-1] if starts else keys[0] :]


class _Template:
    """What a clip must know of a stream, kept apart from it.

    A clip is often written when the connection, or the file, has ended: the stream's memory is
    gone then, and whoever read it ended the process.
    """

    def __init__(self, stream: Any) -> None:
        import av

        self.time_base: Fraction = stream.time_base
        self.rate = float(stream.average_rate or 25)
        # Never written to: it only owns a copy of the stream's parameters.
        self._container = av.open(io.BytesIO(), "w", format="mp4")
        self.stream = self._container.add_stream_from_template(stream)


class PacketRing(_Ring):
    """The packets of a video stream."""

    def __init__(self, seconds: float, max_bytes: int) -> None:
        super().__init__(seconds, max_bytes)
        self._stream: Any = None
        self._template: _Template | None = None
        self._writing = threading.Lock()

    def add(self, packet: Any, moment: float) -> None:
        """Keep a packet (av.Packet); one of another stream clears the ring first."""
        if packet.dts is None or not packet.size:
            return
        if packet.stream is not self._stream:
            self._begin(packet.stream)
        pts = packet.dts if packet.pts is None else packet.pts
        self._add(Piece(moment, bytes(packet), bool(packet.is_keyframe), pts, packet.dts))

    def write(self, path: Path, begin: float, end: float) -> str:
        """Write an MP4 file of a time; returns why there is none, or an empty string."""
        with self._writing:  # so that a stream's pieces are never written as another one's
            template, pieces = self._template, self.between(begin, end)
            if not pieces or template is None:
                return "nothing of that time is in memory"
            content = _mux(pieces, template)
        write_bytes(path, content)
        return ""

    def _begin(self, stream: Any) -> None:
        template = _Template(stream)
        with self._writing:
            self.clear()
            self._stream, self._template = stream, template


class PictureRing(_Ring):
    """The pictures of a camera that sends single ones."""

    def add(self, image: NDArray[np.uint8], encoded: bytes | None, moment: float) -> None:
        """Keep a picture uint8 (H, W, 3) BGR, as the JPEG file that it came in or a new one."""
        if encoded is None or not encoded.startswith(b"\xff\xd8"):
            done, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])
            encoded = bytes(content) if done else b""
        self._add(Piece(moment, encoded, True))

    def write(self, path: Path, begin: float, end: float) -> str:
        """Write an MP4 file (Motion JPEG) of a time; returns why there is none, or nothing."""
        import av

        pieces = self.between(begin, end)
        if not pieces:
            return "nothing of that time is in memory"
        buffer = io.BytesIO()
        first = cv2.imdecode(np.frombuffer(pieces[0].content, np.uint8), cv2.IMREAD_COLOR)
        if first is None:
            return "its first picture cannot be read"
        with av.open(buffer, "w", format="mp4") as output:
            stream = output.add_stream("mjpeg", rate=25)
            stream.height, stream.width = first.shape[:2]
            stream.pix_fmt = "yuvj420p"
            stream.time_base = CLOCK
            for piece in pieces:
                packet = av.Packet(piece.content)
                packet.stream, packet.time_base, packet.is_keyframe = stream, CLOCK, True
                packet.pts = packet.dts = round((piece.moment - pieces[0].moment) / CLOCK)
                output.mux(packet)
        write_bytes(path, buffer.getvalue())
        return ""


def _mux(pieces: list[Piece], template: _Template) -> bytes:
    """Put packets into an MP4 file without touching them.

    Times start at 0. Where the camera's clock steps backwards or by more than a second the
    packet follows its predecessor after a frame's time instead.
    """
    import av

    base = template.time_base
    usual = max(1, round(1 / template.rate / float(base)))
    longest = round(1 / float(base))
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        stream = output.add_stream_from_template(template.stream)
        dts, before = 0, pieces[0].dts
        for piece in pieces:
            step = piece.dts - before
            if piece is not pieces[0]:
                dts += step if 0 < step <= longest else usual
            before = piece.dts
            packet = av.Packet(piece.content)
            packet.stream, packet.time_base, packet.is_keyframe = stream, base, piece.is_key
            packet.dts, packet.pts = dts, dts + max(0, piece.pts - piece.dts)
            output.mux(packet)
    return buffer.getvalue()
