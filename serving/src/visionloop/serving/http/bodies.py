"""Bodies of requests: received only as far as they are within the limits."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.requests import Request

__all__ = ["BodyError", "BodyLimits", "BodyReader"]


class BodyError(Exception):
    """A body that is not received to its end.

    Attributes
    ----------
    status : int
        408, 413 or 429.
    """

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(problem)
        self.status = status


@dataclass(frozen=True)
class BodyLimits:
    """How much of bodies is received.

    Attributes
    ----------
    one, all : int
        Bytes of one body, and of all that are being received.
    seconds : float
        For a body to arrive.
    """

    one: int
    all: int
    seconds: float


class BodyReader:
    """Reads the bodies of all requests; used from one event loop."""

    def __init__(self, limits: BodyLimits) -> None:
        self._limits = limits
        self._receiving = 0

    @property
    def receiving_bytes(self) -> int:
        """Of bodies that have begun and not ended."""
        return self._receiving

    async def read(self, request: Request) -> bytes:
        """The whole body.

        Raises
        ------
        BodyError
            If it says that it is too large, or is; if it does not arrive in time; if too
            many arrive at the same time.
        """
        said = request.headers.get("content-length", "0")
        if not said.isdigit():
            raise BodyError(413, "Content-Length is not a number")
        if int(said) > self._limits.one:
            raise BodyError(413, self._too_large())
        try:
            return await asyncio.wait_for(self._receive(request), self._limits.seconds)
        except asyncio.TimeoutError:
            text = f"the body did not arrive within {self._limits.seconds:g} s"
            raise BodyError(408, text) from None

    async def _receive(self, request: Request) -> bytes:
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                self._receiving += len(chunk)
                if len(body) > self._limits.one:
                    raise BodyError(413, self._too_large())
                if self._receiving > self._limits.all:
                    raise BodyError(429, "too many bodies are being received at the same time")
        finally:
            self._receiving -= len(body)
        return bytes(body)

    def _too_large(self) -> str:
        return f"the body is larger than {self._limits.one / 1e6:g} MB"
