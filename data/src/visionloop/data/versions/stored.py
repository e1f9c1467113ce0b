"""Files that are not here but that shards, DVC's cache or its remote can give back."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from visionloop.core.errors import DataError, VisionloopError
from visionloop.core.files import replace_folder, sha256_of_bytes, write_bytes
from visionloop.core.privacy import mask_secrets
from visionloop.core.progress import track
from visionloop.core.workspace import Workspace
from visionloop.data.versions.pack import shard_folder
from visionloop.data.versions.tracked import TrackedPath, tracked_before, tracked_now

__all__ = ["bring_folder", "bring_images"]


def bring_images(names: Iterable[str], *, workspace: Workspace) -> int:
    """Bring images that ``data/raw/images`` lacks; each is checked against its name.

    Tried in this order: the shards here, then what DVC tracked now and in earlier commits
    (its cache, then its default remote).

    Parameters
    ----------
    names : iterable of str
        ``<sha256>.<suffix>``.

    Returns
    -------
    int
        Images brought.

    Raises
    ------
    DataError
        Naming those that no place has.
    """
    missing = dict.fromkeys(name for name in names if not (workspace.images / name).is_file())
    count = len(missing)
    for source in _sources(workspace) if missing else ():
        for name in track(list(missing), "bringing images"):
            content = source(name)
            if content is not None and sha256_of_bytes(content) == Path(name).stem:
                write_bytes(workspace.images / name, content)
                del missing[name]
        if not missing:
            break
    if missing:
        problems = [f"image {name} is neither here nor in shards, cache or remote"
                    for name in list(missing)[:20]]  # fmt: skip
        more = f" ({len(missing)} in all)" if len(missing) > 20 else ""
        raise DataError(
            "data/raw/images",
            problems,
            f"visionloop data pull --remote NAME, or import again{more}",
        )
    return count


def bring_folder(output: TrackedPath, destination: Path, *, workspace: Workspace) -> None:
    """Bring a folder that DVC tracked, from its cache or default remote.

    Raises
    ------
    VisionloopError
        With DVC's own words if neither has it.
    """
    filesystem = _dvc_filesystem(workspace.root, output.revision)
    try:
        with replace_folder(destination) as staging:
            shutil.rmtree(staging)
            filesystem.get(output.path, str(staging), recursive=True)
    except Exception as error:  # of DVC, its remote's library, or the network
        words = mask_secrets(f"{type(error).__name__}: {error}")
        at = f" of commit {output.revision}" if output.revision else ""
        next_step = "visionloop data pull --remote NAME, where a remote has it"
        raise VisionloopError(
            f"{output.path}{at}", f"cannot be brought: {words}", next_step
        ) from None


Source = Callable[[str], "bytes | None"]


def _sources(workspace: Workspace) -> Iterator[Source]:
    """Functions from an image's name to its bytes, or None; opened only when needed."""
    if (shard_folder(workspace) / "index").is_dir():
        yield _from_shards(workspace)
    if not (workspace.root / ".dvc").is_dir():
        return
    outputs = [*tracked_now(workspace.root), *tracked_before(workspace.root)]
    done: set[str] = set()
    for output in outputs:
        if output.path in ("data/raw", "data/raw/images") and output.md5 not in done:
            done.add(output.md5)
            yield _from_dvc(workspace.root, output.revision)


def _from_shards(workspace: Workspace) -> Source:
    from visionloop.data.versions.shards import open_shards

    store = open_shards(shard_folder(workspace))

    def read(name: str) -> bytes | None:
        try:
            return store.read(name)
        except DataError:  # not in the shards, or damaged there: the next source may have it
            return None

    return read


def _from_dvc(root: Path, revision: str) -> Source:
    filesystem = _dvc_filesystem(root, revision)

    def read(name: str) -> bytes | None:
        try:
            content: bytes = filesystem.cat_file(f"data/raw/images/{name}")
        except Exception:  # not in that commit, cache or remote: the next source may have it
            return None
        return content

    return read


def _dvc_filesystem(root: Path, revision: str) -> Any:
    from dvc.api import DVCFileSystem

    return DVCFileSystem(str(root), rev=revision or None)
