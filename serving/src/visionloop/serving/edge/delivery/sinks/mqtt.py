"""A broker of the plant (MQTT 3.1.1 or 5, QoS 1).

A broker's acknowledgement is no durability: mosquitto with its defaults lost 500 of 500
acknowledged messages at a kill, and drops what exceeds a subscriber's queue in silence. With
``confirm_topic`` an event counts only when its consumer has published its id there; the event
is published again until it has.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from visionloop.serving.edge.delivery.sinks.params import SinkParams
from visionloop.serving.edge.delivery.sinks.receiver import verification
from visionloop.serving.edge.delivery.sinks.table import (
    SinkContext,
    SinkError,
    SinkResult,
    check_address,
)
from visionloop.serving.edge.record.events import Event

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage

__all__ = ["MqttSink"]

PORTS = {"mqtt": 1883, "mqtts": 8883}
KEEPALIVE_S = 20


class MqttSink:
    """Publishes events; connects on first use and again after every failure.

    Raises
    ------
    ConfigError
        If the address or the password is wrong.
    """

    max_events = 200

    def __init__(self, params: SinkParams, context: SinkContext) -> None:
        check_address(params, "mqtts", "mqtt")
        context.read_token(params)
        self._params, self._context = params, context
        self._client: Client | None = None
        self._confirmed: set[str] = set()
        self._news = threading.Condition()

    def send(self, events: Sequence[Event]) -> SinkResult:
        """Publish, then wait for the broker or for the consumer."""
        client = self._client or self._connect()
        try:
            published = [(event, client.publish(*self._message(event), qos=1)) for event in events]
            if self._params.confirm_topic:
                return SinkResult(self._wait_for_consumer([event.event_id for event in events]))
            return SinkResult(self._wait_for_broker(published))
        except (OSError, ValueError, RuntimeError) as error:
            self.close()
            raise SinkError(f"the broker was lost: {error}") from None
        except SinkError:
            self.close()
            raise

    def close(self) -> None:
        """Disconnect."""
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None

    def _connect(self) -> Client:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        address = urlsplit(self._params.address)
        client = Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
        password = self._context.read_token(self._params)
        if self._params.user:
            client.username_pw_set(self._params.user, password or None)
        if address.scheme == "mqtts":
            client.tls_set_context(verification(self._params, self._context))
        client.connect_timeout = self._params.timeout_s
        ready, refusal = threading.Event(), [""]

        def on_connect(client: Client, _: Any, __: Any, reason: Any, ___: Any) -> None:
            refusal[0] = str(reason) if reason.is_failure else ""
            if not reason.is_failure and self._params.confirm_topic:
                client.subscribe(self._topic(self._params.confirm_topic, ""), qos=1)
            ready.set()

        client.on_connect = on_connect
        client.on_message = self._hear
        host = address.hostname or ""
        try:
            client.connect(host, address.port or PORTS[address.scheme], keepalive=KEEPALIVE_S)
        except (OSError, ValueError) as error:
            raise SinkError(f"{host}: {error}") from None
        client.loop_start()
        self._client = client
        if not ready.wait(self._params.timeout_s) or refusal[0]:
            self.close()
            raise SinkError(f"{host}: {refusal[0] or 'does not answer'}")
        return client

    def _message(self, event: Event) -> tuple[str, bytes]:
        row = {"site": self._context.site, "device": self._context.device, **event.as_row()}
        body = json.dumps(row, separators=(",", ":")).encode()
        return self._topic(self._params.topic, event.kind), body

    def _topic(self, pattern: str, kind: str) -> str:
        return pattern.format(site=self._context.site, device=self._context.device, kind=kind)

    def _wait_for_broker(self, published: list[tuple[Event, Any]]) -> list[str]:
        deadline = time.monotonic() + self._params.timeout_s
        stored = []
        for event, info in published:
            info.wait_for_publish(max(0.0, deadline - time.monotonic()))
            if not info.is_published():
                break
            stored.append(event.event_id)
        if not stored:
            raise SinkError("the broker did not acknowledge")
        return stored

    def _wait_for_consumer(self, event_ids: list[str]) -> list[str]:
        deadline = time.monotonic() + self._params.timeout_s
        wanted = set(event_ids)
        with self._news:
            while not wanted <= self._confirmed and (left := deadline - time.monotonic()) > 0:
                self._news.wait(left)
            stored = [event_id for event_id in event_ids if event_id in self._confirmed]
            self._confirmed.clear()
        if not stored:
            raise SinkError("no consumer confirmed")
        return stored

    def _hear(self, _: Client, __: Any, message: MQTTMessage) -> None:
        with self._news:
            self._confirmed.update(message.payload.decode(errors="replace").split())
            self._news.notify_all()
