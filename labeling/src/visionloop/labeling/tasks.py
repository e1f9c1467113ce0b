"""Labeling tasks: what one holds, and which samples have one.

A task's data: ``image`` (address of the picture), ``sample_id``, ``look`` (row of
``decisions.LOOKS``), ``reason`` (one sentence, shown above the picture), ``rank`` (four digits),
``findings`` (which list of findings asked for it), ``camera``, ``captured_at``. Other
metadata stays away from annotators: it may give the answer away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from visionloop.core.workspace import Workspace
from visionloop.labeling.client import StudioClient
from visionloop.labeling.decisions import LOOKS
from visionloop.labeling.regions import Region, to_result
from visionloop.labeling.state import PushRecord, save_push_record

__all__ = ["OPEN", "Draft", "Look", "build_prediction", "build_task", "list_looks", "reconcile"]

OPEN = (
    '{"filters":{"conjunction":"and","items":[{"filter":"filter:tasks:completed_at",'
    '"operator":"empty","type":"Datetime","value":true}]}}'
)
"""Query of ``/api/tasks`` for tasks that nobody has answered."""


@dataclass(frozen=True)
class Draft:
    """A model's proposal for one sample.

    Attributes
    ----------
    regions : list of Region
    certainty : float
        In [0, 1]; Label Studio shows the lowest first.
    version : str
        Where it came from: ``<model>@<short fingerprint of the package>``.
    """

    regions: list[Region]
    certainty: float
    version: str


@dataclass(frozen=True)
class Look:
    """A task on the server: its id, its sample, why it exists, the findings behind it."""

    task: int
    sample_id: str
    look: str
    findings: str = field(default="")


def build_task(
    sample: Mapping[str, Any],
    *,
    look: str,
    reason: str,
    rank: int,
    draft: Draft | None,
    findings: str = "",
) -> dict[str, Any]:
    """A task as the import of Label Studio wants it.

    Parameters
    ----------
    sample : mapping
        A row of the samples table.
    """
    data = {
        "image": f"/data/local-files/?d=images/{quote(str(sample['file_name']))}",
        "sample_id": sample["sample_id"],
        "look": look,
        "reason": reason,
        "rank": f"{rank:04d}",
        "findings": findings,
        "camera": str(sample["camera"]),
        "captured_at": str(sample["captured_at"]),
    }
    task: dict[str, Any] = {"data": data}
    if draft is not None:
        size = int(sample["width"]), int(sample["height"])
        task["predictions"] = [build_prediction(draft, *size)]
    return task


def build_prediction(draft: Draft, width: int, height: int) -> dict[str, Any]:
    """A draft as Label Studio's prediction."""
    return {
        "model_version": draft.version,
        "score": draft.certainty,
        "result": to_result(draft.regions, width, height),
    }


def list_looks(client: StudioClient, project_id: int) -> list[Look]:
    """All tasks of the project that visionloop made, in the order they were made."""
    looks = []
    for task in client.tasks(project=project_id, include="id,data"):
        data = task["data"]
        if data.get("sample_id") and data.get("look") in LOOKS:
            found = str(data.get("findings", ""))
            looks.append(Look(task["id"], data["sample_id"], data["look"], found))
    return sorted(looks, key=lambda look: look.task)


def reconcile(workspace: Workspace, client: StudioClient, project_id: int) -> PushRecord:
    """Rewrite the push record from the server's own list, which is the truth.

    An import may have reached the server although its answer never came back. Where a
    sample has two tasks of one kind nevertheless, the younger unanswered one is removed.
    """
    record = PushRecord(project_id, {}, {})
    doubles = []
    for look in list_looks(client, project_id):
        if look.look not in ("first", "second"):
            continue  # the review keeps its own: a sample may be asked about again
        tasks = record.first if look.look == "first" else record.second
        if look.sample_id in tasks:
            doubles.append(look.task)
        else:
            tasks[look.sample_id] = look.task
    for task in doubles:
        if not client.get(f"/api/tasks/{task}/").get("total_annotations"):
            client.request("DELETE", f"/api/tasks/{task}/")
    save_push_record(workspace, record)
    return record
