"""What was answered on the server since the last look, page by page, and what is gone.

The server's own ``updated_at`` decides, never a webhook: a lost, doubled or reordered one
changes nothing. A sweep goes by rising task id and remembers in the store how far it came,
so a killed one goes on there. Deletions leave no trace in ``updated_at``: the number of
annotations tells whether there were any, and a list of ids which.

A sweep asks for the whole answers of what was pushed since the last one, and lists ids and times
alone of the older tasks, to ask for what changed. Many are asked for by the server's own export,
a few hundred at a time: it takes half as long as the list of tasks, and leaves a copy of each
piece in the server's export folder, so a few are asked for without it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from visionloop.labeling.client import StudioClient, TooLargeError
from visionloop.labeling.decisions import DecisionStore
from visionloop.labeling.queries import any_of, changed_after, condition, earlier, to_query

__all__ = ["Feed", "Position"]

FIELDS = (
    "id,data,annotations,predictions,updated_at,"
    "result,completed_by,was_cancelled,created_at,lead_time,parent_prediction,model_version"
)
"""Fields of tasks, annotations and predictions alike; naming them halves the server's time."""

ANSWERED = ("total_annotations", "cancelled_annotations")
"""Columns that are not 0 where somebody answered, or skipped; two sweeps, one for each."""

ID_PAGE = 2000
EXPORT_PAGE = 900
"""Tasks in one export: Label Studio takes 1000 parameters. A proxy that finds the address too
long gets fewer."""
FEW = 40
"""Up to so many tasks no export is made: its copies would pile up on the server."""
MOSTLY = 1.4
"""Up to so many tasks for one answer are asked for whole, without a list of the answered ones."""
OVERLAP = 60.0
"""Seconds before the last sweep that are listed again: a slow request carries the time at which
it began, and appears when it ends."""

RECONCILE_SECONDS = 86400.0

Tasks = list[dict[str, Any]]
Row = TypeVar("Row")


@dataclass(frozen=True)
class Position:
    """How far the reading of a project came.

    Attributes
    ----------
    project : int
    since : str
        All changes up to this time of the server's clock were read; empty: none.
    until : str
        What ``since`` becomes when the present sweep ends; empty: none is under way.
    stage, after : int
        Of the present sweep: row of ``ANSWERED``, and the last task id read.
    unread : int
        Annotations on the server that are nobody's decision: those of people's own uploads.
    reconciled : float
        When the ids were compared last, seconds since 1970.
    """

    project: int = 0
    since: str = ""
    until: str = ""
    stage: int = 0
    after: int = 0
    unread: int = 0
    reconciled: float = 0.0


class Feed:
    """Reads one project of a server into one store; see the module.

    Parameters
    ----------
    client : StudioClient
    project : int
    store : DecisionStore
    pushed : callable
        Gives the ids of all tasks, where they are known.
    """

    def __init__(
        self,
        client: StudioClient,
        project: int,
        store: DecisionStore,
        pushed: Callable[[], Collection[int]] = frozenset,
    ) -> None:
        self._client, self._project, self._store = client, project, store
        self._pushed = pushed
        self._begun = -1
        self._made = 0
        note = store.note("position")
        self.position = Position(**json.loads(note)) if note else Position()
        if self.position.project != project:  # another project: its decisions are not ours
            store.clear()
            self._move(Position(project))

    def changed(self) -> Iterator[Tasks]:
        """Tasks answered or changed since the last sweep ended, a few hundred at a time.

        The caller has stored a list when it asks for the next. The sweep is over when
        :meth:`finish` is called.
        """
        self._look()
        if not self.position.until:
            self._move(replace(self.position, until=self._newest(), stage=0, after=0))
        if not self.position.since and (pushed := self._beyond(self.position.after)):
            yield from self._read(self.position.stage, iter([pushed]))
            return
        bound = []
        if self.position.since and (pushed := self._beyond(newest := self._store.newest_read())):
            # No place is kept: after a kill, what was read is no longer beyond.
            yield from _ahead(self._answers(iter([pushed])))
            bound = [condition("id", "less", "Number", newest + 1)]
        for stage in range(self.position.stage, len(ANSWERED)):
            after = self.position.after if stage == self.position.stage else 0
            yield from self._read(stage, self._changed_ids(stage, after, bound))

    def count(self) -> int:
        """How many tasks :meth:`changed` will give, about."""
        if not self.position.since:
            self._look()
            return self._begun
        stages = range(self.position.stage, len(ANSWERED))
        return sum(self._count(stage) for stage in stages)

    def finish(self) -> None:
        """The sweep is over, and everything in it was understood."""
        since = self.position.until or self.position.since
        self._move(replace(self.position, since=since, until="", stage=0, after=0))

    def give_up(self) -> None:
        """Something was not understood: the next sweep begins where this one did."""
        self._move(replace(self.position, until="", stage=0, after=0))

    def lost(self) -> Iterator[Tasks]:
        """Forget what was deleted on the server; gives tasks whose number of answers differs.

        Nothing is listed as long as the server has as many annotations as the store, and
        the last list is not older than a day. The store holds all that is new by then, so
        equal numbers mean equal sets. Answers that came while the sweep ran explain a
        difference between its begin and its end.
        """
        known = len(self._store) + self.position.unread
        if not self.position.since:  # everything was read just now
            self._move(replace(self.position, reconciled=time.time()))
        age = time.time() - self.position.reconciled
        if self._begun <= known <= self._numbers()[0] and 0 <= age < RECONCILE_SECONDS:
            return
        counts = self._store.counts()
        there: set[int] = set()
        unread = 0
        for stage in range(len(ANSWERED)):
            fields = f"id,data,{','.join(ANSWERED)}"
            sweep = self._client.sweep(self._project, _more(stage), size=ID_PAGE, include=fields)
            for row in (row for page in sweep for row in page if row["id"] not in there):
                there.add(row["id"])
                answers = sum(int(row[name]) for name in ANSWERED)
                if not row["data"].get("sample_id"):
                    unread += answers
                elif counts.get(row["id"], 0) != answers:
                    yield self._listed([row["id"]])
        self._store.forget(tasks=set(counts) - there)
        self._move(replace(self.position, unread=unread, reconciled=time.time()))

    def _beyond(self, newest: int) -> list[int]:
        """Tasks made after one; none where most are open, or some task is not known here."""
        known = self._pushed()
        beyond = sorted(one for one in known if one > newest)
        unread = self._begun - len(self._store) - self.position.unread
        is_whole = len(known) == self._made
        return beyond if is_whole and len(beyond) <= MOSTLY * unread else []

    def _changed_ids(
        self, stage: int, after: int, bound: list[dict[str, Any]]
    ) -> Iterator[list[int]]:
        """Ids of the tasks to be read, rising; those read in their present state are left out."""
        read = self._store.read_since(self._from) if self._from else {}
        pages = self._client.sweep(
            self._project, _more(stage), *changed_after(self._from), *bound,
            after=after, size=ID_PAGE, include="id,updated_at",
        )  # fmt: skip
        return (
            [task["id"] for task in page if read.get(task["id"]) != task["updated_at"]]
            for page in pages
        )

    def _read(self, stage: int, ids: Iterator[list[int]]) -> Iterator[Tasks]:
        for tasks in _ahead(self._answers(ids)):
            yield tasks
            after = max(task["id"] for task in tasks)
            self._move(replace(self.position, stage=stage, after=after))

    def _answers(self, pages: Iterator[list[int]]) -> Iterator[Tasks]:
        """Answered tasks among those named, with their answers and drafts."""
        for ids in pages:
            ask, size = (self._listed, FEW) if len(ids) <= FEW else (self._exported, EXPORT_PAGE)
            for start in range(0, len(ids), size):
                asked = ask(ids[start : start + size])
                if tasks := [task for task in asked if task["annotations"]]:
                    yield tasks

    def _listed(self, ids: list[int]) -> Tasks:
        """Those of the tasks that are still there."""
        these = any_of(*(condition("id", "equal", "Number", one) for one in ids))
        answer = self._client.get(
            "/api/tasks", project=self._project, page_size=len(ids),
            query=json.dumps({"filters": these}), fields="all", include=FIELDS,
            resolve_uri="false",
        )  # fmt: skip
        return list(answer["tasks"])

    def _exported(self, ids: list[int]) -> Tasks:
        query = "&".join(f"ids[]={one}" for one in ids)
        # To leave out unanswered ones takes the server a tenth longer than to send them.
        options = "exportType=JSON&download_all_tasks=true"
        path = f"/api/projects/{self._project}/export?{options}&{query}"
        try:
            return [self._with_drafts(task) for task in self._client.get(path)]
        except TooLargeError:
            if len(ids) == 1:
                raise
            middle = len(ids) // 2
            return self._exported(ids[:middle]) + self._exported(ids[middle:])

    def _with_drafts(self, task: dict[str, Any]) -> dict[str, Any]:
        """An exported task with its drafts: each answer holds a copy of the one it began from."""
        drafts = []
        for annotation in task["annotations"]:
            draft, parent = annotation["prediction"] or {}, annotation["parent_prediction"]
            if parent is not None and draft.get("id") != parent:
                listed = self._listed([task["id"]])
                return listed[0] if listed else task | {"predictions": []}  # deleted meanwhile
            drafts.append(draft)
        return task | {"predictions": [draft for draft in drafts if draft]}

    @property
    def _from(self) -> str:
        """Changes before this time were read; empty: none were."""
        return earlier(self.position.since, OVERLAP) if self.position.since else ""

    def _count(self, stage: int) -> int:
        query = to_query(_more(stage), *changed_after(self._from))
        answer = self._client.get(
            "/api/tasks", project=self._project, page_size=1, query=query, include="id"
        )
        return int(answer["total"])

    def _newest(self) -> str:
        """Time of the last change of any task, by the server's clock."""
        query = json.dumps({"ordering": ["-tasks:updated_at"]})
        tasks = self._client.get(
            "/api/tasks", project=self._project, page_size=1, query=query, include="id,updated_at"
        )["tasks"]
        return str(tasks[0]["updated_at"]) if tasks else self.position.since

    def _look(self) -> None:
        """How many annotations and tasks there are when the sweep begins."""
        if self._begun < 0:
            self._begun, self._made = self._numbers()

    def _numbers(self) -> tuple[int, int]:
        names = ("total_annotations_number", "skipped_annotations_number", "task_number")
        path = f"/api/projects/{self._project}/"
        given, skipped, tasks = map(self._client.get(path, include=",".join(names)).get, names)
        return int(given) + int(skipped), int(tasks)

    def _move(self, position: Position) -> None:
        self.position = position
        self._store.set_note("position", json.dumps(asdict(position)))


def _more(stage: int) -> dict[str, Any]:
    return condition(ANSWERED[stage], "greater", "Number", 0)


def _ahead(rows: Iterator[Row]) -> Iterator[Row]:
    """The same rows; the server makes the next one while this one is worked on."""
    end = object()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, rows, end)
        while (row := coming.result()) is not end:
            coming = pool.submit(next, rows, end)
            yield row  # type: ignore[misc]
