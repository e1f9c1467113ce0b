"""Sources: where frames come from. One row of the table a kind of source."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Frame
from visionloop.core.errors import DataError, UnreachableError
from visionloop.core.plugins import resolve
from visionloop.core.privacy import mask_secrets
from visionloop.core.progress import say_step
from visionloop.serving.images import IMAGE_SUFFIXES, decode_image
from visionloop.serving.params import SourceParams

__all__ = ["SOURCES", "FolderSource", "RtspSource", "Source", "VideoFileSource", "open_source"]

SOURCES = {
    "folder": "visionloop.serving.edge.sources:FolderSource",
    "file": "visionloop.serving.edge.sources:VideoFileSource",
    "rtsp": "visionloop.serving.edge.sources:RtspSource",
}

OPEN_TIMEOUT_S, READ_TIMEOUT_S = 5.0, 3.0
RECONNECT_PAUSE_S = 2.0


class Source(Protocol):
    """A source; built with ``(params, site=..., root=...)``.

    Attributes
    ----------
    total : int or None
        Number of its frames, where it has an end that is known.
    """

    total: int | None

    def frames(self, start: int = 0) -> Iterator[Frame]:
        """Frames from sequence number ``start`` on, at the source's rate."""
        ...


def open_source(params: SourceParams, *, site: str, root: Path) -> Source:
    """Build the source that a configuration names.

    Raises
    ------
    ConfigError
        If the kind is unknown.
    DataError
        If its folder or file is missing.
    """
    source: Source = resolve(SOURCES, params.kind, kind="source", extra="edge")(
        params, site=site, root=root
    )
    return source


class FolderSource:
    """Plays the image files of a folder in the order of their names.

    The original bytes stay with the frame, so that a kept frame is the same file with
    the same sample id. A damaged file is told and skipped: the line goes on.

    Raises
    ------
    DataError
        If there is no such folder or it holds no image.
    """

    def __init__(self, params: SourceParams, *, site: str, root: Path) -> None:
        self._params, self._site = params, site
        folder = root / params.path
        if not folder.is_dir():
            raise DataError(f"source '{params.name}'", f"there is no folder {folder}")
        self._files = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in IMAGE_SUFFIXES]
        if not self._files:
            raise DataError(f"source '{params.name}'", f"{folder} holds no PNG or JPEG file")
        self.total: int | None = len(self._files)

    def frames(self, start: int = 0) -> Iterator[Frame]:
        """Frames from sequence number ``start`` on, at the source's rate."""
        pace = _Pace(self._params.rate)
        for sequence in range(start, len(self._files)):
            path = self._files[sequence]
            pace.wait()
            try:
                content = path.read_bytes()
                image = decode_image(content, subject=str(path), suffix=path.suffix)
            except (OSError, DataError) as error:
                say_step(f"source '{self._params.name}': skipped {error}")
                continue
            yield _frame(self._params, self._site, sequence, image, encoded=content)


class VideoFileSource:
    """Plays a video file (PyAV).

    Raises
    ------
    DataError
        If the file is missing or cannot be decoded.
    """

    def __init__(self, params: SourceParams, *, site: str, root: Path) -> None:
        self._params, self._site = params, site
        self._path = root / params.path
        if not self._path.is_file():
            raise DataError(f"source '{params.name}'", f"there is no file {self._path}")
        self.total: int | None = None

    def frames(self, start: int = 0) -> Iterator[Frame]:
        """Frames from sequence number ``start`` on, at the source's rate."""
        import av

        pace = _Pace(self._params.rate)
        try:
            with av.open(str(self._path)) as container:
                for sequence, picture in enumerate(container.decode(video=0)):
                    if sequence < start:
                        continue
                    pace.wait()
                    image = picture.to_ndarray(format="bgr24")
                    yield _frame(self._params, self._site, sequence, image)
        except (av.FFmpegError, IndexError) as error:
            raise DataError(
                f"source '{self._params.name}'", f"{self._path} cannot be decoded: {error}"
            ) from None


class RtspSource:
    """Watches a camera over RTSP (TCP), and connects again a bounded number of times.

    Without time limits PyAV waits forever for a camera that froze. A live source that
    merely ends is a fault too. With a rate, frames between are dropped: the newest counts.

    Raises
    ------
    UnreachableError
        While playing, if the camera stays away; its password is masked.
    """

    def __init__(self, params: SourceParams, *, site: str, root: Path) -> None:
        self._params, self._site = params, site
        self.total: int | None = None

    def frames(self, start: int = 0) -> Iterator[Frame]:
        """Frames from sequence number ``start`` on; ends only with an error."""
        sequence, failures = start, 0
        while True:
            problem = "the stream ended"
            try:
                for image in self._connect():
                    failures = 0
                    yield _frame(self._params, self._site, sequence, image)
                    sequence += 1
            except OSError as error:  # av.FFmpegError is one
                problem = mask_secrets(str(error))
            failures += 1
            if failures > self._params.reconnects:
                raise UnreachableError(
                    f"source '{self._params.name}' at {mask_secrets(self._params.path)}",
                    f"{problem}; {failures} attempts",
                    "check cable, address and password, then start the agent again",
                )
            say_step(f"source '{self._params.name}': {problem}; connecting again")
            time.sleep(RECONNECT_PAUSE_S)

    def _connect(self) -> Iterator[NDArray[np.uint8]]:
        import av

        period = 1 / self._params.rate if self._params.rate else 0.0
        due = time.monotonic()
        options = {"rtsp_transport": "tcp"}
        limits = (OPEN_TIMEOUT_S, READ_TIMEOUT_S)
        with av.open(self._params.path, options=options, timeout=limits) as container:
            for picture in container.decode(video=0):
                now = time.monotonic()
                if now >= due:
                    due = max(due + period, now)
                    yield np.asarray(picture.to_ndarray(format="bgr24"), np.uint8)


class _Pace:
    """Holds frames back to a rate; a late frame does not make the next ones hurry."""

    def __init__(self, rate: float) -> None:
        self._period = 1 / rate if rate else 0.0
        self._due = time.monotonic()

    def wait(self) -> None:
        if not self._period:
            return
        delay = self._due - time.monotonic()
        if delay > 0:
            time.sleep(delay)
        self._due = max(self._due, time.monotonic() - self._period) + self._period


def _frame(
    params: SourceParams,
    site: str,
    sequence: int,
    image: NDArray[Any],
    *,
    encoded: bytes | None = None,
) -> Frame:
    now = datetime.now(timezone.utc)
    return Frame(
        image=np.asarray(image, np.uint8),
        camera=params.camera or params.name,
        site=site,
        sequence=sequence,
        captured_at=now.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
        monotonic=time.monotonic(),
        attributes=dict(params.attributes),
        encoded=encoded,
    )
