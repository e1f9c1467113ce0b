"""Any web address: one POST an event, signed.

The headers carry ``X-Visionloop-Event`` (id), ``X-Visionloop-Timestamp`` (Unix seconds) and
``X-Visionloop-Signature``: ``v1,`` + base64 of HMAC-SHA256 over ``id.timestamp.body`` with the
sink's token as key. Receivers compare in constant time, refuse old timestamps, and drop ids that
they have seen: an event may come twice.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

import httpx

from visionloop.serving.edge.delivery.sinks.params import SinkParams
from visionloop.serving.edge.delivery.sinks.receiver import read_retry_after, verification
from visionloop.serving.edge.delivery.sinks.table import (
    SinkContext,
    SinkError,
    SinkResult,
    check_address,
)
from visionloop.serving.edge.record.events import Event

__all__ = ["WebhookSink", "sign_event"]


class WebhookSink:
    """Posts events one by one; any 2xx counts as received, redirects do not.

    Raises
    ------
    ConfigError
        If the address or the token is wrong.
    """

    max_events = 50

    def __init__(self, params: SinkParams, context: SinkContext) -> None:
        check_address(params, "https", "http")
        context.read_token(params)
        self._params, self._context = params, context
        self._client: httpx.Client | None = None

    def send(self, events: Sequence[Event]) -> SinkResult:
        """Post events in their order; those before a failure are received."""
        stored: list[str] = []
        for event in events:
            try:
                self._post(event)
            except SinkError:
                if stored:
                    break
                raise
            stored.append(event.event_id)
        return SinkResult(stored)

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _post(self, event: Event) -> None:
        row = {"site": self._context.site, "device": self._context.device, **event.as_row()}
        body = json.dumps(row, separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json", "X-Visionloop-Event": event.event_id}
        if key := self._context.read_token(self._params):
            stamp = str(int(time.time()))
            headers["X-Visionloop-Timestamp"] = stamp
            headers["X-Visionloop-Signature"] = sign_event(key, event.event_id, stamp, body)
        if self._client is None:
            self._client = httpx.Client(
                timeout=self._params.timeout_s,
                verify=verification(self._params, self._context),
                follow_redirects=False,
                trust_env=False,
            )
        host = urlsplit(self._params.address).hostname
        try:
            answer = self._client.post(self._params.address, content=body, headers=headers)
        except (httpx.HTTPError, OSError) as error:
            self.close()
            raise SinkError(f"{host}: {type(error).__name__}") from None
        if not answer.is_success:
            wait = read_retry_after(answer)
            raise SinkError(f"{host} answered {answer.status_code}", retry_after_s=wait)


def sign_event(key: str, event_id: str, timestamp: str, body: bytes) -> str:
    """The signature of a request: ``v1,`` and base64 of HMAC-SHA256."""
    signed = f"{event_id}.{timestamp}.".encode() + body
    digest = hmac.new(key.encode(), signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()
