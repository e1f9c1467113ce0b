"""Where a device takes releases from: a folder, or a web address whose releases come to one.

Over the network a release is fetched file by file into ``incoming``, each resumed where it broke,
none larger than the list says and all together no larger than ``max_mb``. It is verified (package
and engines, against the signed index) before it is put into the device's own folder of releases,
and the index after it: from there on everything is as with a folder.
"""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from visionloop.core.errors import PackageError
from visionloop.core.failpoints import failpoint
from visionloop.core.files import write_bytes
from visionloop.core.progress import say_step
from visionloop.serving import signing
from visionloop.serving.edge.updates.release_params import ReleaseServerParams
from visionloop.serving.releases.files import FILES_NAME, ReleaseFiles
from visionloop.serving.releases.index import INDEX_NAME, IndexEntry, ReleaseIndex, load_index
from visionloop.serving.releases.store import verify_release

__all__ = ["ReleaseFolder", "ReleaseServer", "ReleaseSource", "is_web_address", "open_releases"]

MAX_INDEX_BYTES = 16_000_000
WANTED = ("package/", "engine/")
"""Parts of a release that a device uses; the gate report stays where it is."""


class ReleaseSource(Protocol):
    """Gives a folder with a signed index and the releases that a device needs."""

    def refresh(self, model: str) -> Path:
        """The folder, with the newest release of a model in it.

        Raises
        ------
        VisionloopError
            If it cannot be reached, or what it holds does not verify.
        """
        ...

    def close(self) -> None:
        """Break off what is under way."""
        ...


class ReleaseFolder:
    """A folder on this machine, or one that is mounted.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def refresh(self, model: str) -> Path:
        """The folder as it is."""
        return self._folder

    def close(self) -> None:
        """Nothing is under way."""


class ReleaseServer:
    """Releases behind a web address.

    Parameters
    ----------
    address : str
        ``https://hub.example:8460/v1/releases``: the folder of ``index.json``.
    params : ReleaseServerParams
    folder : Path
        This device's own releases, with ``incoming`` in it.
    root : Path
        What relative paths of the configuration start from.

    Raises
    ------
    ConfigError
        If the address or the token is wrong.
    """

    def __init__(
        self, address: str, params: ReleaseServerParams, *, folder: Path, root: Path
    ) -> None:
        self._folder, self._params = folder, params
        self._is_over = threading.Event()
        from visionloop.serving.edge.updates.download import Downloader  # its library is not small

        self._downloader = Downloader(address, params, root=root, is_over=self._is_over)

    def refresh(self, model: str) -> Path:
        """Fetch the index, and the newest release of a model where it is not here yet."""
        keys = signing.trusted_keys()
        incoming = self._folder / "incoming"
        content = self._downloader.read(INDEX_NAME, MAX_INDEX_BYTES)
        write_bytes(incoming / INDEX_NAME, content)
        index = load_index(incoming, keys)
        here = load_index(self._folder, keys)
        if index.serial < here.serial:
            raise PackageError(
                self._downloader.address,
                f"its index is older (serial {index.serial}) than the one here ({here.serial})",
                "an old index was put back; publish a new release instead",
            )
        entry = index.newest(model)
        if entry is not None:
            self._fetch(entry, incoming)
        failpoint("release_server.before_index")
        write_bytes(self._folder / INDEX_NAME, content)
        self._remove_older(index, model)
        return self._folder

    def close(self) -> None:
        """Break off a download; what came so far is kept."""
        self._is_over.set()

    def _fetch(self, entry: IndexEntry, incoming: Path) -> None:
        place = f"{entry.model}/{entry.number}"
        if (self._folder / place).is_dir():
            return
        subject = f"{self._downloader.address}/{place}"
        listed = self._downloader.read(f"{place}/{FILES_NAME}", MAX_INDEX_BYTES)
        files = [
            one for one in ReleaseFiles.parse(listed, subject).files if one.path.startswith(WANTED)
        ]
        total = sum(one.size for one in files)
        if total > self._params.max_mb * 1e6:
            limit = f"{self._params.max_mb:,.0f} MB (release_server.max_mb)"
            raise PackageError(subject, f"has {total / 1e6:,.0f} MB, more than {limit}")
        say_step(f"edge: fetching release {entry.number} of '{entry.model}', {total / 1e6:.1f} MB")
        for one in files:
            self._downloader.fetch(f"{place}/{one.path}", incoming / place / one.path, one)
        self._remove_unlisted(incoming / place, {one.path for one in files})
        try:
            verify_release(incoming, entry)
        except PackageError:
            shutil.rmtree(incoming / place, ignore_errors=True)
            raise
        failpoint("release_server.before_rename")
        (self._folder / entry.model).mkdir(parents=True, exist_ok=True)
        (incoming / place).replace(self._folder / place)

    def _remove_unlisted(self, folder: Path, listed: set[str]) -> None:
        """What an earlier list named, and this one does not."""
        for path in folder.rglob("*"):
            if path.is_file() and path.relative_to(folder).as_posix() not in listed:
                path.unlink()

    def _remove_older(self, index: ReleaseIndex, model: str) -> None:
        """The agent has copies of its own of what serves and of what it would go back to."""
        newest = index.newest(model)
        if newest is None:
            return
        for parent in (self._folder / model, self._folder / "incoming" / model):
            for folder in parent.glob("*"):
                if folder.name != str(newest.number):
                    shutil.rmtree(folder, ignore_errors=True)


def is_web_address(releases: str) -> bool:
    """Whether releases are behind a web address, not in a folder."""
    return urlsplit(releases).scheme in ("http", "https")


def open_releases(
    releases: str, params: ReleaseServerParams, *, root: Path, edge: Path
) -> ReleaseSource:
    """The source that ``serving.edge.releases`` names.

    Parameters
    ----------
    releases : str
        A folder relative to ``root``, or a web address.
    params : ReleaseServerParams
    root, edge : Path
        The workspace, and the folder of the agent.

    Raises
    ------
    ConfigError
        If a web address is unencrypted, or its token is missing.
    """
    if not is_web_address(releases):
        return ReleaseFolder(root / releases)
    return ReleaseServer(releases, params, folder=edge / "releases", root=root)
