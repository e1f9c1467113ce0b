"""Writing shards: bytes first, then the index part that makes them count.

A process killed in between leaves bytes that no index knows; the next writer cuts them off.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from io import BufferedRandom
from pathlib import Path

from visionloop.core.failpoints import failpoint
from visionloop.core.files import sha256_of_bytes
from visionloop.data.versions.shards import (
    END_OF_TAR,
    REMOVED,
    Member,
    end_of,
    index_part,
    members_of,
    padded,
    save_index_part,
    shard_numbers,
)

__all__ = ["OPEN_BYTES", "SHARD_BYTES", "ShardWriter", "remove_shard"]

SHARD_BYTES = 64 << 20
"""A shard is closed when it is this large."""
OPEN_BYTES = 4 << 20
"""The last shard takes more files only while it is smaller than this: a large one would be
stored and moved again as a whole for each small addition."""


class ShardWriter:
    """Adds files to a shard folder; use it as a context manager.

    Parameters
    ----------
    folder : Path
    shard_bytes, open_bytes : int
        See ``SHARD_BYTES`` and ``OPEN_BYTES``.
    fresh : bool
        Begin a new shard even if the last one is open.

    Attributes
    ----------
    written : int
        Bytes of tar members written by this writer.
    cut : int
        Bytes of a torn write that were cut off.
    """

    def __init__(
        self,
        folder: Path,
        *,
        shard_bytes: int = SHARD_BYTES,
        open_bytes: int = OPEN_BYTES,
        fresh: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.written = 0
        self._shard_bytes = shard_bytes
        self._numbers = shard_numbers(self.folder)
        last = members_of(self.folder, self._numbers[-1]) if self._numbers else []
        self.cut = self._cut_unknown(end_of(last))
        self._file: BufferedRandom | None = None
        self._rows: list[Member] = []
        self._number = self._numbers[-1] + 1 if self._numbers else 0
        self._end = 0
        if self._numbers and not fresh and end_of(last) < min(open_bytes, shard_bytes):
            self._number, self._rows, self._end = self._numbers[-1], last, end_of(last)
        self._saved = len(self._rows)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.flush()
        elif self._file is not None:
            self._file.close()

    def add(self, name: str, content: bytes) -> None:
        """Append a file; it counts once its shard is flushed."""
        if self._end >= self._shard_bytes:
            self.flush()
            self._number, self._rows, self._end, self._saved = self._number + 1, [], 0, 0
        header = _header(name, len(content))
        file = self._opened()
        file.write(header)
        file.write(content)
        file.write(bytes(padded(len(content)) - len(content)))
        offset = self._end + len(header)
        shard = f"{self._number:05d}.tar"
        self._rows.append(Member(name, sha256_of_bytes(content), shard, offset, len(content)))
        self.written += len(header) + padded(len(content))
        self._end = offset + padded(len(content))
        failpoint("pack.member_written")

    def remove(self, name: str) -> None:
        """Say that a name is gone; its bytes stay until the shards are compacted."""
        self._opened()
        self._rows.append(Member(name, "", f"{self._number:05d}.tar", self._end, REMOVED))

    def flush(self) -> None:
        """Make everything so far durable, and then count."""
        if len(self._rows) == self._saved:
            return
        file = self._opened()
        file.write(END_OF_TAR)
        file.flush()
        os.fsync(file.fileno())
        file.close()
        self._file = None
        failpoint("pack.shard_written")
        save_index_part(self.folder, self._number, self._rows)
        self._saved = len(self._rows)
        failpoint("pack.index_written")

    def _opened(self) -> BufferedRandom:
        """The shard, positioned behind its last known file; whatever follows there is cut off."""
        if self._file is None:
            path = self.folder / f"{self._number:05d}.tar"
            if path.exists():
                _make_own(path)
            self._file = open(path, "r+b" if path.exists() else "w+b")  # noqa: SIM115
            self._file.truncate(self._end)
            self._file.seek(self._end)
        return self._file

    def _cut_unknown(self, end: int) -> int:
        """Remove what a killed writer left: temporary files, shards that no index knows, what
        follows the ``end`` of the last shard."""
        for path in [*self.folder.glob(".*.tmp"), *self.folder.glob("index/.*.tmp")]:
            path.unlink()  # a version control would take it in
        cut = 0
        for path in sorted(self.folder.glob("[0-9]*.tar")):
            number = int(path.stem)
            if number not in self._numbers:
                cut += path.stat().st_size
                path.unlink()
            elif number == self._numbers[-1]:
                surplus = path.stat().st_size - end - len(END_OF_TAR)
                if surplus and surplus >= -len(END_OF_TAR):  # fewer bytes: content is lost
                    cut += abs(surplus)
                    _end_at(path, end)
        return cut


def remove_shard(folder: Path, number: int) -> None:
    """Take a shard away: its index part first, so that no row ever points to nothing."""
    index_part(folder, number).unlink(missing_ok=True)
    failpoint("compact.index_removed")
    (Path(folder) / f"{number:05d}.tar").unlink(missing_ok=True)


def _end_at(path: Path, end: int) -> None:
    """Cut a tar file off and close it properly."""
    _make_own(path)
    with path.open("r+b") as file:
        file.truncate(end)
        file.seek(end)
        file.write(END_OF_TAR)
        file.flush()
        os.fsync(file.fileno())


def _make_own(path: Path) -> None:
    """Give a file that DVC linked to its cache a copy of its own: the cache must not change."""
    status = path.lstat()
    if path.is_symlink() or status.st_nlink > 1 or not status.st_mode & 0o200:
        handle, temporary = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"
        )
        os.close(handle)
        shutil.copyfile(path, temporary)
        os.chmod(temporary, 0o644)
        failpoint("pack.before_own")
        os.replace(temporary, path)


def _header(name: str, size: int) -> bytes:
    """A tar header that is the same everywhere: no owner, no time."""
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.PAX_FORMAT)
