"""How a device does at one moment: what the metrics, the status page and the hub show.

The agent has one function that answers a :class:`DeviceState`; everything else only reads it.
Nothing in here holds an address or a password of a camera.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from visionloop.serving.edge.delivery.outbox import OutboxDepth
from visionloop.serving.edge.delivery.sender import SinkState

__all__ = ["CameraFigures", "DeviceState", "MinuteCounts"]


@dataclass(frozen=True)
class MinuteCounts:
    """Camera-minutes since the first start, kept over restarts.

    Attributes
    ----------
    good : int
        A processed frame at most two seconds old, and a picture that can be judged.
    bad : dict
        Cause to minutes.
    """

    good: int = 0
    bad: dict[str, int] = field(default_factory=dict)

    @property
    def share(self) -> float | None:
        """Of good minutes; None before the first minute."""
        total = self.good + sum(self.bad.values())
        return self.good / total if total else None


@dataclass(frozen=True)
class CameraFigures:
    """One camera.

    Attributes
    ----------
    name : str
    state : str
        What its reader says: connecting, idle, active, lost, refused, ended.
    frame_age_s : float or None
        Seconds since its last processed frame; None before the first.
    health : dict
        Condition to whether it is raised.
    minutes : MinuteCounts
    frames, events, faults : int
        Analysed, raised by rules, connections that broke; since the start.
    packets : int
        Received since its process began to read it.
    replaced, damaged : int
        Frames that a newer one replaced before they were analysed, and that could not be decoded.
    boxes : int
        In its last answer.
    reason : str
        Of the last fault, without passwords.
    """

    name: str
    state: str = "connecting"
    frame_age_s: float | None = None
    health: dict[str, bool] = field(default_factory=dict)
    minutes: MinuteCounts = field(default_factory=MinuteCounts)
    frames: int = 0
    events: int = 0
    faults: int = 0
    packets: int = 0
    replaced: int = 0
    damaged: int = 0
    boxes: int = 0
    reason: str = ""

    @property
    def conditions(self) -> list[str]:
        """Raised conditions of its health."""
        return [name for name, is_raised in self.health.items() if is_raised]


@dataclass(frozen=True)
class DeviceState:
    """One device.

    Attributes
    ----------
    site, device, model : str
    release : int
    package : str
        SHA-256 of the package that answers.
    form : str
        ``full``, or what smaller form of the model answers under pressure.
    started_s : float
        Seconds since the start.
    cameras : dict
        Name to figures.
    level : int
        Of the degradation ladder; 0 is everything.
    level_reason : str
    given_up : list of str
        Rungs of the ladder.
    pressures : dict
        Cause to the share of its limit.
    outbox : OutboxDepth
    outbox_state : str
        durable, reserve or memory.
    sinks : dict
        Name to how it does.
    queues : dict
        Name to (length, bound) of every queue in the agent.
    service_s : dict
        Quantile to seconds of work a frame, of late.
    counts : dict
        Anything else that only grows, by name.
    clock_ok : bool
    """

    site: str
    device: str
    model: str = ""
    release: int = 0
    package: str = ""
    form: str = "full"
    started_s: float = 0.0
    cameras: dict[str, CameraFigures] = field(default_factory=dict)
    level: int = 0
    level_reason: str = ""
    given_up: list[str] = field(default_factory=list)
    pressures: dict[str, float] = field(default_factory=dict)
    outbox: OutboxDepth = field(default_factory=OutboxDepth)
    outbox_state: str = "durable"
    sinks: dict[str, SinkState] = field(default_factory=dict)
    queues: dict[str, tuple[int, int]] = field(default_factory=dict)
    service_s: dict[float, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    clock_ok: bool = True
