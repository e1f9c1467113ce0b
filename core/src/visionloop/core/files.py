"""Durable files: a reader sees the old content or the new, never half of it."""

from __future__ import annotations

import ctypes
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from visionloop.core.errors import DataError
from visionloop.core.failpoints import failpoint

__all__ = [
    "canonical_json",
    "read_json",
    "replace_file",
    "replace_folder",
    "sha256_of_bytes",
    "sha256_of_file",
    "sha256_of_folder",
    "write_bytes",
    "write_json",
    "write_text",
]


def write_bytes(path: Path, content: bytes, *, mode: int = 0o644) -> Path:
    """Write a file durably: temporary file in the same folder, fsync, rename, fsync folder."""
    with _durable(path, mode) as file:
        file.write(content)
    return path


@contextmanager
def replace_file(path: Path) -> Iterator[TextIO]:
    """Write UTF-8 text bit by bit; it takes the place of ``path`` only if the block succeeds."""
    with _durable(path, 0o644) as raw:
        file = io.TextIOWrapper(raw, encoding="utf-8")
        yield file
        file.detach()


@contextmanager
def _durable(path: Path, mode: int) -> Iterator[BinaryIO]:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        failpoint("files.before_rename")
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_text(path: Path, text: str, *, mode: int = 0o644) -> Path:
    """Write UTF-8 text durably."""
    return write_bytes(path, text.encode(), mode=mode)


def write_json(path: Path, content: Any, *, mode: int = 0o644) -> Path:
    """Write JSON durably: two spaces, keys in the order given, a final newline."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    return write_text(path, text + "\n", mode=mode)


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises
    ------
    DataError
        If the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(str(path), "there is no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(str(path), f"is not valid JSON: {error}") from None


@contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Fill a new folder and put it in the place of ``path`` only if the block succeeds.

    Yields
    ------
    Path
        An empty folder beside ``path`` to write into.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    staging.chmod(0o755)
    try:
        yield staging
        failpoint("files.before_folder_rename")
        if not path.exists():
            os.replace(staging, path)
        else:
            _exchange(staging, path)
            failpoint("files.after_folder_exchange")
            shutil.rmtree(staging)  # which is the old one now
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    _sync_folder(path.parent)


def _exchange(first: Path, second: Path) -> None:
    """Let two folders change places in one step, so that a kill never leaves neither.

    ``renameat2(2)``; where the file system cannot do that, in three steps.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is not None:
        here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        if rename(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0:
            return
    between = first.with_suffix(".old")
    os.replace(second, between)
    os.replace(first, second)
    os.replace(between, first)


def sha256_of_bytes(content: bytes) -> str:
    """Hexadecimal SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_of_folder(path: Path, *, leave_out: tuple[str, ...] = ()) -> str:
    """SHA-256 over the sorted relative names and contents of a folder's files."""
    rows = {
        file.relative_to(path).as_posix(): sha256_of_file(file)
        for file in sorted(Path(path).rglob("*"))
        if file.is_file() and file.relative_to(path).as_posix() not in leave_out
    }
    return sha256_of_bytes(canonical_json(rows))


def canonical_json(content: Any) -> bytes:
    """JSON with sorted keys and no spaces: the same content gives the same bytes."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
