"""Put a folder of a few large files under DVC, as ``dvc add`` does, without starting DVC.

DVC needs a second of processor time before it looks at the first file; for a change of one
image that is most of the work. What is written here is DVC's own format (version 3: objects
named by MD5, a JSON list for the folder, a ``.dvc`` file): every DVC command goes on from it,
and a test holds that ``dvc add`` writes the same bytes. Where DVC is configured in any way
that matters (another cache, other links, cloud versioning), DVC itself is called.
"""

from __future__ import annotations

import configparser
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from visionloop.core.errors import DataError, VisionloopError
from visionloop.core.failpoints import failpoint
from visionloop.core.files import write_text

__all__ = ["track_folder"]

FICLONE = 0x40049409
"""Request number of Linux for a copy that shares its blocks (btrfs, XFS): nothing is copied."""


def track_folder(folder: Path) -> Path:
    """Add a folder to DVC; a folder that is there already is only looked at.

    Parameters
    ----------
    folder : Path
        Inside a DVC project.

    Returns
    -------
    Path
        Its ``.dvc`` file.

    Raises
    ------
    DataError
        If no DVC project holds the folder.
    VisionloopError
        If DVC itself had to be called and failed.
    """
    folder = folder.resolve()
    root = next((one for one in folder.parents if (one / ".dvc").is_dir()), None)
    if root is None:
        raise DataError(str(folder), "is in no DVC project", "visionloop init, or dvc init")
    pointer = folder.with_name(f"{folder.name}.dvc")
    if not _is_plain(root, pointer):
        _add_by_dvc(folder)
        return pointer
    objects = root / ".dvc" / "cache" / "files" / "md5"
    known = _read_known(folder)
    entries: dict[str, tuple[str, int, str]] = {}
    for path in sorted(_files(folder)):
        name = path.relative_to(folder).as_posix()
        status = path.stat()
        stamp = f"{status.st_size} {status.st_mtime_ns} {status.st_ino}"
        stamped = known.get(name, ("", 0, ""))
        md5 = stamped[0] if stamped[2] == stamp else _md5(path)
        if not (place := _object(objects, md5)).exists():
            _store(path, place)
            failpoint("track.object_stored")
        entries[name] = (md5, status.st_size, stamp)
    listing = json.dumps(
        [{"md5": entries[name][0], "relpath": name} for name in sorted(entries)], sort_keys=True
    ).encode()
    md5 = f"{hashlib.md5(listing, usedforsecurity=False).hexdigest()}.dir"
    if not (place := _object(objects, md5)).exists():
        _put(place, listing)
    size = sum(entry[1] for entry in entries.values())
    _write_pointer(pointer, md5, size, len(entries))
    _write_known(folder, entries)
    return pointer


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".tmp")]


def _is_plain(root: Path, pointer: Path) -> bool:
    """Whether DVC here is as it comes: its cache in its place, and nothing added by hand.

    The first time is DVC's own: it tells git to ignore the folder, and refuses overlaps.
    """
    if not pointer.exists() or set(pointer.read_text()) & set("&#"):
        return False
    allowed = {"md5", "size", "nfiles", "hash", "path", "outs", "- md5"}
    words = {line.partition(":")[0].strip() for line in pointer.read_text().splitlines()}
    if not words <= allowed:
        return False  # a description, metadata, a remote of its own
    home = Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config")) / "dvc" / "config"
    for path in (home, root / ".dvc" / "config", root / ".dvc" / "config.local"):
        config = configparser.ConfigParser(strict=False, interpolation=None)
        try:
            config.read(path)
        except configparser.Error:
            return False
        if config.has_section("cache") or "DVC_GLOBAL_CONFIG_DIR" in os.environ:
            return False
    return not (root / ".dvcignore").exists() or not _has_rules(root / ".dvcignore")


def _has_rules(path: Path) -> bool:
    return any(line.strip() and not line.startswith("#") for line in path.read_text().splitlines())


def _add_by_dvc(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "add", "-q", folder.name],
        cwd=folder.parent,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise VisionloopError("dvc add", done.stderr.strip() or done.stdout.strip())


def _object(objects: Path, md5: str) -> Path:
    return objects / md5[:2] / md5[2:]


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _store(path: Path, place: Path) -> None:
    """Copy a file into the cache, sharing its blocks where the file system can."""
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f"{place.name}.{os.getpid()}.tmp")
    try:
        with path.open("rb") as source, temporary.open("wb") as copy:
            try:
                fcntl.ioctl(copy.fileno(), FICLONE, source.fileno())
            except OSError:  # this file system cannot
                shutil.copyfileobj(source, copy, 1 << 20)
            copy.flush()
            os.fsync(copy.fileno())
        temporary.chmod(0o444)
        os.replace(temporary, place)
    finally:
        temporary.unlink(missing_ok=True)


def _put(place: Path, content: bytes) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f"{place.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    temporary.chmod(0o444)
    os.replace(temporary, place)


def _write_pointer(pointer: Path, md5: str, size: int, count: int) -> None:
    name = pointer.name.removesuffix(".dvc")
    lines = ["outs:", f"- md5: {md5}", f"  size: {size}", f"  nfiles: {count}", "  hash: md5"]
    text = "\n".join([*lines, f"  path: {name}"]) + "\n"
    if pointer.read_text() != text:
        write_text(pointer, text)


def _known_file(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.md5.state"


def _read_known(folder: Path) -> dict[str, tuple[str, int, str]]:
    try:
        found = json.loads(_known_file(folder).read_text())
        return {name: (md5, size, stamp) for name, (md5, size, stamp) in found.items()}
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return {}


def _write_known(folder: Path, entries: dict[str, tuple[str, int, str]]) -> None:
    text = json.dumps(entries)
    path = _known_file(folder)
    if not path.exists() or path.read_text() != text:
        write_text(path, text)
