"""Who may ask, and how much: checked before a request reaches a route.

Bodies are never logged: the one of ``/setup`` carries a key of Label Studio.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

__all__ = ["Guard", "is_same", "read_basic"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_BYTES = 16 << 20
"""A thousand tasks with their metadata are about 1 MB."""

BODY_SECONDS = 10.0


class Guard:
    """Refuses strangers (401), large bodies (413), slow ones (408) and foreign hosts (400).

    Parameters
    ----------
    app : ASGI application
    accounts : iterable of (str, str)
        Names and passwords; any of them opens every route.
    secret_header, secret : str
        Opens ``secret_path`` instead.
    secret_path : str
    hosts : iterable of str
        Names under which the server may be addressed: a page of another site that had its
        name changed to this machine's address names itself.
    body_bytes, body_seconds : int, float
    """

    def __init__(
        self,
        app: App,
        *,
        accounts: Iterable[tuple[str, str]],
        secret_header: str,
        secret: str,
        secret_path: str,
        hosts: Iterable[str],
        body_bytes: int = BODY_BYTES,
        body_seconds: float = BODY_SECONDS,
    ) -> None:
        self._app = app
        self._accounts = list(accounts)
        self._secret_header = secret_header.lower().encode()
        self._secret = secret
        self._secret_path = secret_path
        self._hosts = set(hosts)
        self._body_bytes = body_bytes
        self._body_seconds = body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request, then hand it on with its whole body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if _host_of(headers) not in self._hosts:
            await _refuse(send, 400, "unknown host")
            return
        scope["state"] = {**scope.get("state", {}), "by_secret": False}
        if not self._may_pass(scope, headers):
            await _refuse(send, 401, "sign in")
            return
        try:
            body = await asyncio.wait_for(self._read(headers, receive), self._body_seconds)
        except asyncio.TimeoutError:
            await _refuse(send, 408, "the body did not arrive in time")
            return
        except _TooLargeError:
            await _refuse(send, 413, f"more than {self._body_bytes} bytes")
            return
        await self._app(scope, _replay(body, receive), send)

    def _may_pass(self, scope: Scope, headers: dict[bytes, bytes]) -> bool:
        if scope["path"] == self._secret_path:
            given = headers.get(self._secret_header, b"").decode("latin-1")
            if is_same(given, self._secret):
                scope["state"]["by_secret"] = True
                return True
        name, password = read_basic(headers.get(b"authorization", b"").decode("latin-1"))
        # Every account is compared, so that the time tells nothing.
        found = [is_same(name, one) & is_same(password, other) for one, other in self._accounts]
        return any(found)

    async def _read(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        said = headers.get(b"content-length", b"0")
        if not said.isdigit() or int(said) > self._body_bytes:
            raise _TooLargeError
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return bytes(body)
            body += message.get("body", b"")
            if len(body) > self._body_bytes:
                raise _TooLargeError
            if not message.get("more_body"):
                return bytes(body)


class _TooLargeError(Exception):
    """A body beyond the limit."""


def is_same(given: str, expected: str) -> bool:
    """Compare texts in a time that does not tell how much of them agrees."""
    return hmac.compare_digest(given.encode(), expected.encode())


def read_basic(header: str) -> tuple[str, str]:
    """Name and password of a Basic authorization header; empty texts if it is none."""
    kind, _, value = header.partition(" ")
    if kind.lower() != "basic":
        return "", ""
    try:
        name, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except ValueError:
        return "", ""
    return name, password


def _host_of(headers: dict[bytes, bytes]) -> str:
    host = headers.get(b"host", b"").decode("latin-1")
    name, separator, port = host.rpartition(":")
    return name if separator and port.isdigit() else host


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body as one message, then whatever the connection says (that it was closed)."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _refuse(send: Send, status: int, reason: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="visionloop"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": reason.encode()})
