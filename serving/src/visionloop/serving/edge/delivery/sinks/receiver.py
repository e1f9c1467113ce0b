"""The receiving end of visionloop (``visionloop serve hub``): batches over HTTPS.

A batch is gzipped JSON; the answer names the ids that are durable in the receiver's database,
so an event leaves the outbox only after a commit there. Sent twice, it is stored once.
"""

from __future__ import annotations

import gzip
import json
import ssl
from collections.abc import Sequence
from typing import Any

import httpx

from visionloop.serving.edge.delivery.sinks.params import SinkParams
from visionloop.serving.edge.delivery.sinks.table import (
    SinkContext,
    SinkError,
    SinkResult,
    check_address,
)
from visionloop.serving.edge.record.events import Event

__all__ = ["ReceiverSink", "read_retry_after", "verification"]

ROUTE = "/v1/events"
CONFIGURATION_WAIT_S = 60.0


class ReceiverSink:
    """Hands batches to a receiving end.

    Raises
    ------
    ConfigError
        If the address or the token is wrong.
    """

    max_events = 500

    def __init__(self, params: SinkParams, context: SinkContext) -> None:
        check_address(params, "https", "http")
        context.read_token(params)
        self._params, self._context = params, context
        self._client: httpx.Client | None = None

    def send(self, events: Sequence[Event]) -> SinkResult:
        """Post a batch; what the answer calls stored is committed there."""
        rows = [event.as_row() for event in events]
        body = {"site": self._context.site, "device": self._context.device, "events": rows}
        content = gzip.compress(json.dumps(body, separators=(",", ":")).encode(), 6)
        headers = {
            "Authorization": f"Bearer {self._context.read_token(self._params)}",
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
        }
        try:
            answer = self._connected().post(ROUTE, content=content, headers=headers)
        except (httpx.HTTPError, OSError) as error:
            self.close()  # a half-open connection must not be used again
            raise SinkError(f"{type(error).__name__}: {error}") from None
        return _read_answer(answer)

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _connected(self) -> httpx.Client:
        if self._client is None:
            self._client = httpx.Client(
                base_url=self._params.address.rstrip("/"),
                timeout=self._params.timeout_s,
                verify=verification(self._params, self._context),
                follow_redirects=False,
                trust_env=False,
            )
        return self._client


def verification(params: SinkParams, context: SinkContext) -> ssl.SSLContext:
    """The certificates that are trusted: the sink's own, or the system's."""
    if params.ca_file:
        return ssl.create_default_context(cafile=str(context.root / params.ca_file))
    return ssl.create_default_context()


def read_retry_after(answer: httpx.Response) -> float:
    """Seconds that the server asks for; 0 where it does not."""
    try:
        return min(600.0, max(0.0, float(answer.headers.get("Retry-After", "0"))))
    except ValueError:
        return 0.0


def _read_answer(answer: httpx.Response) -> SinkResult:
    status = answer.status_code
    if status == 413:
        raise SinkError("the batch is too large", is_too_large=True)
    if status in (401, 403):
        raise SinkError("does not know this device's token", retry_after_s=CONFIGURATION_WAIT_S)
    if status != 200:
        raise SinkError(f"answered {status}", retry_after_s=read_retry_after(answer))
    try:
        content: dict[str, Any] = answer.json()
        stored = [str(one) for one in content["stored"]]
        refused = {str(one["event_id"]): str(one["reason"]) for one in content["refused"]}
    except (ValueError, KeyError, TypeError):
        raise SinkError("its answer is not that of a receiving end") from None
    return SinkResult(stored, refused)
