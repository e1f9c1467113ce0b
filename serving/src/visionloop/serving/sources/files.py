"""Sources that have an end: folders of images and video files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from visionloop.core.entities import Frame
from visionloop.core.errors import DataError
from visionloop.core.progress import say_step
from visionloop.serving.images import IMAGE_SUFFIXES, decode_image
from visionloop.serving.params import SourceParams
from visionloop.serving.sources.frames import Pace, Watcher, make_frame

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
