"""The keys ``serving.edge.outbox`` and ``serving.edge.sinks``."""

from __future__ import annotations

from pydantic import Field

from visionloop.core.config import StrictModel

__all__ = ["OutboxParams", "SinkParams"]

NAME = r"^[A-Za-z0-9._-]+$"


class OutboxParams(StrictModel):
    """How much may wait on the device."""

    max_mb: int = Field(default=1000, gt=0, description="size of the outbox, in megabytes")
    reserve_share: float = Field(
        default=0.2, ge=0, lt=1, description="part of it that only alerts (priority 0, 1) may use"
    )
    disk_reserve_mb: float = Field(
        default=4.0, ge=0, description="laid down on the disk, given up for alerts when it is full"
    )


class SinkParams(StrictModel):
    """Somebody who wants events."""

    name: str = Field(
        min_length=1, max_length=100, pattern=NAME, description="events wait for it by this name"
    )
    kind: str = Field(description="row of the sink table: receiver, mqtt, webhook, file")
    address: str = Field(
        min_length=1,
        description="https://host, mqtt://host:1883 or mqtts://host, or a file (relative to the "
        "workspace). Plain http and mqtt only on loopback, unless allow_plaintext",
    )
    least_priority: int = Field(
        default=9, ge=0, le=9, description="it wants events of this priority and smaller ones"
    )
    user: str = Field(default="", description="mqtt: user name")
    token_env: str = Field(
        default="",
        description="environment variable with its token (receiver), password (mqtt) or key of "
        "signatures (webhook)",
    )
    token_file: str = Field(
        default="", description="file that holds the token alone, relative to the workspace"
    )
    ca_file: str = Field(
        default="", description="certificates to trust instead of the system's, in PEM"
    )
    allow_plaintext: bool = Field(
        default=False, description="let events leave the device unencrypted"
    )
    topic: str = Field(
        default="visionloop/{site}/{device}/{kind}", description="mqtt: topic of an event"
    )
    confirm_topic: str = Field(
        default="",
        description="mqtt: the consumer publishes ids there (one a line); empty trusts the "
        "broker's acknowledgement, which is no durability",
    )
    max_mb: float = Field(default=100.0, gt=0, description="file: size at which a new one begins")
    kept_files: int = Field(default=5, ge=1, description="file: how many old ones are kept")
    timeout_s: float = Field(default=10.0, gt=0, le=300, description="for one answer")
