"""What edge and cloud cost, and when hardware has paid for itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

from visionloop.core.targets import Targets
from visionloop.pipelines.plan.catalogue import DEVICES

__all__ = ["Costs", "count_cameras", "count_devices", "estimate_costs"]

HOURS_A_MONTH = 730.0
SECONDS_A_MONTH = HOURS_A_MONTH * 3600


@dataclass(frozen=True)
class Costs:
    """Currency units of ``targets.yaml``.

    Attributes
    ----------
    cameras, devices : int
        Of all sites.
    images_a_month : float
    hardware : float
        All devices, once.
    energy_a_month, cloud_a_month : float
    break_even_month : float
        When hardware and its energy have cost less than the cloud; infinite if never.
    """

    cameras: int
    devices: int
    images_a_month: float
    hardware: float
    energy_a_month: float
    cloud_a_month: float
    break_even_month: float


def count_cameras(targets: Targets) -> int:
    """Of all sites."""
    return targets.deployment.cameras or (
        targets.latency.cameras_per_device * targets.deployment.sites
    )


def count_devices(targets: Targets) -> int:
    """Enough for the cameras, and at least one a site."""
    needed = math.ceil(count_cameras(targets) / targets.latency.cameras_per_device)
    return max(needed, targets.deployment.sites)


def estimate_costs(targets: Targets) -> Costs:
    """Edge beside cloud, each camera analysed at ``frames_per_second`` all month."""
    cameras, devices = count_cameras(targets), count_devices(targets)
    images = cameras * targets.latency.frames_per_second * SECONDS_A_MONTH
    watts = DEVICES[targets.deployment.device].watts
    energy = devices * watts / 1000 * HOURS_A_MONTH * targets.cost.energy_per_kwh
    cloud = images / 1000 * targets.cost.per_1000_inferences
    hardware = devices * targets.cost.device_price
    saved = cloud - energy
    return Costs(
        cameras=cameras,
        devices=devices,
        images_a_month=images,
        hardware=hardware,
        energy_a_month=energy,
        cloud_a_month=cloud,
        break_even_month=hardware / saved if saved > 0 else math.inf,
    )
