"""What the device does beside watching: outbox and sinks, ladder, health, minutes, its page.

The agent makes one, calls :meth:`Device.tick` about once a second with what it knows of its
cameras, and asks it what may still be done.
"""

from __future__ import annotations

import datetime
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from visionloop.core.progress import say_step
from visionloop.serving.edge.camera_minutes import CameraMinutes, Sign
from visionloop.serving.edge.cameras.flapping import FLAPPING, FlapWatch
from visionloop.serving.edge.cameras.messages import CameraStatus
from visionloop.serving.edge.delivery.event_ids import ClockWatch, is_clock_ok
from visionloop.serving.edge.delivery.guarded_outbox import GuardedOutbox
from visionloop.serving.edge.delivery.outbox import OutboxLimits
from visionloop.serving.edge.delivery.sender import Sender
from visionloop.serving.edge.delivery.sinks.table import SinkContext
from visionloop.serving.edge.device_figures import DeviceFigures, processed_age, processing_fault
from visionloop.serving.edge.device_state import CameraFigures, DeviceState, MinuteCounts
from visionloop.serving.edge.health.judge import CONDITIONS, NOTICES
from visionloop.serving.edge.ladder import RUNGS, Ladder
from visionloop.serving.edge.pressure import (
    AgePressure,
    DiskPressure,
    HeatPressure,
    MemoryPressure,
    PressureReader,
    ProcessorPressure,
)
from visionloop.serving.edge.record.gallery import Gallery
from visionloop.serving.edge_params import EdgeParams

__all__ = ["Device"]

FAULT_PRIORITY, NOTICE_PRIORITY = 1, 3
NOBODY_YET = {"receiver": 9}
"""Without a sink events wait for one of this name."""
SMALLER = ("full_size", "full_package")
"""Rungs that a device has only where its agent finds smaller models."""


class Device:
    """One edge computer.

    Parameters
    ----------
    folder : Path
        Of the agent.
    root : Path
        What relative paths of the configuration start from.
    params : EdgeParams
    readers : sequence of PressureReader or None
        None is the machine itself.

    Attributes
    ----------
    outbox : GuardedOutbox
    ladder : Ladder
    gallery : Gallery
    """

    def __init__(
        self,
        folder: Path,
        root: Path,
        params: EdgeParams,
        *,
        readers: list[PressureReader] | None = None,
    ) -> None:
        self._folder, self._params = folder, params
        self.name = params.device or socket.gethostname()
        context = SinkContext(params.site, self.name, root)
        limits = OutboxLimits(params.outbox.max_mb * 1_000_000, params.outbox.reserve_share)
        self.outbox = GuardedOutbox(
            folder,
            sinks={sink.name: sink.least_priority for sink in params.sinks} or NOBODY_YET,
            limits=limits,
            reserve_bytes=round(params.outbox.disk_reserve_mb * 1e6),
        )
        self._sender = Sender(self.outbox, params.sinks, context)
        self._figures = DeviceFigures()
        self.ladder = Ladder(
            params.ladder,
            self._machine(folder) if readers is None else readers,
            missing=SMALLER,
        )
        self.gallery = Gallery()
        self._minutes = CameraMinutes(folder / "minutes.json")
        self._clock = ClockWatch()
        self._health: dict[str, dict[str, str]] = {}
        self._lost: dict[str, float] = {}
        self._flaps: dict[str, FlapWatch] = {}
        self._began = time.monotonic()
        self._page: Any = None

    def start(self, *, with_page: bool = True) -> None:
        """Begin to send, and to serve the page.

        Raises
        ------
        ConfigError
            If the page's token is missing.
        """
        self._tell_notices()
        self._sender.start()
        if with_page and self._params.status.enabled:
            from visionloop.serving.edge.status.server import StatusServer

            self._page = StatusServer(
                self._params.status, self._folder, self.read_state, self.gallery.picture
            )
            self._page.start()

    def close(self) -> None:
        """End: the batch under way is finished, counts are written."""
        if self._page is not None:
            self._page.stop()
        self._sender.stop()
        self._minutes.close()
        self.outbox.close()

    def tell(self, kind: str, payload: dict[str, Any], *, priority: int = NOTICE_PRIORITY) -> str:
        """Put an event about the device into the outbox; returns its id."""
        now = datetime.datetime.now(datetime.timezone.utc)
        stamp = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        row = {"site": self._params.site, "device": self.name, **payload}
        return self.outbox.put(kind=kind, priority=priority, created_at=stamp, payload=row)

    def tick(self, figures: DeviceFigures) -> None:
        """About once a second: judge, count, tell."""
        now = time.monotonic()
        self._figures = figures
        self.outbox.tick()
        self._tell_notices()
        if jump := self._clock.look():
            self.tell("clock_jump", {"seconds": round(jump, 1), "clock_ok": is_clock_ok()})
        change = self.ladder.tick(now=now)
        if change is not None:
            say_step(f"edge: level {change.level} of {len(RUNGS)}: {change.reason}")
            self.tell("degradation", change.as_payload(), priority=FAULT_PRIORITY)
        for name, status in figures.cameras.items():
            self._judge_health(name, status, now)
        for gone in set(self._health) - set(figures.cameras):
            del self._health[gone]
            self._flaps.pop(gone, None)
        self.gallery.forget(set(figures.cameras))
        self._minutes.tick(self._signs(figures, now), now=now)

    def read_state(self) -> DeviceState:
        """For the metrics and the page; called from their threads."""
        figures, now = self._figures, time.monotonic()
        cameras = {
            name: self._camera(name, status, now) for name, status in figures.cameras.items()
        }
        depth = self.outbox.depth()
        most = self._params.outbox.max_mb * 1_000_000
        return DeviceState(
            site=self._params.site,
            device=self.name,
            model=figures.model,
            release=figures.release,
            form=figures.form,
            package=figures.package,
            started_s=now - self._began,
            cameras=cameras,
            level=self.ladder.level,
            level_reason=self.ladder.reason,
            given_up=self.ladder.given_up,
            pressures={name: one.share for name, one in self.ladder.pressures.items()},
            outbox=depth,
            outbox_state=self.outbox.state,
            sinks=self._sender.states(),
            queues={**figures.queues, "outbox_bytes": (depth.bytes, most)},
            service_s=figures.service_s,
            counts=figures.counts,
            clock_ok=is_clock_ok(),
        )

    def _machine(self, folder: Path) -> list[PressureReader]:
        params = self._params.ladder
        return [
            ProcessorPressure(params.processor_share),
            AgePressure(lambda: self._figures.frame_age_s, self._params.max_age_s),
            HeatPressure(params.heat_c),
            DiskPressure(folder, least_mb=params.free_disk_mb, least_share=params.free_disk_share),
            MemoryPressure(params.free_memory_share),
        ]

    def _judge_health(self, name: str, status: CameraStatus, now: float) -> None:
        """Tell what began and what ended. A process that has just begun knows nothing yet."""
        before = self._health.get(name, {})
        seen = {k: v for k, v in before.items() if k not in ("lost", FLAPPING)}
        if status.health is not None:
            seen = dict(status.health)
        is_lost = self._is_lost(name, status, now)
        flaps = self._flaps.setdefault(name, FlapWatch())
        if reason := flaps.look(status.falls, now):
            seen[FLAPPING] = reason
            is_lost = "lost" in before  # one alarm, not one for each time that it is away
        if is_lost:
            seen["lost"] = status.reason or "no frame"
        for condition in sorted(set(seen) ^ set(before)):
            is_raised = condition in seen
            payload = {
                "camera": name,
                "condition": condition,
                "state": "raised" if is_raised else "cleared",
                "reason": seen.get(condition, ""),
            }
            is_fault = condition not in NOTICES and is_raised
            priority = FAULT_PRIORITY if is_fault else NOTICE_PRIORITY
            self.tell("camera_health", payload, priority=priority)
        self._health[name] = seen

    def _is_lost(self, name: str, status: CameraStatus, now: float) -> bool:
        """No frame for a while; found again only after some time with frames."""
        if status.state == "ended":
            return False
        params = self._params.health
        # The first connection, and the first key frame, may take longer.
        last = status.last_frame or self._began + 2 * params.lost_s
        if now - last >= params.lost_s:
            self._lost[name] = now
        return now - self._lost.get(name, float("-inf")) < params.clear_s

    def _signs(self, figures: DeviceFigures, now: float) -> dict[str, Sign]:
        signs = {}
        for name, status in figures.cameras.items():
            if status.state == "ended":
                continue
            raised = self._health.get(name, {})
            faults = [one for one in raised if one not in NOTICES and one != FLAPPING]
            cause = faults[0] if faults else processing_fault(name, status, figures, now)
            signs[name] = Sign(processed_age(name, status, figures, now), cause)
        return signs

    def _camera(self, name: str, status: CameraStatus, now: float) -> CameraFigures:
        counts = self.gallery.counts.get(name)
        raised = self._health.get(name, {})
        figures = CameraFigures(
            name,
            state=status.state,
            frame_age_s=processed_age(name, status, self._figures, now),
            health={condition: condition in raised for condition in (*CONDITIONS, FLAPPING)},
            minutes=self._minutes.counts.get(name, MinuteCounts()),
            faults=status.faults,
            packets=status.packets,
            replaced=status.replaced + self._figures.replaced.get(name, 0),
            damaged=status.damaged,
            reason=status.reason,
        )
        if counts is None:
            return figures
        return replace(figures, frames=counts.frames, events=counts.events, boxes=counts.boxes)

    def _tell_notices(self) -> None:
        for kind, text in self.outbox.take_notices():
            say_step(f"edge: {text}")
            self.tell(kind, {"reason": text}, priority=FAULT_PRIORITY)
