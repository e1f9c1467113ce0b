"""The verb ``plan``: read ``targets.yaml``, recommend, and say why."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from visionloop.core.errors import DataError, RefusedError
from visionloop.core.files import write_json
from visionloop.core.targets import Targets, load_targets
from visionloop.core.workspace import Workspace
from visionloop.pipelines.plan.capacity import find_shortfalls, share_of_a_device
from visionloop.pipelines.plan.catalogue import DEVICES, Figure, latency_of
from visionloop.pipelines.plan.costs import Costs, estimate_costs
from visionloop.pipelines.plan.family import FamilyChoice, choose_family
from visionloop.pipelines.plan.place import PlaceChoice, choose_place

__all__ = ["Plan", "make_plan", "plan"]

MEASURED_IMAGES = 16


@dataclass(frozen=True)
class Plan:
    """A recommendation.

    Attributes
    ----------
    family : FamilyChoice
    place : PlaceChoice
    latency : Figure
        One picture on the device (at the edge) or on a core (in the cloud).
    here : Figure or None
        One picture of the package at hand on this machine.
    busy : float
        Share of a device that its cameras fill.
    costs : Costs
    shortfalls : list of str
        What cannot be done, each with the target to relax.
    """

    family: FamilyChoice
    place: PlaceChoice
    latency: Figure
    here: Figure | None
    busy: float
    costs: Costs
    shortfalls: list[str]

    def as_row(self) -> dict[str, Any]:
        """Plain JSON values; a break-even that never comes is null."""
        row = asdict(self)
        if row["costs"]["break_even_month"] == float("inf"):
            row["costs"]["break_even_month"] = None
        return row


def make_plan(targets: Targets, measured: Figure | None = None) -> Plan:
    """Recommend family and place.

    Parameters
    ----------
    targets : Targets
    measured : Figure or None
        One picture of a package at hand on this machine. It decides where a processor core
        is the device; a Jetson is judged by figures of Jetsons.

    Raises
    ------
    ConfigError
        If ``deployment.device`` is no row of the table.
    """
    family = choose_family(targets)
    cited = latency_of(family.family, targets.deployment.device)
    costs = estimate_costs(targets)
    place = choose_place(targets, costs)
    if place.place == "cloud":
        cited = latency_of(family.family, "cpu-core")
    is_core = place.place == "cloud" or targets.deployment.device == "cpu-core"
    figure = measured if measured is not None and is_core else cited
    shortfalls = [] if place.place == "cloud" else find_shortfalls(targets, figure)
    busy = share_of_a_device(targets, figure)
    return Plan(family, place, figure, measured, busy, costs, shortfalls)


def plan(*, workspace: Workspace, path: Path | None = None) -> tuple[Plan, Path]:
    """Write ``reports/plan`` for a ``targets.yaml``.

    Parameters
    ----------
    workspace : Workspace
        Its package, where there is one, is measured on this machine.
    path : Path or None
        Another ``targets.yaml`` than the workspace's.

    Returns
    -------
    (Plan, Path)
        The recommendation, and the page.

    Raises
    ------
    ConfigError
        If ``targets.yaml`` is wrong.
    RefusedError
        If one device cannot do it; the targets to relax are named, the page is written.
    """
    from visionloop.data.pages import write_page

    targets = load_targets(path or workspace.targets)
    found = make_plan(targets, _measure_here(workspace, targets))
    folder = workspace.reports / "plan"
    write_json(folder / "plan.json", found.as_row())
    template = Path(__file__).parent / "templates" / "plan.html.j2"
    page = write_page(
        folder / "index.html",
        template,
        plan=found,
        targets=targets,
        device=DEVICES[targets.deployment.device],
    )
    if found.shortfalls:
        raise RefusedError(
            f"{path or workspace.targets}", found.shortfalls, f"the whole plan is in {page}"
        )
    return found, page


def _measure_here(workspace: Workspace, targets: Targets) -> Figure | None:
    """One picture of the workspace's package on this machine, where there is one for the task."""
    import numpy as np

    from visionloop.serving.package import load_package
    from visionloop.serving.predictor import Predictor
    from visionloop.serving.tuning.latency import measure_latency

    if not workspace.package.is_dir():
        return None
    package = load_package(workspace.package)
    if package.manifest.vision_task != targets.vision_task:
        return None
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (1080, 1920, 3), np.uint8) for _ in range(2)]
    try:
        found = measure_latency(
            Predictor(package, threads=1), pictures, repeats=MEASURED_IMAGES, warm_up=2
        )
    except DataError:
        return None
    what = f"{package.manifest.name} ({package.manifest.family}), 1080p to answer, one thread"
    return Figure(found.p50, "measured", f"this machine: {what}, p95 {found.p95:.1f} ms")
