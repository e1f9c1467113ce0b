"""The verbs ``pack`` and ``unpack``: image files into shards, and back.

``pack`` looks at size, time and inode of each file, as version control does, and reads only
the files that differ from what it saw last; what it saw is noted beside the shards, in a
file that may be lost. Killed at any moment, the same command goes on where it was.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from visionloop.core.errors import DataError
from visionloop.core.failpoints import failpoint
from visionloop.core.files import sha256_of_bytes
from visionloop.core.progress import track
from visionloop.core.workspace import Workspace

if TYPE_CHECKING:
    from visionloop.data.versions.shards import Member

__all__ = ["PackReport", "UnpackReport", "pack", "shard_folder", "unpack"]

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
class UnpackReport:
    """Files written, and files that were there already."""

    written: int
    there: int


def shard_folder(workspace: Workspace) -> Path:
    """Where a workspace keeps the shards of its images."""
    return workspace.root / "data" / "shards"


def pack(
    *,
    workspace: Workspace,
    images: Path | None = None,
    shards: Path | None = None,
    remove_missing: bool = False,
    compact: bool = False,
) -> PackReport:
    """Bring new and changed files of a folder into its shards.

    Parameters
    ----------
    workspace : Workspace
    images : Path or None
        Folder to pack, with its subfolders; ``data/raw/images`` if None. Names that begin
        with a dot are passed over.
    shards : Path or None
        ``data/shards`` if None.
    remove_missing : bool
        Files that the folder no longer has leave the index too. Off by default: a folder
        that was never unpacked here must not empty the shards.
    compact : bool
        Write the shards that hold dead bytes again, without them.

    Raises
    ------
    DataError
        If there is no such folder, or something in it is no file with a printable name.
    """
    images, folder = images or workspace.images, shards or shard_folder(workspace)
    if not images.is_dir():
        raise DataError(str(images), "there is no such folder to pack", "visionloop data import")
    started = time.time_ns()
    lines = _scan(images)
    seen = _Seen.read(folder)
    if seen.is_current and seen.body == "\n".join(lines) and not (remove_missing or compact):
        return seen.report
    if seen.is_current and not (remove_missing or seen.report.missing):
        report = _add_since(images, folder, lines, seen)
    else:
        report = _add_all(images, folder, lines, remove_missing)
    if compact:
        report = _compacted(folder, report)
    settled = seen.lines()
    _Seen.write(
        folder, report, [one if one in settled else _settled(one, started) for one in lines]
    )
    return report


def unpack(
    *,
    workspace: Workspace,
    images: Path | None = None,
    shards: Path | None = None,
    names: Iterable[str] | None = None,
) -> UnpackReport:
    """Write files out of the shards into a folder; files that are there already stay.

    A file counts as there if its size is right; ``visionloop data verify`` reads contents.

    Raises
    ------
    DataError
        If the shards lack one of ``names``, or their bytes are damaged: then the other files
        are written first, and all damaged ones named.
    """
    from visionloop.data.versions.shards import open_shards

    images, folder = images or workspace.images, shards or shard_folder(workspace)
    problems, written, there = [], 0, 0
    with open_shards(folder) as store:
        wanted = None if names is None else set(names)
        if wanted and (unknown := sorted(wanted - set(store.names()))):
            raise DataError(str(folder), [f"hold no file '{name}'" for name in unknown[:20]])
        rows = [row for row in store.members() if wanted is None or row.name in wanted]
        for row in track(rows, "unpacking"):
            path = images / row.name
            if path.is_file() and path.stat().st_size == row.size:
                there += 1
                continue
            try:
                _put(path, store.read(row.name))
            except DataError as error:
                problems += list(error.problems)
                continue
            written += 1
            failpoint("unpack.file_written")
    os.sync()  # once for all: a sync for each of 100,000 files would take minutes
    if problems:
        raise DataError(str(folder), problems[:50], "visionloop data verify names what is damaged")
    return UnpackReport(written, there)


def _add_since(images: Path, folder: Path, lines: list[str], seen: _Seen) -> PackReport:
    """Add what differs from what was seen; the index is read for these names alone."""
    from visionloop.data.versions.shards import find_members

    before = seen.lines()
    fresh = {_name(line) for line in lines if line not in before}
    gone = {_name(line) for line in before.difference(lines)} - fresh
    known = find_members(folder, fresh)
    report = _write(images, folder, fresh, known, [])
    return replace(
        report,
        files=seen.report.files + report.added,
        missing=len(gone),
        dead=seen.report.dead + report.dead,
    )


def _add_all(images: Path, folder: Path, lines: list[str], remove_missing: bool) -> PackReport:
    """Compare every file with the index by content: nothing is known of what was seen last."""
    from visionloop.data.versions.shards import latest, members_of, shard_numbers

    rows = [row for number in shard_numbers(folder) for row in members_of(folder, number)]
    index = latest(rows)
    names = {_name(line) for line in lines}
    gone = sorted(index.keys() - names)
    removed = gone if remove_missing else []
    report = _write(images, folder, names, index, removed)
    return replace(
        report,
        files=len(index) + report.added - len(removed),
        missing=len(gone) - len(removed),
        dead=_content(rows) - _content(index.values()) + report.dead,
    )


def _write(
    images: Path, folder: Path, names: set[str], known: dict[str, Member], removed: list[str]
) -> PackReport:
    """Append the files whose content the index does not have; ``dead`` counts what they replace."""
    from visionloop.data.versions.shard_writer import ShardWriter
    from visionloop.data.versions.shards import shard_numbers

    added = changed = 0
    dead = _content(known[name] for name in removed)
    with ShardWriter(folder) as writer:
        for name in track(sorted(names), "packing"):
            content = (images / name).read_bytes()
            if name in known and known[name].sha256 == sha256_of_bytes(content):
                continue
            writer.add(name, content)
            if name in known:
                changed, dead = changed + 1, dead + known[name].size
            else:
                added += 1
        for name in removed:
            writer.remove(name)
    return PackReport(
        files=0,
        added=added,
        changed=changed,
        removed=len(removed),
        shards=len(shard_numbers(folder)),
        written=writer.written,
        dead=dead,
        cut=writer.cut,
    )


def _content(rows: Iterable[Member]) -> int:
    """Bytes of the files in these rows."""
    return sum(max(row.size, 0) for row in rows)


def _compacted(folder: Path, report: PackReport) -> PackReport:
    """Write the live files of shards that hold dead bytes into new shards, then drop the old.

    The old ones go in ascending order, so that a row that says "removed" outlives the rows
    that it is about.
    """
    from visionloop.data.versions.shard_writer import ShardWriter, remove_shard
    from visionloop.data.versions.shards import Shards, members_of, shard_numbers

    with Shards(folder) as store:
        live = set(store.members())
        wasteful = [
            number
            for number in shard_numbers(folder)
            if any(row not in live for row in members_of(folder, number))
        ]
        if not wasteful:
            return report
        names = {f"{number:05d}.tar" for number in wasteful}
        moved = [row for row in store.members() if row.shard in names]
        with ShardWriter(folder, fresh=True) as writer:
            for row in track(moved, "compacting"):
                writer.add(row.name, store.read(row.name))
    failpoint("compact.written")
    for number in wasteful:
        remove_shard(folder, number)
    written = report.written + writer.written
    return replace(report, written=written, dead=0, shards=len(shard_numbers(folder)))


@dataclass(frozen=True)
class _Seen:
    """What the last packing saw, noted beside the shards in ``.<folder>.state``.

    Attributes
    ----------
    is_current : bool
        The shards still look as that packing left them.
    report : PackReport
        Its counts, with nothing added.
    body : str
        Its lines, see ``_scan``.
    """

    is_current: bool
    report: PackReport
    body: str

    @classmethod
    def read(cls, folder: Path) -> _Seen:
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
        _put(_state(folder), "\n".join([head, *lines]).encode())


def _scan(folder: Path, below: str = "") -> list[str]:
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
                    lines += _scan(Path(entry.path), f"{below}{name}/")
                    continue
                if not entry.is_file() or not name.isprintable():
                    problem = f"{below}{name!r} is no plain file, or its name is not plain text"
                    raise DataError(str(folder), problem, "rename or remove it; nothing was packed")
                seen = os.stat(name, dir_fd=here)
                lines.append(f"{below}{name}\t{seen.st_size} {seen.st_mtime_ns} {seen.st_ino}")
    finally:
        os.close(here)
    return lines


def _name(line: str) -> str:
    return line.partition("\t")[0]


def _settled(line: str, started: int) -> str:
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


def _put(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees all of it or none (the caller syncs once at the end)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
