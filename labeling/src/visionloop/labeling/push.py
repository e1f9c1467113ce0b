"""The verb ``push``: selected samples become labeling tasks with drafts, each once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from visionloop.core.errors import DataError
from visionloop.core.failpoints import failpoint
from visionloop.core.progress import track
from visionloop.core.workspace import Workspace
from visionloop.labeling.client import StudioClient, connect
from visionloop.labeling.delivery import Rows, send_tasks
from visionloop.labeling.drafts import Drafter, load_drafter
from visionloop.labeling.garbage import rarely_searched
from visionloop.labeling.ledger import Entry, Ledger, open_ledger
from visionloop.labeling.params import LabelingParams, load_params
from visionloop.labeling.project import find_project
from visionloop.labeling.redraft import Redrafting
from visionloop.labeling.selection import SELECTION
from visionloop.labeling.state import PATIENCE_SECONDS, only_one
from visionloop.labeling.tasks import Draft, build_task, is_control, sync

if TYPE_CHECKING:
    import pandas

__all__ = ["PushReport", "push"]

Sent = list[tuple[int, dict[str, Any]]]

UNDRAFTED = 5
"""So many times more tasks go into a request where drafting does not take most of the time: each
one costs the server .1 s of waiting for its disk."""


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
    gone : list of str
        Selected samples whose image file is not there: they have no task.
    """

    pushed: int
    already: int
    redrafted: int
    version: str
    url: str
    gone: list[str] = field(default_factory=list)


def push(*, workspace: Workspace) -> PushReport:
    """Send ``studio/selection.parquet`` to Label Studio, with drafts by the newest release.

    A share of ``labeling.control_share`` is shown without a draft, always the same samples;
    they wait at the place in the queue that their draft would have given them.
    May be interrupted or killed anywhere and run again: an import is atomic, and the
    record of what was pushed follows the server's own list.

    Raises
    ------
    UnreachableError
        If Label Studio does not answer; the same command goes on later.
    DataError
        If nothing was selected, or the project was not set up.
    """
    project, params = load_params(workspace)
    selected = _read_selection(workspace)
    with (
        only_one(workspace, "push", wait=PATIENCE_SECONDS),
        open_ledger(workspace) as ledger,
        rarely_searched(),
    ):
        client = connect(workspace)
        found = find_project(client, project)
        sync(ledger, client, found["id"], count=found["task_number"])
        todo = selected[~selected["sample_id"].isin(ledger.of_look("first").keys())]
        drafter = load_drafter(workspace, project, params)
        sender = _Sender(workspace, client, found["id"], ledger, drafter, params)
        size = params.batch if drafter else UNDRAFTED * params.batch
        sender.send_all(_batches(todo, size))
        redrafted = 0
        if drafter is not None:
            redrafted = Redrafting(workspace, client, found["id"], ledger, drafter, params).run()
    return PushReport(
        pushed=len(todo) - len(sender.gone),
        already=len(selected) - len(todo),
        redrafted=redrafted,
        version=drafter.version if drafter else "",
        url=f"{client.url}/projects/{found['id']}/data",
        gone=sender.gone,
    )


@dataclass
class _Sender:
    """Makes tasks of samples and imports them."""

    workspace: Workspace
    client: StudioClient
    project_id: int
    ledger: Ledger
    drafter: Drafter | None
    params: LabelingParams
    gone: list[str] = field(default_factory=list)
    lost_answers: int = 0

    def send_all(self, batches: Iterable[Rows]) -> None:
        """One import at a time; meanwhile the next batch is drafted."""
        with ThreadPoolExecutor(1) as pool:
            sending: Future[Sent] | None = None
            for batch in batches:
                tasks = self._tasks(self._present(batch))
                self._note(sending)
                sending = pool.submit(send_tasks, self.client, self.project_id, tasks, self._left)
            self._note(sending)
        if self.lost_answers:  # an import that was thought lost may have come late
            sync(self.ledger, self.client, self.project_id)

    def _note(self, sending: Future[Sent] | None) -> None:
        """Wait for an import, and put its tasks into the ledger."""
        if sending is not None:
            version = self.drafter.version if self.drafter else ""
            self.ledger.add(
                Entry(task, row["data"]["sample_id"], "first", version)
                for task, row in sending.result()
            )
            failpoint("labeling.push")

    def _present(self, batch: Rows) -> Rows:
        """Rows whose image file is there."""
        folder = str(self.workspace.images)
        present = [row for row in batch if os.path.isfile(os.path.join(folder, row["file_name"]))]
        if len(present) < len(batch):
            there = {row["sample_id"] for row in present}
            self.gone += [row["sample_id"] for row in batch if row["sample_id"] not in there]
        return present

    def _tasks(self, rows: Rows) -> Rows:
        drafts: list[Draft | None] = [None] * len(rows)
        if self.drafter is not None:
            folder = self.workspace.images
            drafts = self.drafter.draft_each([folder / row["file_name"] for row in rows])
        return [
            build_task(
                row,
                look="first",
                reason=row["reason"],
                rank=int(row["order"]) + 1,
                draft=draft,
                control=is_control(row["sample_id"], self.params.control_share),
            )
            for row, draft in zip(rows, drafts, strict=True)
        ]

    def _left(self, tasks: Rows) -> Rows:
        self.lost_answers += 1
        sync(self.ledger, self.client, self.project_id)
        there = self.ledger.of_look("first")
        return [task for task in tasks if task["data"]["sample_id"] not in there]


def _read_selection(workspace: Workspace) -> pandas.DataFrame:
    """Selected samples with their metadata, most useful first."""
    from visionloop.core.tables import read_table
    from visionloop.data.raw import read_samples

    path = workspace.studio_state / "selection.parquet"
    if not path.exists():
        raise DataError(str(path), "nothing was selected yet", "run: visionloop label select")
    chosen = read_table(path, SELECTION).sort_values("order")
    merged = chosen.merge(read_samples(workspace), on="sample_id", how="left")
    if missing := int(merged["file_name"].isna().sum()):
        raise DataError(
            str(path), f"{missing} selected samples are not in data/raw", "select again"
        )
    return merged


def _batches(frame: pandas.DataFrame, size: int) -> Iterator[Rows]:
    starts: Sequence[int] = range(0, len(frame), size)
    for start in track(starts, f"pushing {len(frame)} samples to Label Studio"):
        yield list(frame.iloc[start : start + size].to_dict("records"))
