"""DVC's stores, a cache or a remote, looked at from outside: which objects, are they whole.

An object's name is the MD5 of its content. DVC checks that when it writes one and then
trusts it: an object that was damaged later is checked out, and pushed, without a word.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visionloop.core.errors import ConfigError, DataError, VisionloopError
from visionloop.core.privacy import mask_secrets
from visionloop.core.progress import track
from visionloop.data.versions.tracked import TrackedPath

__all__ = ["Store", "name_objects", "open_cache", "open_remote", "open_repository"]

READERS = 8
"""Objects read at a time: a remote answers slowly, not seldom."""


@dataclass(frozen=True)
class Store:
    """A cache or a remote.

    Attributes
    ----------
    name : str
        For messages: ``cache``, ``remote 'local'``.
    place : str
        Folder or URL below which the objects are.
    filesystem : object
        DVC's file system for that place: a folder, S3, or whatever DVC can reach.
    sizes : dict of object name to bytes
        All objects in it.
    database : object
        DVC's own object database of that place.
    """

    name: str
    place: str
    filesystem: Any
    sizes: dict[str, int] = field(default_factory=dict)
    database: Any = None

    def take(self, names: list[str], other: Store) -> None:
        """Copy objects from another store, each appearing whole; folder lists go last.

        A folder list tells DVC that everything it names is there.
        """
        for wanted in (False, True):
            part = [md5 for md5 in names if md5.endswith(".dir") == wanted]
            for md5 in part:
                if md5 in self.sizes:
                    self.filesystem.rm_file(self.path(md5))
            if part:
                places = [other.path(md5) for md5 in part]
                self.database.add(places, other.filesystem, part, hardlink=False)

    def path(self, md5: str) -> str:
        """Where an object is."""
        return str(self.filesystem.join(self.place, md5[:2], md5[2:]))

    def read(self, md5: str) -> bytes:
        """An object's content."""
        with self.filesystem.open(self.path(md5), "rb") as file:
            content: bytes = file.read()
        return content

    def damaged(self, names: Iterable[str] | None = None) -> Iterator[str]:
        """Read objects (all if None) and yield the names of those that are not what they say."""
        wanted = sorted(self.sizes if names is None else self.sizes.keys() & set(names))
        with ThreadPoolExecutor(READERS) as pool:
            whole = pool.map(self._is_whole, wanted)
            for md5, is_whole in track(
                zip(wanted, whole, strict=True), f"hashing the {self.name}", total=len(wanted)
            ):
                if not is_whole:
                    yield md5

    def _is_whole(self, md5: str) -> bool:
        digest = hashlib.md5(usedforsecurity=False)
        with self.filesystem.open(self.path(md5), "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return digest.hexdigest() == md5.removesuffix(".dir")


def open_repository(root: Path) -> Any:
    """DVC's own view of a workspace.

    Raises
    ------
    DataError
        If DVC does not track this folder.
    ConfigError
        If its configuration cannot be read.
    """
    from dvc.config import ConfigError as DvcConfigError
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    try:
        return Repo(str(root))
    except NotDvcRepoError:
        raise DataError(str(root), "is no DVC project", "visionloop init, or dvc init") from None
    except DvcConfigError as error:
        raise ConfigError(str(root / ".dvc" / "config"), mask_secrets(str(error))) from None


def open_cache(repository: Any) -> Store:
    """The cache of a workspace."""
    return _open("cache", repository.cache.local)


def open_remote(repository: Any, name: str | None) -> Store:
    """A remote by its name, the default one if None.

    Raises
    ------
    ConfigError
        If there is none of that name; the known ones are told.
    UnreachableError
        If it does not answer.
    """
    from dvc.config import NoRemoteError, RemoteNotFoundError

    known = ", ".join(sorted(repository.config["remote"])) or "none"
    try:
        objects = repository.cloud.get_remote_odb(name)
    except (NoRemoteError, RemoteNotFoundError):
        what = f"remote '{name}'" if name else "default remote"
        next_step = "dvc remote add -d NAME FOLDER_OR_URL"
        raise ConfigError(what, f"is not configured; known: {known}", next_step) from None
    return _open(f"remote '{name or repository.config['core'].get('remote')}'", objects)


def name_objects(outputs: Iterable[TrackedPath], stores: Iterable[Store]) -> dict[str, list[str]]:
    """Object name to the dataset files that it holds, newest first.

    The list of a folder's files is itself an object; it is taken from the first store that
    has it whole.
    """
    names: dict[str, list[str]] = {}
    stores = list(stores)
    for output in outputs:
        at = f" (commit {output.revision})" if output.revision else ""
        names.setdefault(output.md5, []).append(f"{output.path}{at}")
        for entry in _entries(output.md5, stores) if output.md5.endswith(".dir") else ():
            names.setdefault(entry["md5"], []).append(f"{output.path}/{entry['relpath']}{at}")
    return {md5: list(dict.fromkeys(found)) for md5, found in names.items()}


def _entries(md5: str, stores: list[Store]) -> list[dict[str, str]]:
    for store in stores:
        if md5 in store.sizes:
            content = store.read(md5)
            if hashlib.md5(content, usedforsecurity=False).hexdigest() == md5.removesuffix(".dir"):
                rows: list[dict[str, str]] = json.loads(content)
                return rows
    return []


def _open(name: str, objects: Any) -> Store:
    """List a store; a name that no object can have is passed over (an upload cut short)."""
    filesystem, place = objects.fs, str(objects.path)
    try:
        found = _list(filesystem, place)
    except Exception as error:  # of the remote's own library
        words = mask_secrets(f"{type(error).__name__}: {error}")
        next_step = "is it up, and are the credentials in the environment right?"
        raise VisionloopError(f"{name} at {mask_secrets(place)}", words, next_step) from None
    sizes = {}
    for path, size in found:
        md5 = "".join(path.split("/")[-2:])
        if _is_object_name(md5):
            sizes[md5] = size
    return Store(name, place, filesystem, sizes, objects)


def _list(filesystem: Any, place: str) -> list[tuple[str, int]]:
    """Paths and sizes of all files below a place; none where it is not there yet."""
    if filesystem.protocol == "local":
        return [(one.as_posix(), one.stat().st_size) for one in Path(place).glob("*/*")]
    if not filesystem.exists(place):
        return []
    found = filesystem.fs.find(place, detail=True)
    return [(str(path), int(about.get("size") or 0)) for path, about in found.items()]


def _is_object_name(text: str) -> bool:
    digits = text.removesuffix(".dir")
    return len(digits) == 32 and set(digits) <= set("0123456789abcdef")
