"""What the last packing saw of a folder, so that only files that differ are read again.

A file is known by its size, time and inode, as version control knows it. The note lies beside
the shards, in ``.<folder>.state``, and may be lost: then every file is looked at.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from visionloop.core.errors import DataError
from visionloop.core.failpoints import failpoint
from visionloop.core.files import sha256_of_bytes

__all__ = ["PackReport", "Seen", "name_of", "put_file", "scan", "settled"]

RACY_NANOSECONDS = 50_000_000
"""A file changed so shortly before it was looked at may change again within the same tick of
the file system's clock: it is read once more the next time."""


@dataclass(frozen=True)
class PackReport:
    """What a packing did.

    Attributes
    ----------
    files : int
        Files in the shards now.
    added, changed, removed : int
        Since the last packing; removed only where it was asked for.
    missing : int
        Files in the shards that the folder does not have.
    shards : int
        Number of tar files.
    written, dead, cut : int
        Bytes written now; bytes that no name refers to any more; bytes of a torn write that
        were cut off.
    """

    files: int
    added: int = 0
    changed: int = 0
    removed: int = 0
    missing: int = 0
    shards: int = 0
    written: int = 0
    dead: int = 0
    cut: int = 0


@dataclass(frozen=True)
class Seen:
    """What the last packing saw, noted beside the shards in ``.<folder>.state``.

    Attributes
    ----------
    is_current : bool
        The shards still look as that packing left them.
    report : PackReport
        Its counts, with nothing added.
    body : str
        Its lines, see ``scan``.
    """

    is_current: bool
    report: PackReport
    body: str

    @classmethod
    def read(cls, folder: Path) -> Seen:
        try:
            head, _, body = _state(folder).read_text(encoding="utf-8").partition("\n")
            signature, *counts = head.split(" ")
            files, missing, shards, dead = map(int, counts)
        except (FileNotFoundError, ValueError):  # never written, or not readable
            return cls(False, PackReport(0), "")
        report = PackReport(files, missing=missing, shards=shards, dead=dead)
        return cls(signature == _signature(folder), report, body)

    @cache  # noqa: B019 - one of these lives as long as one packing
    def lines(self) -> frozenset[str]:
        """The body, line by line."""
        return frozenset(self.body.split("\n")) if self.body else frozenset()

    @staticmethod
    def write(folder: Path, report: PackReport, lines: list[str]) -> None:
        counts = (report.files, report.missing, report.shards, report.dead)
        head = " ".join([_signature(folder), *map(str, counts)])
        # Not synced: whoever finds it torn looks at every file again, and nothing is lost.
        put_file(_state(folder), "\n".join([head, *lines]).encode())


def scan(folder: Path, below: str = "") -> list[str]:
    """A line for each file: its name, a tab, size, time and inode."""
    lines: list[str] = []
    here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)  # looked up once, not for each file
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    lines += scan(Path(entry.path), f"{below}{name}/")
                    continue
                if not entry.is_file() or not name.isprintable():
                    problem = f"{below}{name!r} is no plain file, or its name is not plain text"
                    raise DataError(str(folder), problem, "rename or remove it; nothing was packed")
                seen = os.stat(name, dir_fd=here)
                lines.append(f"{below}{name}\t{seen.st_size} {seen.st_mtime_ns} {seen.st_ino}")
    finally:
        os.close(here)
    return lines


def name_of(line: str) -> str:
    """The name in a line of ``scan``: what stands before the tab."""
    return line.partition("\t")[0]


def settled(line: str, started: int) -> str:
    """The line, marked so that it will not match where its file may change within this tick."""
    is_settled = int(line.rsplit(" ", 2)[1]) < started - RACY_NANOSECONDS
    return line if is_settled else f"{line} racy"


def _state(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.state"


def _signature(folder: Path) -> str:
    """What the index parts and shards look like from outside; changes when anybody writes one."""
    parts = sorted([*folder.glob("index/*.parquet"), *folder.glob("*.tar")])
    rows = [f"{one.name} {one.stat().st_size} {one.stat().st_mtime_ns}" for one in parts]
    return sha256_of_bytes("\n".join(rows).encode())


def put_file(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees all of it or none (the caller syncs once at the end)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    failpoint("put.before_rename")
    os.replace(temporary, path)
