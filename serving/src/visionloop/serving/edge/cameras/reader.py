"""One camera, in a thread of a decoding process: connect, decode what is needed, offer frames.

While nothing moves, only key frames are decoded (where they come often enough); once the gate
sees motion, all frames are decoded and offered at the active rate. The newest frame counts.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from visionloop.core.errors import VisionloopError
from visionloop.serving.edge.cameras.gate import Gate, Reason, small_grey
from visionloop.serving.edge.cameras.health_watch import HealthWatch
from visionloop.serving.edge.cameras.mailbox import Mailbox, Offer
from visionloop.serving.edge.cameras.messages import CameraState, CameraStatus, ClipOrder, Watch
from visionloop.serving.edge.cameras.ring import PacketRing, PictureRing
from visionloop.serving.sources.frames import Watcher, wait_until
from visionloop.serving.sources.table import open_source

__all__ = ["Candidate", "Reader", "make_reader"]

CLIP_CODECS = ("h264", "hevc", "av1", "vp9", "mpeg4", "mjpeg")
"""What an MP4 file carries as it is; of other streams the analysed pictures are kept."""
RETRY_S = 10.0
"""A camera whose file or folder is not there is tried again after so long a time."""


class Candidate:
    """A frame that was offered; it becomes BGR pixels only when it is sent."""

    def __init__(self, picture: Any, reason: Reason, captured: float, encoded: bytes | None):
        self.picture, self.reason, self.captured = picture, reason, captured
        self.encoded = encoded

    def to_bgr(self) -> Any:
        """uint8 array (H, W, 3), BGR."""
        if hasattr(self.picture, "to_ndarray"):
            return self.picture.to_ndarray(format="bgr24")
        return self.picture


class Reader(ABC):
    """A camera that is read; :func:`make_reader` chooses the class and starts it."""

    def __init__(self, watch: Watch, mailbox: Mailbox) -> None:
        self.watch, self._mailbox = watch, mailbox
        camera = watch.camera
        self.gate = Gate(watch.gate, region=camera.region, ignored=camera.ignored)
        self._ended = threading.Event()
        self.state: CameraState = "connecting"
        self.reason = ""
        self.beat = time.monotonic()
        self.last_frame = self.last_quiet = 0.0
        folder = watch.root / "edge" / "health"
        self.health = HealthWatch(camera.name, watch.health, folder)
        self.packets = self.decoded = self.offered = self.replaced = 0
        self.damaged = self.faults = self.falls = 0
        self._decoded_before = 0
        self._thread = threading.Thread(target=self._run, name=camera.name, daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; it is not waited for, as it may hang."""
        self._ended.set()

    def status(self) -> CameraStatus:
        """How it is doing."""
        return CameraStatus(
            state=self.state,
            beat=self.beat,
            last_frame=self.last_frame,
            last_quiet=self.last_quiet,
            packets=self.packets,
            decoded=self.decoded,
            offered=self.offered,
            replaced=self.replaced,
            damaged=self.damaged,
            faults=self.faults,
            falls=self.falls,
            reason=self.reason,
            clip_bytes=self.ring.bytes,
            health=self.health.raised() if self.decoded else None,
        )

    @property
    @abstractmethod
    def ring(self) -> PacketRing | PictureRing:
        """The seconds before."""

    @abstractmethod
    def _play(self, source: Any) -> None:
        """Read the source to its end."""

    def write_clip(self, order: ClipOrder, done: Callable[[str], None]) -> None:
        """Write the seconds around a moment once they are there; ``done(problem)``."""
        evidence = self.watch.evidence

        def work() -> None:
            end = order.moment + evidence.clip_after_s
            wait_until(end, self._ended.is_set)
            try:
                problem = self.ring.write(order.path, order.moment - evidence.clip_before_s, end)
            except Exception as error:  # a clip that cannot be made must not stop its camera
                problem = f"{type(error).__name__}: {error}"
            done(problem)

        threading.Thread(target=work, name=f"clip {order.name}", daemon=True).start()

    def _run(self) -> None:
        watcher = Watcher(self._is_ended, self._fault)
        camera = self.watch.camera
        while not self._ended.is_set():
            try:
                source = open_source(
                    camera, site=self.watch.site, root=self.watch.root, watcher=watcher
                )
                self._play(source)
                if not source.is_live and camera.loop:
                    continue
                self.state = "ended"
                return
            except VisionloopError as error:
                self._fault(str(error.problems[0]), RETRY_S)
                if camera.reconnects is not None:
                    self.state = "ended"
                    return
            except Exception as error:  # a bug in one camera's path must not end the others
                self._fault(f"{type(error).__name__}: {error}", RETRY_S)
            wait_until(time.monotonic() + RETRY_S, self._is_ended)

    def _is_ended(self) -> bool:
        """Asked by the source several times a second: the sign of life."""
        self.beat = time.monotonic()
        return self._ended.is_set()

    def _fault(self, reason: str, wait_s: float) -> None:
        self.faults += 1
        self.falls += self.decoded > self._decoded_before
        self._decoded_before = self.decoded
        self.reason = reason
        self.state = "refused" if wait_s >= RETRY_S else "lost"

    def _judge(self, picture: Any, now: float, encoded: bytes | None = None) -> Reason:
        """Ask the gate, and offer the frame if it says so."""
        reason = self.gate.judge(small_grey(picture), now)
        self.state = "active" if self.gate.is_active(now) else "idle"
        if reason:
            candidate = Candidate(picture, reason, time.time(), encoded)
            camera = self.watch.camera
            self.offered += 1
            if self._mailbox.put(Offer(camera.name, camera.priority, now, candidate)):
                self.replaced += 1
        else:
            self.last_quiet = now
        return reason


class VideoReader(Reader):
    """A stream of packets: RTSP, files."""

    def __init__(self, watch: Watch, mailbox: Mailbox) -> None:
        super().__init__(watch, mailbox)
        evidence = watch.evidence
        # A clip begins at a key frame, which may lie a whole group of pictures earlier.
        self._seconds = evidence.clip_before_s + evidence.clip_after_s
        self._seconds += 2 * watch.gate.max_key_gap_s
        self._max_bytes = round(evidence.ring_megabytes * 1e6)
        self._ring: PacketRing | PictureRing = PacketRing(self._seconds, self._max_bytes)
        self._begin(None)

    @property
    def ring(self) -> PacketRing | PictureRing:
        return self._ring

    def _begin(self, stream: Any) -> None:
        """Another connection: nothing is known of its key frames."""
        self._stream = stream
        if stream is not None and stream.codec_context.name not in CLIP_CODECS:
            self._ring = PictureRing(self._seconds, self._max_bytes)
        self._last_key = -1e9
        self._keys_are_near = False
        self._skips = False
        self._needs_key = True

    def _play(self, source: Any) -> None:
        for packet in source.packets():
            now = self.beat = time.monotonic()
            if packet.stream is not self._stream:
                self._begin(packet.stream)
            self.packets += bool(packet.size)
            if self.watch.evidence.clips and isinstance(self._ring, PacketRing):
                self._ring.add(packet, now)
            self._take(packet, now)

    def _take(self, packet: Any, now: float) -> None:
        is_key = bool(packet.is_keyframe)
        if is_key:
            self._keys_are_near = now - self._last_key <= self.watch.gate.max_key_gap_s
            self._last_key, self._needs_key = now, False
        if not is_key and (self._skips or self._needs_key):
            return
        pictures = self._decode(packet)
        if is_key and self._skips and not pictures:
            pictures = self._drain()
        for picture in pictures:
            if picture.is_corrupt:
                # What follows is made from it, and the decoder does not mark that.
                self.damaged += 1
                self._needs_key = True
                return
            self.decoded += 1
            self.last_frame = now
            self.health.look(picture, now)
            if not self._skips and not self.gate.is_due(now):
                continue
            if self.watch.evidence.clips and isinstance(self._ring, PictureRing):
                # Converted before it is offered: PyAV must not convert a frame in two threads.
                picture = picture.to_ndarray(format="bgr24")
                self._ring.add(picture, None, now)
            self._judge(picture, now)
        if is_key and not self._needs_key:
            self._change_pace(packet, now)

    def _change_pace(self, packet: Any, now: float) -> None:
        """At a key frame: skip what lies between key frames, or decode it again."""
        gate = self.watch.gate
        should_skip = gate.key_frames and self._keys_are_near and not self.gate.is_active(now)
        if self._skips and not should_skip:
            # The decoder may have been emptied at this frame: it needs it to go on from.
            self._stream.codec_context.flush_buffers()
            self._decode(packet)
        self._skips = should_skip

    def _decode(self, packet: Any) -> list[Any]:
        import av

        try:
            return list(packet.decode())
        except av.FFmpegError:
            # What follows refers to what could not be read: wait for the next key frame.
            self.damaged += 1
            self._needs_key = True
            return []

    def _drain(self) -> list[Any]:
        """A frame that the decoder holds back until others follow, which are skipped."""
        import av

        context = self._stream.codec_context
        try:
            pictures = list(context.decode(None))
        except av.FFmpegError:
            pictures = []
        context.flush_buffers()
        return pictures


class PictureReader(Reader):
    """Single pictures: HTTP, folders, GStreamer."""

    def __init__(self, watch: Watch, mailbox: Mailbox) -> None:
        super().__init__(watch, mailbox)
        evidence = watch.evidence
        seconds = evidence.clip_before_s + evidence.clip_after_s + 1
        self._ring = PictureRing(seconds, round(evidence.ring_megabytes * 1e6))

    @property
    def ring(self) -> PictureRing:
        return self._ring

    def _play(self, source: Any) -> None:
        if not source.pace.rate:
            source.pace.rate = self.watch.gate.active_fps
        for frame in source.frames():
            now = self.beat = time.monotonic()
            self.packets += 1
            self.decoded += 1
            self.last_frame = now
            self.health.look(frame.image, now)
            if self.watch.evidence.clips:
                self._ring.add(frame.image, frame.encoded, now)
            if self.gate.is_due(now):
                self._judge(frame.image, now, frame.encoded)


def make_reader(watch: Watch, mailbox: Mailbox) -> Reader:
    """The reader of a camera, not yet started."""
    is_video = watch.camera.kind in ("rtsp", "file")
    return VideoReader(watch, mailbox) if is_video else PictureReader(watch, mailbox)
