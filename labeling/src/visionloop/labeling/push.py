"""The verb ``push``: selected samples become labeling tasks with drafts, each once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from visionloop.core.errors import DataError
from visionloop.core.failpoints import failpoint
from visionloop.core.progress import track
from visionloop.core.workspace import Workspace
from visionloop.labeling.client import StudioClient, connect
from visionloop.labeling.drafts import Drafter, load_drafter
from visionloop.labeling.params import load_params
from visionloop.labeling.project import find_project
from visionloop.labeling.selection import SELECTION
from visionloop.labeling.state import only_one
from visionloop.labeling.tasks import OPEN, build_prediction, build_task, reconcile

if TYPE_CHECKING:
    import pandas

__all__ = ["PushReport", "push", "show_drafts_of"]

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class PushReport:
    """What a push did.

    Attributes
    ----------
    pushed : int
        Tasks made now.
    already : int
        Selected samples that had a task before.
    redrafted : int
        Open tasks that got the current package's drafts.
    version : str
        Whose drafts are shown; empty without a package.
    url : str
        Where people work.
    """

    pushed: int
    already: int
    redrafted: int
    version: str
    url: str


def push(*, workspace: Workspace) -> PushReport:
    """Send ``studio/selection.parquet`` to Label Studio, with drafts by ``artifacts/package``.

    May be interrupted or killed anywhere and run again: an import is atomic, and
    before each push the record is rebuilt from the server's own list of tasks.

    Raises
    ------
    UnreachableError
        If Label Studio does not answer; the same command goes on later.
    DataError
        If nothing was selected, or the project was not set up.
    """
    project, params = load_params(workspace)
    selected = _read_selection(workspace)
    with only_one(workspace, "push"):
        client = connect(workspace)
        found = find_project(client, project)
        record = reconcile(workspace, client, found["id"])
        todo = [row for row in selected if row["sample_id"] not in record.first]
        drafter = load_drafter(workspace, project, params)
        for batch in _batches(todo, params.batch):
            _import(workspace, client, found["id"], batch, drafter)
            failpoint("labeling.push")
        if todo:
            reconcile(workspace, client, found["id"])
        redrafted = _redraft(workspace, client, found, drafter, params.batch) if drafter else 0
    return PushReport(
        pushed=len(todo),
        already=len(selected) - len(todo),
        redrafted=redrafted,
        version=drafter.version if drafter else "",
        url=f"{client.url}/projects/{found['id']}/data",
    )


def show_drafts_of(client: StudioClient, project_id: int, version: str) -> None:
    """Let the project show and order by the drafts of this version, once it has any."""
    shown = client.get(f"/api/projects/{project_id}/")["model_version"]
    known = client.get(f"/api/projects/{project_id}/model-versions/")
    if shown != version and version in known:
        client.patch(f"/api/projects/{project_id}/", {"model_version": version})


def _read_selection(workspace: Workspace) -> Rows:
    """Selected samples with their metadata, most useful first."""
    from visionloop.core.tables import read_table
    from visionloop.data.raw import read_samples

    path = workspace.studio_state / "selection.parquet"
    if not path.exists():
        raise DataError(str(path), "nothing was selected yet", "run: visionloop label select")
    chosen = read_table(path, SELECTION).sort_values("order")
    samples: pandas.DataFrame = read_samples(workspace)
    merged = chosen.merge(samples, on="sample_id", how="left")
    if missing := int(merged["file_name"].isna().sum()):
        raise DataError(
            str(path), f"{missing} selected samples are not in data/raw", "select again"
        )
    return list(merged.to_dict("records"))


def _batches(rows: Rows, size: int) -> Iterator[Rows]:
    batches = [rows[start : start + size] for start in range(0, len(rows), size)]
    yield from track(batches, f"pushing {len(rows)} samples to Label Studio")


def _import(
    workspace: Workspace,
    client: StudioClient,
    project_id: int,
    batch: Rows,
    drafter: Drafter | None,
) -> None:
    drafts: list[Any] = [None] * len(batch)
    if drafter is not None:
        drafts = drafter.draft([workspace.images / row["file_name"] for row in batch])
    tasks = [
        build_task(row, look="first", reason=row["reason"], rank=int(row["order"]) + 1, draft=draft)
        for row, draft in zip(batch, drafts, strict=True)
    ]
    client.post(f"/api/projects/{project_id}/import", tasks)


def _redraft(
    workspace: Workspace,
    client: StudioClient,
    project: Mapping[str, Any],
    drafter: Drafter,
    size: int,
) -> int:
    """Give open tasks the current drafts, then show those.

    A draft of another version than the project's is not shown, so an open second look
    keeps its suggestion under the new name, and an open dispute its two answers. A second
    opinion never has a draft.
    """
    from visionloop.data.raw import read_samples

    samples = {row["sample_id"]: row for row in read_samples(workspace).to_dict("records")}
    stale = [
        task
        for task in client.tasks(project=project["id"], fields="all", query=OPEN)
        if all(row["model_version"] != drafter.version for row in task["predictions"])
        and _is_ours(task, samples)
    ]
    for batch in _batches(stale, size):
        first = [task for task in batch if task["data"]["look"] == "first"]
        rows = [samples[task["data"]["sample_id"]] for task in first]
        drafts = drafter.draft([workspace.images / row["file_name"] for row in rows])
        predictions = [
            {"task": task["id"], **build_prediction(draft, int(row["width"]), int(row["height"]))}
            for task, row, draft in zip(first, rows, drafts, strict=True)
        ]
        for task in batch:
            if task["data"]["look"] != "first":
                newest = max(task["predictions"], key=lambda row: row["id"])
                kept = {"score": newest["score"], "result": newest["result"]}
                predictions.append({"task": task["id"], "model_version": drafter.version, **kept})
        if predictions:
            client.post(f"/api/projects/{project['id']}/import/predictions", predictions)
    show_drafts_of(client, project["id"], drafter.version)
    return len(stale)


def _is_ours(task: Mapping[str, Any], samples: Mapping[str, Any]) -> bool:
    """A first look, or another whose draft was made of answers or findings."""
    look = task["data"].get("look")
    has_kept_draft = look in ("second", "adjudicate") and task["predictions"]
    return bool(look == "first" or has_kept_draft) and task["data"].get("sample_id") in samples
