"""Labeling tasks: what one holds, and which samples have one.

A task's data: ``image`` (address of the picture), ``sample_id``, ``look`` (row of
``decisions.LOOKS``), ``reason`` (one sentence, shown above the picture), ``rank`` (four digits),
``findings`` (which list of findings asked for it), ``camera``, ``captured_at``. Other
metadata stays away from annotators: it may give the answer away. ``control`` is "yes" for
tasks that are shown without a draft on purpose: they measure what annotation by hand costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from visionloop.core.errors import DataError
from visionloop.core.files import sha256_of_bytes
from visionloop.labeling.client import StudioClient
from visionloop.labeling.decisions import LOOKS
from visionloop.labeling.ledger import Entry, Ledger
from visionloop.labeling.regions import Region, to_result

__all__ = [
    "OPEN",
    "Draft",
    "Look",
    "build_prediction",
    "build_task",
    "image_address",
    "is_control",
    "list_looks",
    "sync",
]

PAGE = 1000

OPEN = (
    '{"filters":{"conjunction":"and","items":[{"filter":"filter:tasks:completed_at",'
    '"operator":"empty","type":"Datetime","value":true}]}}'
)
"""Query of ``/api/tasks`` for tasks that still want an answer."""


@dataclass(frozen=True)
class Draft:
    """A model's proposal for one sample.

    Attributes
    ----------
    regions : list of Region
    certainty : float
        In [0, 1]; Label Studio shows the lowest first.
    version : str
        Where it came from: see :class:`visionloop.labeling.drafts.Drafter`.
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
    control: bool = False,
) -> dict[str, Any]:
    """A task as the import of Label Studio wants it.

    Parameters
    ----------
    sample : mapping
        A row of the samples table.
    look : str
    reason : str
    rank : int
    draft : Draft or None
    findings : str
    control : bool
        Shown without a draft on purpose.

    Raises
    ------
    DataError
        If the sample's file name leads out of the folder of images.
    """
    data = {
        "image": image_address(str(sample["file_name"])),
        "sample_id": sample["sample_id"],
        "look": look,
        "reason": reason,
        "rank": f"{rank:04d}",
        "findings": findings,
        "control": "yes" if control else "",
        "camera": str(sample["camera"]),
        "captured_at": str(sample["captured_at"]),
    }
    task: dict[str, Any] = {"data": data}
    if draft is not None:
        size = int(sample["width"]), int(sample["height"])
        task["predictions"] = [build_prediction(draft, *size, control=control)]
    return task


def build_prediction(
    draft: Draft, width: int, height: int, *, control: bool = False
) -> dict[str, Any]:
    """A draft as Label Studio's prediction.

    Label Studio sorts tasks without a prediction behind all others, where few people come. A
    control task therefore has one that gives its place in the queue and shows nothing.
    """
    return {
        "model_version": draft.version,
        "score": draft.certainty,
        "result": [] if control else to_result(draft.regions, width, height),
    }


def is_control(sample_id: str, share: float) -> bool:
    """Whether a sample belongs to the share that is shown without a draft; always the same ones."""
    digest = sha256_of_bytes(f"control {sample_id}".encode())
    return int(digest[:8], 16) < share * 2**32


def list_looks(client: StudioClient, project_id: int, *conditions: dict[str, Any]) -> list[Look]:
    """Tasks of the project that visionloop made, in the order they were made.

    Parameters
    ----------
    client : StudioClient
    project_id : int
    *conditions
        That they fulfil (:mod:`visionloop.labeling.queries`); all tasks without any.
    """
    looks = []
    for tasks in client.sweep(project_id, *conditions, size=PAGE, include="id,data"):
        for task in tasks:
            data = task["data"]
            if data.get("sample_id") and data.get("look") in LOOKS:
                found = str(data.get("findings", ""))
                looks.append(Look(task["id"], data["sample_id"], data["look"], found))
    return looks


def sync(
    ledger: Ledger, client: StudioClient, project_id: int, *, count: int | None = None
) -> None:
    """Learn what was made and deleted on the server; see :mod:`visionloop.labeling.ledger`.

    ``count`` is how many tasks the project has, where the caller has just been told.

    An import may have reached the server although its answer never came back. Where a
    sample has two first or second looks nevertheless, the younger unanswered one is removed.
    """
    if ledger.note("project") != str(project_id):
        ledger.clear(project_id)
    if count == len(ledger) == 0:
        return
    _learn(ledger, client, project_id, after=ledger.newest())
    if count is None:
        path = f"/api/projects/{project_id}/"
        count = client.get(path, include="task_number")["task_number"]
    if count != len(ledger):
        seen: set[int] = set()
        for tasks in client.sweep(project_id, size=PAGE, include="id"):
            seen.update(task["id"] for task in tasks)
        known = ledger.tasks()
        ledger.forget(known - seen)
        if missing := seen - known:
            _learn(ledger, client, project_id, after=min(missing) - 1)
    for task in ledger.doubles():
        if not client.get(f"/api/tasks/{task}/").get("total_annotations"):
            client.request("DELETE", f"/api/tasks/{task}/")
            ledger.forget([task])


def _learn(ledger: Ledger, client: StudioClient, project_id: int, *, after: int) -> None:
    fields = {"fields": "all", "include": "id,data,predictions,model_version"}
    for tasks in client.sweep(project_id, after=after, size=PAGE, **fields):
        ledger.add(_entry(task) for task in tasks)


def _entry(task: Mapping[str, Any]) -> Entry:
    data = task["data"]
    if not data.get("sample_id") or data.get("look") not in LOOKS:
        return Entry(task["id"])
    newest = max(task["predictions"], key=lambda row: row["id"], default=None)
    draft = str(newest["model_version"] or "") if newest else ""
    return Entry(task["id"], data["sample_id"], data["look"], draft)


def image_address(file_name: str) -> str:
    """Where Label Studio serves an image; quotes, percent signs and the like do not break it.

    Raises
    ------
    DataError
        If the file name leads out of the folder of images.
    """
    if not file_name or file_name in (".", "..") or "/" in file_name or "\\" in file_name:
        raise DataError(
            f"file name {file_name!r}",
            "does not name a file in data/raw/images",
            "import the image again: visionloop data import",
        )
    return f"/data/local-files/?d=images/{quote(file_name, safe='')}"
