"""Can one device do it? If not: which target to relax, and to what."""

from __future__ import annotations

import math

from visionloop.core.targets import Targets
from visionloop.pipelines.plan.catalogue import Figure

__all__ = ["MOST_BUSY", "find_shortfalls", "share_of_a_device"]

MOST_BUSY = 0.8
"""Share of a second that inference may fill: the rest is decoding, rules and writing."""


def share_of_a_device(targets: Targets, figure: Figure) -> float:
    """Share of each second that the cameras of one device keep it busy; above 1 is too much."""
    need = targets.latency
    return need.cameras_per_device * need.frames_per_second * figure.milliseconds / 1000


def find_shortfalls(targets: Targets, figure: Figure) -> list[str]:
    """What one device cannot do, each with the target to relax; empty if it can do all.

    Parameters
    ----------
    figure : Figure
        One picture on that device.
    """
    need, problems = targets.latency, []
    if figure.milliseconds > need.per_frame_ms:
        problems.append(
            f"one picture takes {figure.milliseconds:.1f} ms, latency.per_frame_ms is "
            f"{need.per_frame_ms:g}: relax it to {math.ceil(figure.milliseconds)}, or take a "
            "faster device"
        )
    busy = share_of_a_device(targets, figure)
    if busy > MOST_BUSY:
        fitting = int(MOST_BUSY * 1000 / (need.frames_per_second * figure.milliseconds))
        rate = MOST_BUSY * 1000 / (need.cameras_per_device * figure.milliseconds)
        problems.append(
            f"{need.cameras_per_device} cameras at {need.frames_per_second:g} frames/s fill "
            f"{busy:.1f} devices: relax latency.cameras_per_device to {max(fitting, 1)} (or "
            f"frames_per_second to {rate:.2g})"
        )
    return problems
