"""Edge, cloud or both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from visionloop.core.targets import Targets
from visionloop.pipelines.plan.costs import Costs

__all__ = ["PlaceChoice", "choose_place"]

REAL_TIME_MS = 50.0
MANY_SITES, MANY_CAMERAS = 5, 200


@dataclass(frozen=True)
class PlaceChoice:
    """Where the model runs.

    Attributes
    ----------
    place : str
        ``hybrid``: inference at the edge, releases, alerts and figures in the cloud.
    edge, cloud : list of str
        Reasons for each.
    """

    place: Literal["edge", "cloud", "hybrid"]
    edge: list[str]
    cloud: list[str]


def choose_place(targets: Targets, costs: Costs) -> PlaceChoice:
    """Edge where latency, connectivity, privacy or cost ask for it; cloud for elastic load and
    for many sources under one management, where they can reach it; hybrid where both hold."""
    edge, cloud = _edge_reasons(targets, costs), _cloud_reasons(targets)
    if edge and cloud:
        return PlaceChoice("hybrid", edge, cloud)
    if edge:
        return PlaceChoice("edge", edge, cloud)
    if not cloud:
        months = costs.break_even_month
        when = f"after {months:.0f} months" if months < 1000 else "never"
        cloud = [f"nothing asks for the edge, and a device would pay for itself {when}"]
    return PlaceChoice("cloud", edge, cloud)


def _edge_reasons(targets: Targets, costs: Costs) -> list[str]:
    need, reasons = targets.deployment, []
    if targets.latency.per_frame_ms < REAL_TIME_MS:
        reasons.append(f"{targets.latency.per_frame_ms:g} ms a frame, below {REAL_TIME_MS:g}")
    if need.connectivity != "reliable":
        reasons.append(f"connectivity is {need.connectivity}")
    if need.privacy == "images_stay_on_site":
        reasons.append("images stay on site")
    if costs.break_even_month <= targets.cost.months and need.load == "steady":
        reasons.append(
            f"the cloud costs more than the hardware after {costs.break_even_month:.1f} months"
        )
    return reasons


def _cloud_reasons(targets: Targets) -> list[str]:
    need, reasons = targets.deployment, []
    if need.connectivity != "reliable":
        return []  # what cannot be reached cannot manage: the hub hears of it when the line is up
    if need.load == "bursts":
        reasons.append("the load comes in bursts: capacity is paid for only while it is used")
    if need.sites >= MANY_SITES:
        reasons.append(f"{need.sites} sites under one management")
    if need.cameras >= MANY_CAMERAS:
        reasons.append(f"{need.cameras} sources at many places")
    return reasons
