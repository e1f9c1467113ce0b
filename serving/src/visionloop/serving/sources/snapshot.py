"""Cameras that give one picture at a web address (JPEG or PNG)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from urllib.error import HTTPError, URLError
from urllib.request import (
    HTTPBasicAuthHandler,
    HTTPDigestAuthHandler,
    HTTPPasswordMgrWithDefaultRealm,
    OpenerDirector,
    ProxyHandler,
    build_opener,
)

from visionloop.core.errors import DataError
from visionloop.serving.images import decode_image
from visionloop.serving.sources.backoff import CameraFaultError
from visionloop.serving.sources.live import OPEN_TIMEOUT_S, LiveSource, Picture

__all__ = ["SnapshotSource"]

MAX_BYTES = 64_000_000
BLOCK_BYTES = 1 << 16
DEFAULT_RATE = 1.0


class SnapshotSource(LiveSource):
    """Asks a camera for a picture at each tick of the rate (0 is once a second).

    The camera's own file stays with the frame. Logs in by Basic or Digest, whichever the
    camera asks for. A proxy of the environment is not used: cameras are on the plant's
    network.
    """

    def _connect(self) -> Iterator[Picture]:
        if host := self._address.unknown_host():
            raise self._refusal(f"the name '{host}' cannot be resolved", "check the address")
        self.pace.rate = self.pace.rate or DEFAULT_RATE
        opener = self._opener()
        while self.pace.wait(self._watcher.should_stop):
            content = self._fetch(opener)
            try:
                image = decode_image(content, subject=self._subject)
            except DataError as error:
                raise self._refusal(f"its answer {error.problems[0]}", error.next_step) from None
            yield image, content

    def _opener(self) -> OpenerDirector:
        user, password = self._address.credentials()
        passwords = HTTPPasswordMgrWithDefaultRealm()
        passwords.add_password(None, self._address.bare(), user, password)
        login = [HTTPBasicAuthHandler(passwords), HTTPDigestAuthHandler(passwords)] if user else []
        return build_opener(ProxyHandler({}), *login)

    def _fetch(self, opener: OpenerDirector) -> bytes:
        try:
            with opener.open(self._address.bare(), timeout=OPEN_TIMEOUT_S) as answer:
                return self._read(answer)
        except HTTPError as error:
            raise self._explain(error) from None
        except URLError as error:
            raise self._fault(str(getattr(error.reason, "strerror", "") or error.reason)) from None
        except (OSError, HTTPException, ValueError) as error:
            raise self._fault(str(error) or type(error).__name__) from None

    def _read(self, answer: HTTPResponse) -> bytes:
        """Read to the end within the time limit: a camera that drips must not hold us."""
        deadline = time.monotonic() + OPEN_TIMEOUT_S
        content = b""
        while block := answer.read1(BLOCK_BYTES):
            content += block
            if len(content) > MAX_BYTES:
                raise self._refusal(f"its picture is larger than {MAX_BYTES // 1_000_000} MB")
            if time.monotonic() > deadline:
                raise self._fault(f"its picture was not complete after {OPEN_TIMEOUT_S:.0f} s")
        return content

    def _explain(self, error: HTTPError) -> CameraFaultError:
        if error.code in (401, 403):
            return self._refusal("refuses this user or password", "check the credentials")
        if error.code in (404, 410):
            return self._refusal("has no such picture (404)", "check the end of the address")
        if 400 <= error.code < 500:
            return self._refusal(f"refuses the request ({error.code})", "check the address")
        return self._fault(f"answered {error.code}")
