"""Files from a web server: bounded, resumed where they broke, compared with their SHA-256."""

from __future__ import annotations

import os
import ssl
import threading
from pathlib import Path

import httpx

from visionloop.core.errors import PackageError, UnreachableError
from visionloop.core.files import sha256_of_file
from visionloop.serving.edge.access import check_address, read_token
from visionloop.serving.edge.updates.release_params import ReleaseServerParams
from visionloop.serving.releases.files import ReleaseFile

__all__ = ["Downloader"]

BLOCK = 1 << 16
MAX_BREAKS = 5
"""Connections that may break without a byte in between."""


class Downloader:
    """Reads files below a web address.

    Parameters
    ----------
    address : str
    params : ReleaseServerParams
    root : Path
        What relative paths of the configuration start from.
    is_over : threading.Event
        Set by who wants no more.

    Raises
    ------
    ConfigError
        If the address is unencrypted, holds a password, or the token is missing.
    """

    def __init__(
        self, address: str, params: ReleaseServerParams, *, root: Path, is_over: threading.Event
    ) -> None:
        subject = "releases"
        check_address(subject, address, "https", "http", is_plain_allowed=params.allow_plaintext)
        self.address = address.rstrip("/")
        self._params, self._root, self._is_over = params, root, is_over
        self._read_token()

    def read(self, path: str, limit: int) -> bytes:
        """A small file as a whole.

        Raises
        ------
        UnreachableError
            If the server does not answer, or not with the file.
        PackageError
            If it is larger than ``limit`` bytes.
        """
        content = bytearray()
        with self._open() as client:
            try:
                with client.stream("GET", f"{self.address}/{path}") as answer:
                    self._check(answer, path)
                    for block in answer.iter_raw(BLOCK):
                        content += block
                        if len(content) > limit:
                            raise PackageError(f"{self.address}/{path}", "is too large")
            except httpx.HTTPError as error:
                raise self._unreachable(path, error) from None
        return bytes(content)

    def fetch(self, path: str, target: Path, file: ReleaseFile) -> None:
        """A file, into ``target``; the part that came before a connection broke is kept.

        Raises
        ------
        UnreachableError
            If the server does not answer, or breaks off again and again.
        PackageError
            If the file is not the one of the list.
        """
        if target.is_file() and sha256_of_file(target) == file.sha256:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part")
        breaks, most = 0, _size(part)
        with self._open() as client:
            while _size(part) < file.size or not part.exists():
                try:
                    self._go_on(client, path, part, file)
                except httpx.HTTPError as error:
                    breaks = breaks + 1 if _size(part) <= most else 0
                    most = max(most, _size(part))
                    if breaks >= MAX_BREAKS:
                        raise self._unreachable(path, error) from None
        if _size(part) != file.size or sha256_of_file(part) != file.sha256:
            part.unlink()  # from another release, or damaged on its way: not to be gone on with
            raise PackageError(f"{self.address}/{path}", "is not the file that the list names")
        part.replace(target)

    def _go_on(self, client: httpx.Client, path: str, part: Path, file: ReleaseFile) -> None:
        have = _size(part)
        headers = {"Range": f"bytes={have}-"} if have else {}
        with client.stream("GET", f"{self.address}/{path}", headers=headers) as answer:
            if answer.status_code == 416:
                part.unlink(missing_ok=True)
                raise httpx.RemoteProtocolError(f"its file ends before {have} bytes")
            self._check(answer, path)
            is_rest = answer.status_code == 206
            if is_rest and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                raise httpx.RemoteProtocolError("another range than the one asked for")
            with part.open("ab" if is_rest else "wb") as output:
                size = have if is_rest else 0
                for block in answer.iter_raw(BLOCK):
                    size += len(block)
                    if size > file.size:
                        output.truncate(0)
                        raise PackageError(
                            f"{self.address}/{path}", f"is larger than the {file.size} bytes listed"
                        )
                    output.write(block)
                    if self._is_over.is_set():
                        raise UnreachableError(self.address, "stopped while it was fetched")
                output.flush()
                os.fsync(output.fileno())
        if size < file.size:
            raise httpx.RemoteProtocolError(f"ended after {size} of {file.size} bytes")

    def _open(self) -> httpx.Client:
        """A client with the token as it is now: it may have been renewed."""
        ca = str(self._root / self._params.ca_file) if self._params.ca_file else None
        token = self._read_token()
        headers = {"Accept-Encoding": "identity"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return httpx.Client(
            timeout=self._params.timeout_s,
            verify=ssl.create_default_context(cafile=ca),
            follow_redirects=False,  # the token is for this server
            trust_env=False,
            headers=headers,
        )

    def _read_token(self) -> str:
        params = self._params
        return read_token("releases", params.token_env, params.token_file, root=self._root)

    def _check(self, answer: httpx.Response, path: str) -> None:
        status = answer.status_code
        if status in (200, 206):
            return
        subject = f"{self.address}/{path}"
        if status in (401, 403):
            raise UnreachableError(
                subject, "does not know this device's token", "release_server.token_file"
            )
        raise UnreachableError(subject, f"answered {status}")

    def _unreachable(self, path: str, error: httpx.HTTPError) -> UnreachableError:
        text = f"{type(error).__name__}: {error}".rstrip(": ")
        return UnreachableError(
            f"{self.address}/{path}", text, "it is tried again; what came is kept"
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
