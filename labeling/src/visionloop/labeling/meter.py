"""The verb ``meter``: what annotation costs, from the times that Label Studio measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from visionloop.core.errors import DataError
from visionloop.core.files import write_json
from visionloop.core.workspace import Workspace
from visionloop.labeling.decisions import LOOKS, load_decisions
from visionloop.labeling.metering.costs import (
    LookCost,
    Saving,
    compare_with_hand,
    cost_of,
    group_costs,
)
from visionloop.labeling.metering.page import curves_of, write_meter_page
from visionloop.labeling.metering.times import Timed, measure_times
from visionloop.labeling.params import load_params

__all__ = ["MeterReport", "meter"]


@dataclass(frozen=True)
class MeterReport:
    """What annotation costs.

    Attributes
    ----------
    first, second : LookCost
    annotators : dict of str to LookCost
    path, page : Path
        ``meter.json`` and ``meter.html``.
    saving : Saving
        Images with a draft beside the control share.
    looks, versions : dict of str to LookCost
        By row of ``decisions.LOOKS``; first looks by version of the draft.
    is_tracked : bool
        The figures are in MLflow.
    """

    first: LookCost
    second: LookCost
    annotators: dict[str, LookCost]
    path: Path
    page: Path
    saving: Saving
    looks: dict[str, LookCost] = field(default_factory=dict)
    versions: dict[str, LookCost] = field(default_factory=dict)
    is_tracked: bool = False


def meter(*, workspace: Workspace, track: bool = False) -> MeterReport:
    """Write ``reports/labeling/meter.json`` and ``meter.html`` from the last pull's decisions.

    Parameters
    ----------
    workspace : Workspace
    track : bool
        Log the figures to MLflow as well.

    Raises
    ------
    DataError
        If nothing was pulled, or nobody has answered a task yet.
    """
    project, _ = load_params(workspace)
    rows = measure_times(load_decisions(workspace))
    if not rows:
        raise DataError("meter", "nobody has answered a task yet")
    looks = {look: cost_of([row for row in rows if row.decision.look == look]) for look in LOOKS}
    by_name = sorted(rows, key=lambda row: row.decision.annotator)
    people = group_costs(by_name, lambda row: row.decision.annotator)
    first = [row for row in rows if row.decision.look == "first"]
    versions = group_costs(first, _version)
    saving = compare_with_hand(rows, seed=project.seed)
    folder = workspace.reports / "labeling"
    page = write_meter_page(
        folder / "meter.html",
        looks=looks,
        people=people,
        versions=versions,
        saving=saving,
        curve=curves_of(rows, saving.by_hand.value if saving.is_known else None),
    )
    content = {
        **{look: asdict(cost) for look, cost in looks.items()},
        "annotators": {name: asdict(cost) for name, cost in people.items()},
        "versions": {name: asdict(cost) for name, cost in versions.items()},
        "saving": asdict(saving),
    }
    path = write_json(folder / "meter.json", content)
    is_tracked = False
    if track:
        from visionloop.labeling.metering.tracking import log_costs

        metrics = _metrics(looks, saving)
        is_tracked = log_costs(workspace, project.model, metrics, step=len(rows), page=page)
    return MeterReport(
        looks["first"], looks["second"], people, path, page, saving, looks, versions, is_tracked
    )


def _version(row: Timed) -> str:
    if row.decision.had_draft:
        return row.decision.draft_version or "an unknown model"
    return "no draft (control)" if row.decision.is_control else "no draft"


def _metrics(looks: dict[str, LookCost], saving: Saving) -> dict[str, float]:
    """What MLflow draws over time."""
    metrics: dict[str, Any] = {"seconds": sum(cost.seconds for cost in looks.values())}
    for look, cost in looks.items():
        if cost.images:
            metrics[f"{look}_seconds_per_image"] = cost.seconds_per_image
            metrics[f"{look}_seconds_per_object"] = cost.seconds_per_object
            metrics[f"{look}_accepted_share"] = cost.accepted_share
    for name in ("share", "share_with_checks", "share_per_object"):
        estimate = getattr(saving, name)
        if estimate.value is not None:
            metrics[f"cost_{name}"] = estimate.value
            metrics[f"cost_{name}_low"] = estimate.low
            metrics[f"cost_{name}_high"] = estimate.high
    return {f"labeling_{name}": float(value) for name, value in metrics.items()}
