"""What the agent counts while it watches cameras, for the device, its metrics and its page."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from visionloop.serving.edge.cameras.messages import CameraStatus
from visionloop.serving.edge.device_figures import DeviceFigures

__all__ = ["LiveCounts"]

QUANTILES = (0.5, 0.95, 0.99)


@dataclass
class LiveCounts:
    """What happened since the start; the last service times of frames (milliseconds): model,
    tracking and rules by the clock, and the agent's own processor time for the same."""

    frames: int = 0
    events: int = 0
    kept: int = 0
    too_old: int = 0
    model_faults: int = 0
    clips: int = 0
    clip_faults: int = 0
    service_ms: deque[float] = field(default_factory=lambda: deque(maxlen=5000))
    work_ms: deque[float] = field(default_factory=lambda: deque(maxlen=5000))
    ages_s: deque[float] = field(default_factory=lambda: deque(maxlen=200))
    """Seconds between capture and answer; dropped frames count with more than is allowed."""
    analysed: dict[str, float] = field(default_factory=dict)
    """Camera to the moment (monotonic) of the newest frame that the model answered."""
    failed: dict[str, float] = field(default_factory=dict)
    """The same of the newest frame on which the model failed."""

    def as_figures(
        self,
        *,
        cameras: Mapping[str, CameraStatus],
        model: str,
        package: str,
        form: str,
        release: int,
        queues: dict[str, tuple[int, int]],
        restarts: int,
        replaced: Mapping[str, int],
    ) -> DeviceFigures:
        """Together with what else the agent knows; see :class:`DeviceFigures`."""
        times, ages = sorted(self.service_ms), sorted(self.ages_s)
        return DeviceFigures(
            cameras=cameras,
            model=model,
            package=package,
            form=form,
            release=release,
            frame_age_s=ages[int(0.95 * len(ages))] if ages else 0.0,
            queues=queues,
            analysed=dict(self.analysed),
            failed=dict(self.failed),
            replaced=replaced,
            service_s={q: times[int(q * (len(times) - 1))] / 1e3 for q in QUANTILES if times},
            counts={
                "frames": self.frames,
                "events": self.events,
                "frames_too_old": self.too_old,
                "model_faults": self.model_faults,
                "clips": self.clips,
                "process_restarts": restarts,
            },
        )
