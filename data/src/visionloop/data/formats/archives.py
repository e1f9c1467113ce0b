"""Archives from outside, zip and tar: all is checked before anything is read or unpacked."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from visionloop.core.errors import DataError
from visionloop.core.files import sha256_of_file

__all__ = [
    "MAX_FILES",
    "MAX_MEMBER_BYTES",
    "MAX_RATIO",
    "MAX_TOTAL_BYTES",
    "extract_tar",
    "open_archive",
    "read_member",
]

MAX_FILES = 200_000
MAX_TOTAL_BYTES = 8 << 30
MAX_MEMBER_BYTES = 256 << 20
MAX_RATIO = 200
"""Unpacked to packed size of one member larger than ``SMALL``; text and images stay below."""
SMALL = 1 << 20

_SYMLINK, _FILE_KINDS = 0o120000, (0, 0o100000, 0o040000)


def open_archive(path: Path, *, sha256: str | None = None) -> zipfile.ZipFile:
    """Open a zip file after checking the whole of it.

    Parameters
    ----------
    path : Path
    sha256 : str or None
        What it must hash to.

    Raises
    ------
    DataError
        If it has another hash, is damaged, a member's name leaves the archive's folder
        (zip slip), a member is a link or a device, or its sizes are those of a bomb. The
        whole archive is refused.
    """
    if sha256 is not None and (found := sha256_of_file(path)) != sha256:
        raise DataError(
            str(path),
            f"has SHA-256 {found[:12]}, expected {sha256[:12]}",
            "it is another version or damaged: bring the file again",
        )
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(str(path), f"is not a readable zip file: {error}") from None
    problems = _problems(archive)
    if problems:
        archive.close()
        raise DataError(str(path), problems[:10], "nothing was read from it")
    return archive


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of one member, its CRC-32 checked.

    Raises
    ------
    DataError
        If it is missing, damaged, or longer than it says.
    """
    subject = f"{archive.filename}:{name}"
    try:
        info = archive.getinfo(name)
        with archive.open(info) as member:
            content = member.read(info.file_size + 1)
    except KeyError:
        raise DataError(subject, "is not in the archive") from None
    except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, EOFError) as error:
        raise DataError(subject, f"cannot be read: {error}") from None
    if len(content) != info.file_size:
        raise DataError(subject, "has another size than the archive says")
    return content


def extract_tar(path: Path, folder: Path) -> None:
    """Unpack a tar file (plain, gz, bz2, xz) after checking the whole of it.

    The headers are walked first, as a stream: nothing is unpacked from an archive that is
    refused, and a bomb is met at its header, before its content is expanded.

    Raises
    ------
    DataError
        As :func:`open_archive`.
    """
    try:
        with tarfile.open(path, "r|*") as archive:
            problems = list(_tar_problems(archive, path.stat().st_size))
        if problems:
            raise DataError(str(path), problems[:10], "nothing was unpacked from it")
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                archive.extract(member, folder, set_attrs=False, filter="data")
    except (tarfile.TarError, zlib.error, OSError, EOFError) as error:
        raise DataError(str(path), f"is not a readable tar file: {error}") from None


def _tar_problems(archive: tarfile.TarFile, packed: int) -> Iterator[str]:
    total = 0
    names: set[str] = set()
    for count, member in enumerate(archive, start=1):
        if count > MAX_FILES:
            yield f"holds more than {MAX_FILES} files"
            return
        total += member.size
        if why := _tar_problem(member, names):
            yield f"{member.name!r} {why}"
        if total > MAX_TOTAL_BYTES:
            yield f"unpacks to more than {MAX_TOTAL_BYTES >> 20} MiB"
            return
        if member.size > MAX_MEMBER_BYTES or total > max(SMALL, MAX_RATIO * packed):
            yield f"grows more than {MAX_RATIO} times when unpacked, at {member.name!r}"
            return
        names.add(member.name)


def _tar_problem(member: tarfile.TarInfo, names: set[str]) -> str:
    name = PurePosixPath(member.name.replace("\\", "/"))
    if name.is_absolute() or ".." in name.parts:
        return "leads out of the archive's folder"
    if member.issym() or member.islnk():
        return "is a link"
    if not (member.isfile() or member.isdir()):
        return "is not a plain file"
    return "is there twice" if member.isfile() and member.name in names else ""


def _problems(archive: zipfile.ZipFile) -> list[str]:
    members = archive.infolist()
    if len(members) > MAX_FILES:
        return [f"holds {len(members)} files, more than {MAX_FILES}"]
    problems = [f"{row.filename!r} {why}" for row in members if (why := _problem(row))]
    if len({row.filename for row in members}) != len(members):
        problems.append("holds two files of one name")
    total = sum(row.file_size for row in members)
    if total > MAX_TOTAL_BYTES:
        problems.append(f"unpacks to {total >> 20} MiB, more than {MAX_TOTAL_BYTES >> 20}")
    return problems


def _problem(member: zipfile.ZipInfo) -> str:
    # zipfile itself turns "\\" into "/" on Windows only: look at both.
    name = PurePosixPath(member.filename.replace("\\", "/"))
    if name.is_absolute() or ".." in name.parts or ":" in member.filename:
        return "leads out of the archive's folder"
    kind = (member.external_attr >> 16) & 0o170000
    if kind not in _FILE_KINDS:
        return "is a link" if kind == _SYMLINK else "is not a plain file"
    if member.file_size > MAX_MEMBER_BYTES:
        return f"unpacks to {member.file_size >> 20} MiB"
    if member.file_size > SMALL and member.file_size > MAX_RATIO * max(member.compress_size, 1):
        return f"grows {member.file_size // max(member.compress_size, 1)} times when unpacked"
    return ""
