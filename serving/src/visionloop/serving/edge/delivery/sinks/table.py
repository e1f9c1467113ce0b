"""The table of sinks, and what a sink is.

A sink of your own is a class built with ``(params, context)`` that has ``send`` and ``close``,
and a row in ``SINKS``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from visionloop.core.plugins import resolve
from visionloop.core.privacy import mask_secrets
from visionloop.serving.edge import access
from visionloop.serving.edge.delivery.sinks.params import SinkParams
from visionloop.serving.edge.record.events import Event

__all__ = ["SINKS", "Sink", "SinkContext", "SinkError", "SinkResult", "check_address", "open_sink"]

SINKS = {
    "receiver": "visionloop.serving.edge.delivery.sinks.receiver:ReceiverSink",
    "mqtt": "visionloop.serving.edge.delivery.sinks.mqtt:MqttSink",
    "webhook": "visionloop.serving.edge.delivery.sinks.webhook:WebhookSink",
    "file": "visionloop.serving.edge.delivery.sinks.file:FileSink",
}


class SinkError(Exception):
    """A sink did not take a batch; it is sent again after a while.

    Parameters
    ----------
    reason : str
        For a person, without passwords.
    retry_after_s : float
        Wait at least this long: the sink asked for it, or it is a fault of configuration.
    is_too_large : bool
        The batch was too large; half of it may pass.
    """

    def __init__(
        self, reason: str, *, retry_after_s: float = 0.0, is_too_large: bool = False
    ) -> None:
        super().__init__(mask_secrets(reason))
        self.retry_after_s, self.is_too_large = retry_after_s, is_too_large


@dataclass(frozen=True)
class SinkResult:
    """What a sink made of a batch.

    Attributes
    ----------
    stored : list of str
        Ids that it holds durably.
    refused : dict
        Ids that it will never take, with the reason.
    """

    stored: list[str]
    refused: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SinkContext:
    """What a sink may need to know beside its own parameters.

    Attributes
    ----------
    site, device : str
        The plant, and this computer in it.
    root : Path
        What relative paths are relative to.
    """

    site: str
    device: str
    root: Path

    def read_token(self, params: SinkParams) -> str:
        """The sink's token, read again for every connection; empty where it has none.

        Raises
        ------
        ConfigError
            If it is not where the parameters say.
        """
        subject = f"sink '{params.name}'"
        return access.read_token(subject, params.token_env, params.token_file, root=self.root)


class Sink(Protocol):
    """Somebody who takes events; used by one thread.

    Attributes
    ----------
    max_events : int
        Largest batch.
    """

    max_events: int

    def send(self, events: Sequence[Event]) -> SinkResult:
        """Hand over a batch and wait until it is durable there.

        Raises
        ------
        SinkError
            If nothing is known to be stored.
        """
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


def open_sink(params: SinkParams, context: SinkContext) -> Sink:
    """Make a sink; nothing is connected yet.

    Raises
    ------
    ConfigError
        If the kind is unknown, the address is wrong or unencrypted, or a token is missing.
    """
    sink: Sink = resolve(SINKS, params.kind, kind="sink", extra="edge")(params, context)
    return sink


def check_address(params: SinkParams, safe: str, plain: str) -> None:
    """Refuse addresses of another scheme, and plain ones that leave this machine.

    Raises
    ------
    ConfigError
        Naming the sink.
    """
    access.check_address(
        f"sink '{params.name}'",
        params.address,
        safe,
        plain,
        is_plain_allowed=params.allow_plaintext,
    )
