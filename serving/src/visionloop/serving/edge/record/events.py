"""An event, and how it is read from a row of the device's database."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

__all__ = ["EVENT_COLUMNS", "Event", "event_of_row"]

EVENT_COLUMNS = (
    "seq",
    "event_id",
    "boot_id",
    "kind",
    "priority",
    "created_at",
    "created_monotonic",
    "payload",
    "sha256",
    "acknowledged",
    "clock_ok",
)
_ON_THE_WIRE = [name for name in EVENT_COLUMNS if name != "acknowledged"]


@dataclass(frozen=True)
class Event:
    """What a rule saw, or what the device says about itself.

    Attributes
    ----------
    seq : int
        Counts the events of this device from 1, without going back.
    event_id : str
        UUID version 7: unique everywhere, ordered by time.
    boot_id : str
        Which run of the device's clock ``created_monotonic`` belongs to.
    kind : str
        The rule's kind.
    priority : int
        0 leaves the device first.
    created_at : str
        UTC, RFC 3339.
    created_monotonic : float
        Seconds.
    payload : dict
        Rule, camera, site, sample, package, class, confidence, boxes, picture.
    sha256 : str
        Of the payload's canonical JSON.
    acknowledged : bool
        Every sink that wants it has it.
    clock_ok : bool
        The wall clock was set and synchronised when the event was made.
    """

    seq: int
    event_id: str
    boot_id: str
    kind: str
    priority: int
    created_at: str
    created_monotonic: float
    payload: dict[str, Any]
    sha256: str
    acknowledged: bool
    clock_ok: bool = True

    def as_row(self) -> dict[str, Any]:
        """What goes over the wire."""
        return {name: getattr(self, name) for name in _ON_THE_WIRE}


def event_of_row(row: tuple[Any, ...]) -> Event:
    """An event from its columns, in the order of ``EVENT_COLUMNS``."""
    values = dict(zip(EVENT_COLUMNS, row, strict=True))
    values["payload"] = json.loads(values["payload"])
    values["acknowledged"] = bool(values["acknowledged"])
    values["clock_ok"] = bool(values["clock_ok"])
    return Event(**values)
