"""Many small files as a few plain tar files and a Parquet index: the format and its reader.

A shard folder holds

- ``00000.tar``, ``00001.tar``, …: ordinary tar files, ``tar xf`` reads them;
- ``index/00000.parquet``, …: one part a shard with the columns ``name``, ``sha256`` (of an
  image the sample id), ``shard``, ``offset`` and ``size`` in bytes. Together they are the
  index: ``pandas.read_parquet("shards/index")``.

Shards only grow: a changed file is a new row in a later place, a removed one a row of size
-1, and of several rows of one name the last counts. The bytes that nobody refers to any
more stay until ``pack --compact``. So a version control of files moves what is new and
nothing else, and one sample is read with one seek.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from array import array
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from visionloop.core.errors import DataError
from visionloop.core.files import write_bytes

if TYPE_CHECKING:
    import pyarrow

__all__ = [
    "END_OF_TAR",
    "REMOVED",
    "Member",
    "Shards",
    "check_shards",
    "end_of",
    "find_members",
    "index_part",
    "latest",
    "load_index",
    "members_of",
    "open_shards",
    "padded",
    "save_index_part",
    "shard_numbers",
]

BLOCK = 512
END_OF_TAR = bytes(2 * BLOCK)
REMOVED = -1
"""Size of a row that says: this name is gone."""

RESTORE = "restore the shard: visionloop data pull, or pack again from the images"


class Member(NamedTuple):
    """One row of the index.

    Attributes
    ----------
    name : str
        Path below the packed folder, with ``/``.
    sha256 : str
        Of its content, hexadecimal; empty for a removed name.
    shard : str
        File name of the tar.
    offset, size : int
        Where its content starts and how long it is, bytes; size -1 says removed.
    """

    name: str
    sha256: str
    shard: str
    offset: int
    size: int


class Shards:
    """Random access to the files in a shard folder; safe to share between threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._rows = load_index(self.folder)
        self._by_content = {row.sha256: row for row in self._rows.values()}
        self._open: dict[str, int] = {}

    def __enter__(self) -> Shards:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: str) -> bool:
        return key in self._rows or key in self._by_content

    def names(self) -> list[str]:
        """Names of all files, sorted."""
        return sorted(self._rows)

    def members(self) -> Iterator[Member]:
        """All files in the order of their places: reading them so is one pass over the disk."""
        return iter(sorted(self._rows.values(), key=lambda row: (row.shard, row.offset)))

    def read(self, key: str) -> bytes:
        """The content of a file, by its name or its sample id (SHA-256), one seek.

        Raises
        ------
        DataError
            If there is no such file, or its bytes are not those that were packed.
        """
        row = self._rows.get(key) or self._by_content.get(key)
        if row is None:
            raise DataError(f"shards {self.folder}", f"hold no file '{key}'")
        content = os.pread(self._descriptor(row.shard), row.size, row.offset)
        if hashlib.sha256(content).hexdigest() != row.sha256:
            problem = f"the bytes of {row.name} are not those that were packed"
            raise DataError(str(self.folder / row.shard), problem, RESTORE)
        return content

    def close(self) -> None:
        """Close the tar files."""
        while self._open:
            os.close(self._open.popitem()[1])

    def _descriptor(self, shard: str) -> int:
        if shard not in self._open:
            try:
                self._open[shard] = os.open(self.folder / shard, os.O_RDONLY)
            except FileNotFoundError:
                path = self.folder / shard
                raise DataError(str(path), "there is no such file", RESTORE) from None
        return self._open[shard]


def open_shards(folder: Path) -> Shards:
    """Open a shard folder for reading.

    Raises
    ------
    DataError
        If it has no index, or a part of it is not readable.
    """
    if not (Path(folder) / "index").is_dir():
        raise DataError(str(folder), "is no shard folder: it has no index", "visionloop data pack")
    return Shards(folder)


def load_index(folder: Path) -> dict[str, Member]:
    """Name to the row that counts; empty where nothing was packed."""
    return latest(row for number in shard_numbers(folder) for row in members_of(folder, number))


def latest(rows: Iterable[Member]) -> dict[str, Member]:
    """Of several rows of one name the last; names whose last row says removed are left out."""
    found: dict[str, Member] = {}
    for row in rows:
        if row.size == REMOVED:
            found.pop(row.name, None)
        else:
            found[row.name] = row
    return found


def find_members(folder: Path, names: set[str]) -> dict[str, Member]:
    """As :func:`load_index`, for a few names: the rows of all others are never made."""
    rows: list[Member] = []
    for number in shard_numbers(folder) if names else ():
        known = _table(folder, number, ["name"]).column(0).to_pylist()
        places = [place for place, name in enumerate(known) if name in names]
        rows += members_of(folder, number, places) if places else []
    return latest(rows)


def shard_numbers(folder: Path) -> list[int]:
    """Numbers of the shards that the index knows, ascending."""
    return sorted(int(path.stem) for path in (Path(folder) / "index").glob("[0-9]*.parquet"))


def members_of(folder: Path, number: int, places: list[int] | None = None) -> list[Member]:
    """The rows of one shard, in order; with ``places`` only the rows that stand there.

    Raises
    ------
    DataError
        If the part is not a readable Parquet file of these columns.
    """
    table = _table(folder, number, list(Member._fields))
    if places is None:
        columns = [column.to_pylist() for column in table.columns]
    else:
        columns = [[column[place].as_py() for place in places] for column in table.columns]
    return list(map(Member._make, zip(*columns, strict=True)))


def _table(folder: Path, number: int, names: list[str]) -> pyarrow.Table:
    import pyarrow
    import pyarrow.parquet

    path = index_part(folder, number)
    try:
        with path.open("rb") as file:
            # Not read_table: that imports pandas and a second's worth of file systems.
            return pyarrow.parquet.ParquetFile(file).read(columns=names).select(names)
    except (pyarrow.ArrowInvalid, OSError, KeyError) as error:
        raise DataError(str(path), f"is not a part of an index: {error}", RESTORE) from None


def save_index_part(folder: Path, number: int, rows: list[Member]) -> Path:
    """Write the rows of one shard durably: this is what makes them count."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table(
        {
            "name": _texts([row.name for row in rows]),
            "sha256": _texts([row.sha256 for row in rows]),
            "shard": _texts([row.shard for row in rows]),
            "offset": _numbers([row.offset for row in rows]),
            "size": _numbers([row.size for row in rows]),
        }
    )
    buffer = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, buffer, compression="zstd")
    return write_bytes(index_part(folder, number), buffer.getvalue().to_pybytes())


def _texts(values: list[str]) -> pyarrow.StringArray:
    """A column of text, made of its bytes: ``pyarrow.array`` would import pandas first."""
    import pyarrow

    coded = [value.encode() for value in values]
    ends = array("i", accumulate((len(one) for one in coded), initial=0))
    parts = (pyarrow.py_buffer(ends.tobytes()), pyarrow.py_buffer(b"".join(coded)))
    return pyarrow.StringArray.from_buffers(len(values), *parts)


def _numbers(values: list[int]) -> pyarrow.Int64Array:
    import pyarrow

    content = pyarrow.py_buffer(array("q", values).tobytes())
    return pyarrow.Array.from_buffers(pyarrow.int64(), len(values), [None, content])


def index_part(folder: Path, number: int) -> Path:
    """The index file of a shard."""
    return Path(folder) / "index" / f"{number:05d}.parquet"


def padded(size: int) -> int:
    """Bytes that a content takes in a tar file."""
    return -(-size // BLOCK) * BLOCK


def end_of(rows: list[Member]) -> int:
    """Where the content of a shard ends, by its index."""
    return max((row.offset + padded(row.size) for row in rows if row.size != REMOVED), default=0)


def check_shards(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Read every shard again.

    Yields
    ------
    (shard, problems)
        File name of the tar and what is wrong with it, each problem naming the file that it
        hits; the list is empty where all is well.
    """
    for number in shard_numbers(folder):
        shard = f"{number:05d}.tar"
        try:
            yield shard, _problems(Path(folder) / shard, members_of(folder, number))
        except DataError as error:
            yield shard, list(error.problems)


def _problems(path: Path, rows: list[Member]) -> list[str]:
    if not path.exists():
        return [f"is missing, and {len(rows)} files with it"]
    problems = []
    with path.open("rb") as file:
        for row in rows:
            if row.size == REMOVED:
                continue
            file.seek(row.offset - BLOCK)
            header, content = file.read(BLOCK), file.read(row.size)
            if hashlib.sha256(content).hexdigest() != row.sha256:
                problems.append(f"{row.name}: its bytes are not those that were packed")
            elif not _is_header(header, row):
                problems.append(f"{row.name}: its tar header is damaged, 'tar xf' would stop here")
    surplus = path.stat().st_size - end_of(rows) - len(END_OF_TAR)
    if surplus:
        words = "more" if surplus > 0 else "fewer"
        problems.append(f"has {abs(surplus)} bytes {words} than its index says (a torn write?)")
    return problems


def _is_header(block: bytes, row: Member) -> bool:
    """Whether a tar header (its own checksum is tested) announces this file."""
    try:
        found = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    # A long name stands in an extended header before this one, cut off here.
    return found.size == row.size and (found.name == row.name or len(row.name.encode()) > 100)
