"""A folder or video file at work: each look takes everything that is new."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from visionloop.data.collection.storage import NoSpaceError
from visionloop.data.collection.worker import CameraWorker
from visionloop.serving.images import IMAGE_SUFFIXES

__all__ = ["FileWorker"]

Stamp = tuple[int, int]


class FileWorker(CameraWorker):
    """Looks at a folder of images or a video file.

    A file is new if no file of its name, size and time of change was taken before. It counts
    as taken only when it was decided about: killed before, the next look decides again.
    """

    def _play(self, asked_by: str) -> None:
        journal, camera = self._keeper.journal, self.camera
        self._seen = journal.seen_files(camera.id)
        self._new: dict[str, Stamp] = {}
        self._at: tuple[str, Stamp] | None = None
        try:
            if camera.source.kind == "folder":
                self._play_folder(asked_by)
            else:
                self._play_video(asked_by)
        except NoSpaceError:
            self.tally.counts["no_space"] += 1
        finally:
            journal.add_seen_files(camera.id, self._new)
            journal.set_place(self._place, self._next)

    def _play_folder(self, asked_by: str) -> None:
        """Frames are numbered over all looks. An empty folder is an inbox, not a fault."""
        folder = self._workspace.root / self.camera.source.path
        if folder.is_dir() and not any(
            p.suffix.lower() in IMAGE_SUFFIXES for p in folder.iterdir()
        ):
            return
        source = self._open(lambda: self._is_stopping, self._is_known)
        self.tally.fault = ""
        for frame in source.frames():
            if self._take(replace(frame, sequence=self._next), asked_by) == "over_quota":
                return  # the file stays new: tomorrow there is a quota again
            self._next += 1
            if self._is_stopping or self._is_used_up():
                break
        self._decided()

    def _play_video(self, asked_by: str) -> None:
        """Frames are numbered by their place in the video; it is taken when played to its end."""
        if self._is_known(self._workspace.root / self.camera.source.path):
            return
        source = self._open(lambda: self._is_stopping)
        self.tally.fault = ""
        for frame in source.frames():
            self._take(frame, asked_by)
            if self._is_stopping or self._is_used_up():
                return
        self._decided()

    def _is_known(self, path: Path) -> bool:
        """Asked before a file is read: the one before it was decided about."""
        self._decided()
        try:
            found = path.stat()
        except OSError:
            return False  # the source says what is wrong with it
        stamp = (found.st_size, found.st_mtime_ns)
        if self._seen.get(path.name) == stamp:
            return True
        self._at = (path.name, stamp)
        return False

    def _decided(self) -> None:
        if self._at is not None:
            self._new[self._at[0]] = self._at[1]
            self._at = None


def _holds_images(folder: Path) -> bool:
    return any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.iterdir())
