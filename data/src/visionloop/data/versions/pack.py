"""The verbs ``pack`` and ``unpack``: image files into shards, and back.

``pack`` looks at size, time and inode of each file, as version control does, and reads only
the files that differ from what it saw last; what it saw is noted beside the shards, in a
file that may be lost. Killed at any moment, the same command goes on where it was.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from visionloop.core.errors import DataError
from visionloop.core.failpoints import failpoint
from visionloop.core.files import sha256_of_bytes, write_bytes
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
    found = dict(_scan(images))
    state = folder.parent / f".{folder.name}.state"
    head, seen = _read_state(state)
    if head[:1] == [_signature(folder)] and seen == found and not (remove_missing or compact):
        return PackReport(files=int(head[1]), missing=int(head[2]), shards=int(head[3]),
                          dead=int(head[4]))  # fmt: skip
    trusted = seen if head[:1] == [_signature(folder)] else {}
    report = _add(images, folder, found, trusted, remove_missing)
    if compact:
        report = _compacted(folder, report)
    settled = {
        name: place if _mtime(place) < started - RACY_NANOSECONDS else f"racy {place}"
        for name, place in found.items()
    }
    counts = (report.files, report.missing, report.shards, report.dead)
    _write_state(state, [_signature(folder), *map(str, counts)], settled)
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


def _add(
    images: Path,
    folder: Path,
    found: dict[str, str],
    trusted: dict[str, str],
    remove_missing: bool,
) -> PackReport:
    from visionloop.data.versions.shard_writer import ShardWriter
    from visionloop.data.versions.shards import latest, members_of, shard_numbers

    rows = [row for number in shard_numbers(folder) for row in members_of(folder, number)]
    index = latest(rows)
    looked_at = [
        name for name in sorted(found) if name not in index or trusted.get(name) != found[name]
    ]
    gone = sorted(index.keys() - found.keys())
    removed = gone if remove_missing else []
    dead = _content(rows) - _content(index.values()) + _content(index[name] for name in removed)
    added = changed = 0
    with ShardWriter(folder) as writer:
        for name in track(looked_at, "packing"):
            content = (images / name).read_bytes()
            if name in index and index[name].sha256 == sha256_of_bytes(content):
                continue
            writer.add(name, content)
            if name in index:
                changed, dead = changed + 1, dead + index[name].size
            else:
                added += 1
        for name in removed:
            writer.remove(name)
    return PackReport(
        files=len(index) + added - len(removed),
        added=added,
        changed=changed,
        removed=len(removed),
        missing=len(gone) - len(removed),
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


def _scan(folder: Path, below: str = "") -> Iterator[tuple[str, str]]:
    """Each file's name and "size mtime inode"."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _scan(Path(entry.path), f"{below}{entry.name}/")
                continue
            if not entry.is_file() or not entry.name.isprintable():
                problem = f"{below}{entry.name!r} is no plain file, or its name is not plain text"
                raise DataError(str(folder), problem, "rename or remove it; nothing was packed")
            status = entry.stat()
            yield f"{below}{entry.name}", f"{status.st_size} {status.st_mtime_ns} {status.st_ino}"


def _mtime(place: str) -> int:
    return int(place.split(" ")[1])


def _signature(folder: Path) -> str:
    """What the index parts and shards look like from outside; changes when anybody writes one."""
    parts = sorted([*folder.glob("index/*.parquet"), *folder.glob("*.tar")])
    rows = [f"{one.name} {one.stat().st_size} {one.stat().st_mtime_ns}" for one in parts]
    return sha256_of_bytes("\n".join(rows).encode())


def _read_state(path: Path) -> tuple[list[str], dict[str, str]]:
    try:
        head, *lines = path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, ValueError):  # never written, or not readable: look at every file
        return [], {}
    return head.split(" "), dict(line.split("\t") for line in lines)  # type: ignore[misc]


def _write_state(path: Path, head: list[str], seen: dict[str, str]) -> None:
    lines = [" ".join(head), *(f"{name}\t{place}" for name, place in seen.items())]
    write_bytes(path, "\n".join(lines).encode("utf-8", "surrogateescape"))


def _put(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees all of it or none (the caller syncs once at the end)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
