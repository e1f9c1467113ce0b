"""What the agent knows of its cameras and its work, told to the device about once a second."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from visionloop.serving.edge.camera_minutes import GOOD_AGE_S
from visionloop.serving.edge.cameras.messages import CameraStatus

__all__ = ["DeviceFigures", "processed_age", "processing_fault"]

FRESH_S = 1.5
"""So old is a camera's status at most while its process is well: it is sent once a second."""


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
    analysed, failed : mapping of str to float
        Camera to the moment (monotonic) of the newest frame that the model answered, and of the
        newest on which it failed.
    replaced : mapping of str to int
        Camera to its frames that waited at the agent until a newer one came.
    queues, service_s, counts
        As in :class:`DeviceState`.
    """

    cameras: Mapping[str, CameraStatus] = field(default_factory=dict)
    model: str = ""
    package: str = ""
    release: int = 0
    form: str = "full"
    frame_age_s: float = 0.0
    analysed: Mapping[str, float] = field(default_factory=dict)
    failed: Mapping[str, float] = field(default_factory=dict)
    replaced: Mapping[str, int] = field(default_factory=dict)
    queues: dict[str, tuple[int, int]] = field(default_factory=dict)
    service_s: dict[float, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


def processed_age(
    name: str, status: CameraStatus, figures: DeviceFigures, now: float
) -> float | None:
    """Of the newest frame that the model answered, or on which the gate found nothing.

    As of the camera's last sign of life, where that is fresh: what its process has seen since
    is told with its next status, and an idle camera has a key frame every two seconds only.
    """
    newest = max(figures.analysed.get(name, 0.0), status.last_quiet)
    if not newest:
        return None
    known = max(status.beat, newest)
    return known - newest if now - known <= FRESH_S else now - newest


def processing_fault(name: str, status: CameraStatus, figures: DeviceFigures, now: float) -> str:
    """``model`` where it failed on the newest frame that it saw; ``overload`` where frames come
    but are not processed; else nothing."""
    if figures.failed.get(name, 0.0) > figures.analysed.get(name, 0.0):
        return "model"
    age = processed_age(name, status, figures, now)
    waits = now - status.last_frame <= GOOD_AGE_S
    return "overload" if waits and age is not None and age > GOOD_AGE_S else ""
