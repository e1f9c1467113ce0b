"""What the agent knows of its cameras and its work, told to the device about once a second."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from visionloop.serving.edge.cameras.messages import CameraStatus

__all__ = ["DeviceFigures", "Unprocessed"]


@dataclass(frozen=True)
class Unprocessed:
    """A camera whose frames come and have no answer.

    Attributes
    ----------
    cause : str
        ``model``: it fails on them; ``overload``: they grew too old.
    since : float
        Monotonic clock at the first of them.
    """

    cause: str
    since: float


@dataclass(frozen=True)
class DeviceFigures:
    """What the agent knows and the device does not.

    Attributes
    ----------
    cameras : mapping of str to CameraStatus
    model, package : str
    release : int
    form : str
        What of the release answers: ``full``, a smaller input, another package.
    frame_age_s : float
        Age of frames at their answer, of late.
    unprocessed : mapping of str to Unprocessed
    queues, service_s, counts
        As in :class:`DeviceState`.
    """

    cameras: Mapping[str, CameraStatus] = field(default_factory=dict)
    unprocessed: Mapping[str, Unprocessed] = field(default_factory=dict)
    model: str = ""
    package: str = ""
    release: int = 0
    form: str = "full"
    frame_age_s: float = 0.0
    queues: dict[str, tuple[int, int]] = field(default_factory=dict)
    service_s: dict[float, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
