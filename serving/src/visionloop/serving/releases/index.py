"""``index.json`` of a releases folder: one signed file, replaced as a whole.

The signature is inside the file, so that a reader never sees a new index with an old
signature.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from visionloop.core.config import StrictModel
from visionloop.core.errors import DataError, InputError, PackageError
from visionloop.core.files import canonical_json, read_json, write_json
from visionloop.serving import signing

__all__ = ["INDEX_NAME", "IndexEntry", "ReleaseIndex", "load_index", "locked", "save_index"]

INDEX_NAME = "index.json"


class IndexEntry(StrictModel):
    """One release: what it is called, and the SHA-256 of what it holds."""

    model: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    number: int = Field(gt=0)
    package_sha256: str
    gate_sha256: str
    engine_sha256: str | None
    published_at: str


class ReleaseIndex(StrictModel):
    """What is signed. ``serial`` grows with every publication."""

    kind: Literal["visionloop releases"] = "visionloop releases"
    serial: int = Field(default=0, ge=0)
    releases: list[IndexEntry] = Field(default=[])

    def newest(self, model: str) -> IndexEntry | None:
        """The entry with the largest number of a model, or None."""
        rows = [entry for entry in self.releases if entry.model == model]
        return max(rows, key=lambda entry: entry.number, default=None)


def load_index(releases: Path, keys: Sequence[Path]) -> ReleaseIndex:
    """Read and verify the index; an empty one where nothing was released yet.

    Raises
    ------
    PackageError
        If it is damaged, was changed, or is not signed by one of the keys.
    """
    path = releases / INDEX_NAME
    if not path.exists():
        return ReleaseIndex()
    try:
        content = read_json(path)
    except DataError as error:
        raise PackageError(str(path), error.problems) from None
    if not isinstance(content, dict) or set(content) != {"content", "signature"}:
        raise PackageError(str(path), "is not a signed index")
    signed = canonical_json(content["content"])
    signing.verify_bytes(signed, str(content["signature"]), keys=keys, subject=str(path))
    try:
        return ReleaseIndex.model_validate(content["content"])
    except ValidationError as error:
        raise PackageError(str(path), f"cannot be read: {error}") from None


def save_index(releases: Path, index: ReleaseIndex, key: Path) -> None:
    """Sign the index and put it in the place of the old one."""
    content: dict[str, Any] = index.model_dump(mode="json")
    signature = signing.sign_bytes(canonical_json(content), key=key)
    write_json(releases / INDEX_NAME, {"content": content, "signature": signature})


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock file; it is released when the process ends, however it ends.

    Raises
    ------
    InputError
        If another process holds it and ``wait`` is False.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _open_lock(path)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                str(path.parent), "another process is at work here", "wait for it, or stop it"
            ) from None
        yield
    finally:
        os.close(descriptor)


def _open_lock(path: Path) -> int:
    """A lock needs no writing: on a disk that takes none the file is locked as it is, or its
    folder where there is no file."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.ENOSPC):
            raise
    return os.open(path if path.exists() else path.parent, os.O_RDONLY | os.O_CLOEXEC)
