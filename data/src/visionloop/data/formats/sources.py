"""A source of pictures and annotation files: a folder, a zip or a tar, read by one interface."""

from __future__ import annotations

import os
import re
import tarfile
import tempfile
import zipfile
from collections import defaultdict
from functools import cached_property
from pathlib import Path, PurePosixPath

from visionloop.core.errors import DataError
from visionloop.data.formats.archives import (
    MAX_FILES,
    MAX_MEMBER_BYTES,
    extract_tar,
    open_archive,
    read_member,
)
from visionloop.serving.images import IMAGE_SUFFIXES, ImageHeader, read_header

__all__ = ["SourceFiles", "open_source"]

OTHER_PICTURES = frozenset({".bmp", ".gif", ".tif", ".tiff", ".webp", ".jp2", ".ppm", ".heic"})


class SourceFiles:
    """Files by name (POSIX, relative). Use it as a context manager.

    Attributes
    ----------
    path : Path
        What the person named.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last: tuple[str, bytes] = ("", b"")
        self._passed_over: tuple[str, ...] = ()

    def _names(self) -> list[str]:
        raise NotImplementedError

    def _read(self, name: str) -> bytes:
        raise NotImplementedError

    def close(self) -> None:
        """Give everything back."""

    def __enter__(self) -> SourceFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def pass_over(self, *folders: str) -> None:
        """Folders (``temp/``) that are not looked at; to be said before anything is read."""
        self._passed_over = folders

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All files but hidden ones, in order."""
        names = (name for name in self._names() if not name.startswith(self._passed_over))
        return tuple(sorted(name for name in names if not _is_hidden(name)))

    def read(self, name: str) -> bytes:
        """The bytes of a file (DataError if it cannot be read); the last one is remembered."""
        if self._last[0] != name:
            self._last = (name, self._read(name))
        return self._last[1]

    def header(self, name: str) -> ImageHeader:
        """Format and size of a picture (DataError if it is none)."""
        return read_header(self.read(name), subject=name)

    def with_suffix(self, *suffixes: str) -> list[str]:
        """Names that end so, in order; suffixes in small letters with their dot."""
        return [name for name in self.names if _suffix(name) in suffixes]

    @cached_property
    def pictures(self) -> list[str]:
        """Names of PNG and JPEG files."""
        return self.with_suffix(*IMAGE_SUFFIXES)

    @cached_property
    def other_pictures(self) -> list[str]:
        """Names of pictures in formats that are not read."""
        return self.with_suffix(*OTHER_PICTURES)

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for name in self.pictures:
            found[PurePosixPath(name).stem].append(name)
        return dict(found)

    def find_picture(self, named: str, *, near: str) -> str:
        """The picture that an annotation file means; empty if there is none or no telling.

        Parameters
        ----------
        named : str
            What the file calls it (a path, a file name or a bare stem).
        near : str
            Name of the annotation file: of several pictures with that stem, the one whose
            path is most like it is meant.
        """
        wanted = PurePosixPath(named.replace("\\", "/"))
        beside = (PurePosixPath(near).parent / wanted).as_posix()
        if beside in self._known:
            return beside
        found = self._by_stem.get(wanted.stem, []) or self._by_stem.get(wanted.name, [])
        exact = [name for name in found if name.endswith(wanted.as_posix())] or found
        likeness = {name: _likeness(name, near) for name in exact}
        best = max(likeness.values(), default=0)
        nearest = [name for name, one in likeness.items() if one == best]
        return nearest[0] if len(nearest) == 1 else ""

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.pictures)


class FolderFiles(SourceFiles):
    """The plain files below a folder; links that lead out of it are refused."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._root = path.resolve()

    def _names(self) -> list[str]:
        names: list[str] = []
        escaped: list[str] = []
        for folder, _, files in os.walk(self._root):
            for file in files:
                place = Path(folder, file)
                if not place.resolve().is_relative_to(self._root):
                    escaped.append(f"{place.relative_to(self._root)} is a link that leads out")
                elif place.is_file():
                    names.append(place.relative_to(self._root).as_posix())
            if len(names) > MAX_FILES:
                raise DataError(str(self.path), f"holds more than {MAX_FILES} files", "divide it")
        if escaped:
            raise DataError(str(self.path), escaped[:10], "copy those files into the folder")
        return names

    def _read(self, name: str) -> bytes:
        place = self._root / name
        try:
            if (size := place.stat().st_size) > MAX_MEMBER_BYTES:
                raise DataError(str(place), f"has {size >> 20} MiB, more than is read")
            return place.read_bytes()
        except OSError as error:
            raise DataError(str(place), f"cannot be read: {error.strerror}") from None


class ZipFiles(SourceFiles):
    """The members of a zip file that was checked as a whole."""

    def __init__(self, path: Path, *, sha256: str | None = None) -> None:
        super().__init__(path)
        self._archive = open_archive(path, sha256=sha256)

    def _names(self) -> list[str]:
        return [row.filename for row in self._archive.infolist() if not row.is_dir()]

    def _read(self, name: str) -> bytes:
        return read_member(self._archive, name)

    def close(self) -> None:
        self._archive.close()


class TarFiles(FolderFiles):
    """The members of a tar file, checked as a whole and unpacked into a temporary folder."""

    def __init__(self, path: Path) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="visionloop-import-")
        try:
            extract_tar(path, Path(self._temporary.name))
        except BaseException:
            self._temporary.cleanup()
            raise
        super().__init__(Path(self._temporary.name))
        self.path = path

    def close(self) -> None:
        self._temporary.cleanup()


def open_source(path: Path, *, sha256: str | None = None) -> SourceFiles:
    """Open a folder, a zip file or a tar file (plain, gz, bz2, xz).

    Raises
    ------
    DataError
        If there is no such thing, it is of another kind, or it is not safe to open.
    """
    path = Path(path)
    if path.is_dir():
        return FolderFiles(path)
    if not path.is_file():
        raise DataError(str(path), "there is no such folder or archive")
    if zipfile.is_zipfile(path) or path.suffix.lower() == ".zip":
        return ZipFiles(path, sha256=sha256)
    if _is_tar(path):
        return TarFiles(path)
    raise DataError(str(path), "is neither a folder nor a zip or tar file", "unpack it yourself")


def _is_tar(path: Path) -> bool:
    try:
        return tarfile.is_tarfile(path)
    except (OSError, EOFError):
        return False


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _is_hidden(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or any(part.startswith(".") for part in parts)


def _likeness(picture: str, near: str) -> float:
    """How alike two folders are: the same folder first, then words that their paths share.

    Two pictures that are equally like stay undecided: a wrong picture is worse than none.
    """
    ours, theirs = (PurePosixPath(name).parent.as_posix().lower() for name in (picture, near))
    if ours == theirs:
        return 1000.0
    words, others = (set(re.findall(r"[a-z0-9]+", folder)) for folder in (ours, theirs))
    return len(words & others) - 0.1 * len(words - others)
