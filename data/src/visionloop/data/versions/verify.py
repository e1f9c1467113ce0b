"""The verb ``verify``: every byte is still what it was, here, in DVC's cache and in a remote.

DVC trusts its cache: an object that was overwritten is checked out, and pushed, without a
word (dvc#5978). This verb hashes each image against its name, each version against its
fingerprint, each shard against its index, and each object of the cache and of a remote
against its name; and it says which files of the data set a damaged object belongs to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from visionloop.core.errors import VisionloopError
from visionloop.core.files import sha256_of_file
from visionloop.core.progress import track
from visionloop.core.tables import SAMPLES, read_table
from visionloop.core.workspace import Workspace
from visionloop.data.versions.listing import version_folders
from visionloop.data.versions.objects import (
    Store,
    name_objects,
    open_cache,
    open_remote,
    open_repository,
)
from visionloop.data.versions.pack import shard_folder
from visionloop.data.versions.shards import check_shards
from visionloop.data.versions.tracked import tracked_before, tracked_now
from visionloop.data.versions.version import load_version

__all__ = ["VerifyReport", "verify"]

NAMED_FILES = 3
"""So many of the files that share one damaged object are named."""


@dataclass(frozen=True)
class VerifyReport:
    """What was looked at, and every problem found.

    Attributes
    ----------
    images, versions, shards : int
    objects : dict of store to int
        Objects hashed in ``cache`` and in ``remote 'NAME'``.
    problems : tuple of str
        One line each.
    next_steps : tuple of str
        What heals them.
    """

    images: int
    versions: int
    problems: tuple[str, ...]
    shards: int = 0
    objects: dict[str, int] = field(default_factory=dict)
    next_steps: tuple[str, ...] = ()


def verify(*, workspace: Workspace, remote: str | None = None) -> VerifyReport:
    """Hash everything again; problems are listed, not raised.

    Parameters
    ----------
    workspace : Workspace
    remote : str or None
        Also read this remote, all of it; ``""`` is the default remote.

    Raises
    ------
    ConfigError
        If there is no such remote.
    VisionloopError
        If it does not answer.
    """
    files = sorted(workspace.images.glob("*.*")) if workspace.images.is_dir() else []
    files = [path for path in files if not path.name.startswith(".")]
    problems = [
        f"{path.relative_to(workspace.root)}: its content does not match its name"
        for path in track(files, "hashing images")
        if sha256_of_file(path) != path.stem
    ]
    there = {path.name for path in files}
    problems += _check_table(workspace, there)
    folders = version_folders(workspace)
    problems += _check_versions(workspace, there)
    steps = ["visionloop data checkout VERSION brings images back, dvc checkout files"]
    steps = steps if problems else []
    shards = dict(check_shards(shard_folder(workspace)))
    broken = [f"data/shards/{one}: {what}" for one, found in shards.items() for what in found]
    if broken:
        steps.append("shards: remove the named file and 'dvc checkout', or pack again")
    objects: dict[str, int] = {}
    damaged, heal = _check_stores(workspace, remote, objects)
    return VerifyReport(
        images=len(files),
        versions=len(folders),
        problems=(*problems, *broken, *damaged),
        shards=len(shards),
        objects=objects,
        next_steps=(*steps, *heal),
    )


def _check_stores(
    workspace: Workspace, remote: str | None, objects: dict[str, int]
) -> tuple[list[str], list[str]]:
    """Problems and next steps of DVC's cache and of a remote; counts go into ``objects``."""
    if remote is None and not (workspace.root / ".dvc").is_dir():
        return [], []
    repository = open_repository(workspace.root)
    stores = [open_cache(repository)]
    if remote is not None:
        stores.append(open_remote(repository, remote or None))
    outputs = tracked_now(workspace.root)
    names = name_objects([*outputs, *tracked_before(workspace.root)], stores)
    problems: list[str] = []
    steps: list[str] = []
    for store in stores:
        objects[store.name] = len(store.sizes)
        found = list(store.damaged())
        problems += [_describe(store, md5, names) for md5 in found]
        if found:
            steps.append(_heal(store, stores, found))
    if remote is not None:
        absent = sorted(set(name_objects(outputs, stores)) - stores[-1].sizes.keys())
        problems += [
            f"{stores[-1].name} lacks {_files(md5, names)} ({md5})" for md5 in absent[:NAMED_FILES]
        ]
        if len(absent) > NAMED_FILES:
            problems.append(f"{stores[-1].name} lacks {len(absent)} objects in all")
        if absent:
            steps.append("what the remote lacks: visionloop data push")
    return problems, steps


def _describe(store: Store, md5: str, names: dict[str, list[str]]) -> str:
    return (
        f"{store.name}: object {store.path(md5)} does not match its name; it is "
        f"{_files(md5, names)}"
    )


def _files(md5: str, names: dict[str, list[str]]) -> str:
    found = names.get(md5, [])
    if not found:
        return "a file of no version that this project knows"
    more = f" and {len(found) - NAMED_FILES} more" if len(found) > NAMED_FILES else ""
    return ", ".join(found[:NAMED_FILES]) + more


def _heal(store: Store, stores: list[Store], found: list[str]) -> str:
    """How to get whole copies of damaged objects back."""
    if store.name == "cache":
        return (
            "cache: delete the named objects, then 'visionloop data pull' brings them from the "
            "remote; where data/raw is intact, 'dvc commit -f' makes them again"
        )
    cache = stores[0]
    whole = len(cache.sizes.keys() & set(found)) - sum(1 for _ in cache.damaged(found))
    return (
        f"{store.name}: delete the named objects, then 'visionloop data push'; the cache here "
        f"holds {whole} of {len(found)} whole"
    )


def _check_versions(workspace: Workspace, there: set[str]) -> list[str]:
    problems: list[str] = []
    for folder in version_folders(workspace):
        try:
            version = load_version(folder, workspace.images)
        except VisionloopError as error:
            problems += [f"{error.subject}: {problem}" for problem in error.problems]
            continue
        names = version.samples["file_name"]
        problems += _missing(f"dataset version {version.name}", names, there)
    return problems


def _check_table(workspace: Workspace, there: set[str]) -> list[str]:
    path = workspace.raw / "samples.parquet"
    if not path.exists():
        return []
    try:
        samples = read_table(path, SAMPLES)
    except VisionloopError as error:
        return [f"{error.subject}: {problem}" for problem in error.problems]
    return _missing("data/raw/samples.parquet", samples["file_name"], there)


def _missing(subject: str, names: Iterable[str], there: set[str]) -> list[str]:
    return [f"{subject}: image {name} is missing" for name in names if name not in there]
