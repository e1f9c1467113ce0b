"""Sources that have an end: folders of images and video files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from visionloop.core.entities import Frame
from visionloop.core.errors import DataError
from visionloop.core.progress import say_step
from visionloop.serving.images import IMAGE_SUFFIXES, decode_image
from visionloop.serving.source_params import SourceParams
from visionloop.serving.sources.frames import Pace, Watcher, make_frame, wait_until

__all__ = ["FolderSource", "VideoFileSource"]


class FolderSource:
    """Plays the image files of a folder in the order of their names.

    The original bytes stay with the frame, so that a kept frame is the same file with
    the same sample id. A damaged file is told and skipped: the line goes on.

    Raises
    ------
    DataError
        If there is no such folder or it holds no image.
    """

    is_live = False

    def __init__(self, params: SourceParams, *, site: str, root: Path, watcher: Watcher) -> None:
        self._params, self._site, self._watcher = params, site, watcher
        folder = root / params.path
        if not folder.is_dir():
            raise DataError(f"source '{params.name}'", f"there is no folder {folder}")
        self._files = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in IMAGE_SUFFIXES]
        if not self._files:
            raise DataError(f"source '{params.name}'", f"{folder} holds no PNG or JPEG file")
        self.total: int | None = len(self._files)
        self.pace = Pace(params.rate)

    def frames(self, start: int = 0) -> Iterator[Frame]:
        """Frames from sequence number ``start`` on, at the source's rate."""
        for sequence in range(start, len(self._files)):
            path = self._files[sequence]
            if self._watcher.is_known(path):
                continue
            if not self.pace.wait(self._watcher.should_stop):
                return
            try:
                content = path.read_bytes()
                image = decode_image(content, subject=str(path), suffix=path.suffix)
            except (OSError, DataError) as error:
                say_step(f"source '{self._params.name}': skipped {error}")
                continue
            yield make_frame(self._params, self._site, sequence, image, encoded=content)


class VideoFileSource:
    """Plays a video file (PyAV).

    Raises
    ------
    DataError
        If the file is missing or cannot be decoded.
    """

    is_live = False

    def __init__(self, params: SourceParams, *, site: str, root: Path, watcher: Watcher) -> None:
        self._params, self._site, self._watcher = params, site, watcher
        self._path = root / params.path
        if not self._path.is_file():
            raise DataError(f"source '{params.name}'", f"there is no file {self._path}")
        self.total: int | None = None
        self.pace = Pace(params.rate)

    def frames(self, start: int = 0) -> Iterator[Frame]:
        """Frames from sequence number ``start`` on, at the source's rate."""
        import av

        try:
            with av.open(str(self._path)) as container:
                for sequence, picture in enumerate(container.decode(video=0)):
                    if sequence < start:
                        continue
                    if not self.pace.wait(self._watcher.should_stop):
                        return
                    image = picture.to_ndarray(format="bgr24")
                    yield make_frame(self._params, self._site, sequence, image)
        except (av.FFmpegError, IndexError) as error:
            raise DataError(
                f"source '{self._params.name}'", f"{self._path} cannot be decoded: {error}"
            ) from None

    def packets(self) -> Iterator[Any]:
        """Compressed packets (av.Packet), played as a camera sends them: at the file's own
        times, or at the source's rate; from the beginning again where ``loop`` is set.

        A step of the file's clock that is backwards or longer than a second counts as one
        frame, so that a clock that jumps does not stop the source.

        Raises
        ------
        DataError
            If the file cannot be read as a video.
        """
        import av

        stop = self._watcher.should_stop
        while not stop():
            try:
                with av.open(str(self._path)) as container:
                    stream = container.streams.video[0]
                    stream.codec_context.thread_count = 1
                    clock = _FileClock(stream, self._params.rate)
                    for packet in container.demux(stream):
                        if not wait_until(clock.due(packet), stop):
                            return
                        yield packet
            except (OSError, av.FFmpegError, IndexError) as error:
                raise DataError(
                    f"source '{self._params.name}'", f"{self._path} cannot be read: {error}"
                ) from None
            if not getattr(self._params, "loop", False):
                return


class _FileClock:
    """When each packet of a file is due, on the monotonic clock."""

    LONGEST_STEP_S = 1.0

    def __init__(self, stream: Any, rate: float) -> None:
        own = float(stream.average_rate or stream.guessed_rate or 25)
        self._usual_s = 1 / (rate or own)
        self._speed = own * self._usual_s
        self._base = float(stream.time_base) if stream.time_base else 0.0
        self._last: int | None = None
        self._due = time.monotonic()

    def due(self, packet: Any) -> float:
        """The moment at which a packet is due."""
        if packet.dts is None:
            return self._due
        if self._last is not None:
            step = (packet.dts - self._last) * self._base * self._speed
            self._due += step if 0 <= step <= self.LONGEST_STEP_S else self._usual_s
        self._last = packet.dts
        now = time.monotonic()
        if now - self._due > self.LONGEST_STEP_S:  # we were held up: do not hurry after it
            self._due = now
        return self._due
