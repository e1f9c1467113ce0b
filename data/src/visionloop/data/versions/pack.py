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
from pathlib import Path
from typing import TYPE_CHECKING

from visionloop.core.errors import DataError
from visionloop.core.failpoints import failpoint
from visionloop.core.files import sha256_of_bytes
from visionloop.core.progress import track
from visionloop.core.workspace import Workspace
from visionloop.data.versions.seen import PackReport, Seen, name_of, put_file, scan, settled

if TYPE_CHECKING:
    from visionloop.data.versions.shards import Member

__all__ = ["UnpackReport", "pack", "shard_folder", "unpack"]


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
    lines = scan(images)
    seen = Seen.read(folder)
    if seen.is_current and seen.body == "\n".join(lines) and not (remove_missing or compact):
        return seen.report
    fresh = frozenset(lines) - seen.lines()
    if seen.is_current and not (remove_missing or seen.report.missing):
        gone = seen.lines().difference(lines)
        report = _add_since(images, folder, fresh, gone, seen.report)
    else:
        report = _add_all(images, folder, lines, remove_missing)
    if compact:
        report = _compacted(folder, report)
    Seen.write(folder, report, [settled(one, started) if one in fresh else one for one in lines])
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
                put_file(path, store.read(row.name))
            except DataError as error:
                problems += list(error.problems)
                continue
            written += 1
            failpoint("unpack.file_written")
    os.sync()  # once for all: a sync for each of 100,000 files would take minutes
    if problems:
        raise DataError(str(folder), problems[:50], "visionloop data verify names what is damaged")
    return UnpackReport(written, there)


def _add_since(
    images: Path, folder: Path, fresh: frozenset[str], gone: frozenset[str], last: PackReport
) -> PackReport:
    """Add what differs from what was seen; the index is read for these names alone."""
    from visionloop.data.versions.shards import find_members

    names = {name_of(line) for line in fresh}
    report = _write(images, folder, names, find_members(folder, names), [])
    return replace(
        report,
        files=last.files + report.added,
        missing=len({name_of(line) for line in gone} - names),
        dead=last.dead + report.dead,
    )


def _add_all(images: Path, folder: Path, lines: list[str], remove_missing: bool) -> PackReport:
    """Compare every file with the index by content: nothing is known of what was seen last."""
    from visionloop.data.versions.shards import latest, members_of, shard_numbers

    rows = [row for number in shard_numbers(folder) for row in members_of(folder, number)]
    index = latest(rows)
    names = {name_of(line) for line in lines}
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
