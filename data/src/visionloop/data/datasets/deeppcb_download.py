"""DeepPCB from its public repository: one commit, its content checked by SHA-256.

The archive that the host packs may differ in its own bytes from day to day, so the check
covers what is read from it: names and contents of all images, box files and lists.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
import urllib.error
import urllib.request
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from visionloop.core.errors import DataError, UnreachableError
from visionloop.core.failpoints import failpoint
from visionloop.core.files import canonical_json, sha256_of_bytes
from visionloop.core.progress import say_step, track
from visionloop.data.formats.archives import open_archive, read_member

if TYPE_CHECKING:
    from visionloop.data.datasets.deeppcb import Boxes

__all__ = ["CONTENT_SHA256", "DownloadedBoards", "download", "sha256_of_content"]

COMMIT = "08e98c4db5922613fb97176eb3d6497d48260cb1"
URL = f"https://github.com/tangsanli5201/DeepPCB/archive/{COMMIT}.zip"
CONTENT_SHA256 = "d149dc69cc5908c40cdd06b766be5a4cefd1d8ee36cf0f483a2903e7ac48f087"
"""SHA-256 of the canonical JSON of {name: SHA-256} of the 3,002 files that are used."""

MAX_BYTES = 400 << 20
"""The archive has 91 MB."""
ATTEMPTS = 2
TIMEOUT_SECONDS = 10.0
_USED = re.compile(
    r"PCBData/((trainval|test)\.txt|group\d{5}/\d{5}(_not/\d{8}\.txt|/\d{8}_test\.jpg))"
)


def download(url: str = URL, *, content_sha256: str = CONTENT_SHA256) -> Path:
    """Bring the archive into the cache folder, once, and return its path.

    ``VISIONLOOP_OFFLINE=1`` forbids it.

    Raises
    ------
    UnreachableError
        If the host does not answer (bounded attempts), or downloads are forbidden.
    DataError
        If what came is not what was expected; it is not kept.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "visionloop"
    path = cache / f"deeppcb-{content_sha256[:12]}.zip"
    if path.exists():
        return path
    if os.environ.get("VISIONLOOP_OFFLINE", "") not in ("", "0"):
        raise UnreachableError("DeepPCB", "VISIONLOOP_OFFLINE forbids the download")
    cache.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=cache, prefix=".deeppcb.", suffix=".tmp")
    os.close(handle)
    try:
        _fetch(url, Path(temporary))
        found = sha256_of_content(Path(temporary))
        if found != content_sha256:
            raise DataError(
                url,
                f"its content has SHA-256 {found[:12]}, expected {content_sha256[:12]}",
                "nothing was kept; put deeppcb.zip into VISIONLOOP_MIRROR instead",
            )
        failpoint("deeppcb.before_rename")
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path


def sha256_of_content(path: Path) -> str:
    """SHA-256 over names and contents of the archive's files that are used."""
    with open_archive(path) as archive:
        members = {name.partition("/")[2]: name for name in archive.namelist()}
        used = sorted(name for name in members if _USED.fullmatch(name))
        rows = {name: sha256_of_bytes(read_member(archive, members[name])) for name in used}
    return sha256_of_bytes(canonical_json(rows))


def _fetch(url: str, target: Path) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _stream(url, target)
            return
        except (urllib.error.URLError, OSError) as error:
            if attempt == ATTEMPTS:
                reason = getattr(error, "reason", error)
                raise UnreachableError(
                    "DeepPCB",
                    f"no mirror, and its host does not answer: {reason}",
                    "set VISIONLOOP_MIRROR to a folder that holds deeppcb.zip",
                ) from None
            time.sleep(1.0)


def _stream(url: str, target: Path) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "visionloop"})
    with (
        urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer,
        target.open("wb") as out,
    ):
        say_step(f"downloading DeepPCB (91 MB) from {url}")
        received = 0
        for block in track(iter(lambda: answer.read(1 << 20), b""), "downloading (MiB)", total=88):
            received += len(block)
            if received > MAX_BYTES:
                raise DataError(url, f"is larger than {MAX_BYTES >> 20} MiB", "nothing was kept")
            out.write(block)


class DownloadedBoards:
    """The repository's archive: JPEG images, made black and white as they were meant to be."""

    source = "download"
    licence = "MIT file; its README adds 'for research purpose'"

    def __init__(self, path: Path) -> None:
        self._archive = open_archive(path)

    @cached_property
    def _root(self) -> str:
        return self._archive.namelist()[0].partition("/")[0]

    def names(self) -> dict[str, bool]:
        """Name of each image to "belongs to the official test split"."""
        lists = {False: "trainval.txt", True: "test.txt"}
        return {
            name: test
            for test, file in lists.items()
            for name in re.findall(r"(\d{8})\.jpg", self._read(f"PCBData/{file}").decode())
        }

    def image(self, name: str) -> bytes:
        """A 1-bit PNG: the authors binarise their scans, JPEG blurs the edges again."""
        return self._picture(name, "test")

    def template(self, name: str) -> bytes:
        """The defect-free board that the image was compared with."""
        return self._picture(name, "temp")

    def _picture(self, name: str, kind: str) -> bytes:
        import cv2
        import numpy as np

        content = self._read(f"PCBData/group{name[:5]}/{name[:5]}/{name}_{kind}.jpg")
        grey = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
        if grey is None:
            raise DataError(f"DeepPCB image {name}", "cannot be decoded")
        binary = np.where(grey > 127, 255, 0).astype(np.uint8)
        _, coded = cv2.imencode(".png", binary, [cv2.IMWRITE_PNG_BILEVEL, 1])
        return bytes(coded)

    def boxes(self, name: str) -> Boxes:
        """Defects of an image."""
        from visionloop.data.datasets.deeppcb import parse_boxes

        file = f"PCBData/group{name[:5]}/{name[:5]}_not/{name}.txt"
        return parse_boxes(self._read(file).decode(), subject=file)

    def _read(self, name: str) -> bytes:
        return read_member(self._archive, f"{self._root}/{name}")
