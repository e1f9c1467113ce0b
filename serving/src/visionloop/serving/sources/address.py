"""Address and password of a camera: put together to connect, never to be shown."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from visionloop.core.errors import ConfigError
from visionloop.core.privacy import mask_secrets
from visionloop.serving.source_params import SourceParams

__all__ = ["CameraAddress"]

PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}


class CameraAddress:
    """Where a camera is and how to log in there.

    The password is read again for every connection, so that a changed file counts at
    once. Cameras that take the password in the address have ``{user}`` and ``{password}``
    there.

    Attributes
    ----------
    shown : str
        The address as people may see it.

    Raises
    ------
    ConfigError
        If the address has another scheme than one of the four, or the password is not
        where the parameters say; the camera is named.
    """

    def __init__(self, params: SourceParams, *, root: Path, subject: str) -> None:
        self._params, self._root, self._subject = params, root, subject
        self.shown = mask_secrets(params.path)
        if urlsplit(params.path).scheme not in PORTS:
            raise ConfigError(subject, f"{self.shown} is no address", "write rtsp:// or http://…")
        self.credentials()

    def credentials(self) -> tuple[str, str]:
        """User and password; empty where the camera asks for none."""
        given = self._params.credentials
        if given is None:
            parts = urlsplit(self._params.path)
            return unquote(parts.username or ""), unquote(parts.password or "")
        if given.password_env:
            password = os.environ.get(given.password_env)
            if password is None:
                raise ConfigError(
                    self._subject,
                    f"the environment variable {given.password_env} is not set",
                    "set it to the camera's password",
                )
            return given.user, password
        path = self._root / given.password_file
        try:
            return given.user, path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise ConfigError(
                self._subject,
                f"the password file {path} cannot be read",
                "write the camera's password into it, and nothing else",
            ) from None

    def full(self) -> str:
        """The address with user and password, percent-encoded: for the library, not for people."""
        user, password = (quote(part, safe="") for part in self.credentials())
        path = self._params.path
        if "{password}" in path or "{user}" in path:
            return path.replace("{user}", user).replace("{password}", password)
        if not user:
            return path
        parts = urlsplit(path)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{user}:{password}@{host}"))

    def bare(self) -> str:
        """The address without user and password, for protocols that log in by a header."""
        path = self.full() if "{password}" in self._params.path else self._params.path
        parts = urlsplit(path)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    def hide(self, text: str) -> str:
        """A text of a library with every form of the password taken out."""
        try:
            _, password = self.credentials()
        except ConfigError:  # the file went away since: there is nothing to hide by name
            password = ""
        for form in {password, quote(password, safe=""), quote(password)} - {""}:
            text = text.replace(form, "***")
        return mask_secrets(text)

    def unknown_host(self) -> str:
        """The host's name if it cannot be resolved, else an empty string."""
        parts = urlsplit(self._params.path)
        host = parts.hostname or ""
        try:
            socket.getaddrinfo(host, parts.port or PORTS[parts.scheme], type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return host or "(no name)"
        return ""
