"""Strangers are sent away before anything of theirs is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from starlette.responses import JSONResponse

from visionloop.serving.http.tokens import Tokens

__all__ = ["Guard", "refuse"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Guard:
    """Answers 401 to requests without a token.

    Parameters
    ----------
    app : ASGI application
    tokens : Tokens
    open_paths : iterable of str
        Need no token.
    """

    def __init__(self, app: App, *, tokens: Tokens, open_paths: Iterable[str]) -> None:
        self._app, self._tokens = app, tokens
        self._open_paths = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request, then hand it on."""
        if scope["type"] != "http" or self._may_pass(scope):
            await self._app(scope, receive, send)
            return
        response = refuse(401, ["show a token: Authorization: Bearer <token>"])
        response.headers["WWW-Authenticate"] = "Bearer"
        response.headers["Connection"] = "close"
        await response(scope, receive, send)

    def _may_pass(self, scope: Scope) -> bool:
        if scope["path"] in self._open_paths:
            return True
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(given) == 1 and self._tokens.accept(given[0])


def refuse(status: int, problems: list[str]) -> JSONResponse:
    """A response that says why a request is not answered."""
    return JSONResponse({"problems": problems}, status_code=status)
