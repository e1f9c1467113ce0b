"""The simulated annotator: knows the truth, errs as asked, works only through the API.

It stands in for a person in the demo and in tests: it takes open tasks in the order of
their tab, reads the draft that it is shown, and answers as a person would, with Label
Studio's own marks (``parent_prediction``, ``origin``). Its times are ``prices.Prices``.
It decides by ``answers.py``, as it does in ``benchmarks/label_cost.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from visionloop.core.entities import Annotation
from visionloop.core.errors import DataError
from visionloop.core.progress import track
from visionloop.core.workspace import Workspace
from visionloop.labeling.answers import Answer, answer_boxes, answer_class, regions_of
from visionloop.labeling.client import StudioClient, connect
from visionloop.labeling.habits import FAULTLESS, Habits, Way
from visionloop.labeling.mistakes import Mistakes, load_mistakes, plan_mistakes
from visionloop.labeling.params import load_params
from visionloop.labeling.prices import Prices
from visionloop.labeling.project import find_project, find_tab
from visionloop.labeling.regions import Region, from_result, to_result

__all__ = ["ReviewReport", "review"]

TAB = {"annotate": "Next best", "second_look": "Second look"}

NEVER_SURE = 2.0
"""Above every certainty: a second look is a look at each box."""

Tasks = list[dict[str, Any]]


@dataclass(frozen=True)
class ReviewReport:
    """What the scripted annotator did.

    Attributes
    ----------
    tasks : int
    actions : dict of str to int
        One a decision: accepted, adjusted, relabelled, added, deleted.
    seconds : float
        Priced time of all tasks.
    mistakes : int
        Of these tasks, those answered wrongly on purpose.
    repaired : int
        Second look: samples whose planted error is now right.
    """

    tasks: int
    actions: dict[str, int]
    seconds: float
    mistakes: int
    repaired: int


@dataclass(frozen=True)
class _Desk:
    """What every task of one review needs."""

    client: StudioClient
    project: int
    version: str
    is_boxes: bool
    truth: Mapping[str, list[Region]]
    sizes: Mapping[str, tuple[int, int]]
    mistakes: Mistakes
    prices: Prices
    habits: Habits
    sure: float
    seed: int


def review(
    *,
    workspace: Workspace,
    truth: Mapping[str, Sequence[Annotation]],
    error_share: float = 0.05,
    seed: int = 0,
    kind: Literal["annotate", "second_look"] = "annotate",
    sessions: int = 3,
    limit: int | None = None,
    prices: Prices | None = None,
    habits: Habits = FAULTLESS,
) -> ReviewReport:
    """Answer the open tasks of a tab, lowest certainty (or worst finding) first.

    Parameters
    ----------
    workspace : Workspace
    truth : mapping of sample id to annotations
        An empty list, or one annotation of the empty class, says that nothing is there.
    error_share : float
        First look: share of the tasks answered wrongly (the class swapped; a box missed,
        shifted or swapped), planned in ``studio/planted_errors.json`` before the work
        begins, so that an interrupted review goes on with the same plan. Second look:
        probability that a planted error stays.
    seed : int
    kind : "annotate" or "second_look"
    sessions : int
        Parallel connections to Label Studio.
    limit : int or None
        Answer at most so many tasks.
    prices : Prices or None
        Seconds of each action.
    habits : Habits
        What it does not notice, beside the planned errors. Drafts that the tab "Check
        drafts" holds are accepted at a glance, others box by box.

    Raises
    ------
    DataError
        If a task shows a sample whose truth is not given.
    UnreachableError
        If Label Studio does not answer; running it again goes on.
    """
    project, params = load_params(workspace)
    client = connect(workspace)
    found = find_project(client, project)
    tasks = _open_tasks(client, found["id"], TAB[kind], limit)
    ids = [task["data"]["sample_id"] for task in tasks]
    if unknown := [one for one in ids if one not in truth]:
        raise DataError("scripted annotator", f"does not know the truth of {unknown[0][:12]}")
    known = {one: regions_of(truth[one]) for one in ids}
    sizes = _sizes(workspace)
    if kind == "annotate":
        mistakes = plan_mistakes(workspace, known, sizes, project, error_share, seed)
    else:
        mistakes = load_mistakes(workspace).kept(error_share, seed)
    is_boxes = project.vision_task == "detection"
    version = found["model_version"] or ""
    sure = params.sure if kind == "annotate" else NEVER_SURE
    desk = _Desk(
        client, found["id"], version, is_boxes, known, sizes, mistakes, prices or Prices(),
        habits, sure, seed,
    )  # fmt: skip
    answers = list(_work(desk, tasks, sessions, f"scripted annotator, {TAB[kind]}"))
    wrong = sum(one in mistakes.errors for one in ids)
    planted = sum(one in load_mistakes(workspace).errors for one in ids)
    actions = sum((answer.actions for answer in answers), Counter())
    seconds = sum(answer.seconds for answer in answers)
    return ReviewReport(len(tasks), dict(sorted(actions.items())), seconds, wrong, planted - wrong)


def _open_tasks(client: StudioClient, project_id: int, title: str, limit: int | None) -> Tasks:
    tab = find_tab(client, project_id, title)
    return list(client.tasks(view=tab["id"], fields="all"))[:limit]


def _sizes(workspace: Workspace) -> dict[str, tuple[int, int]]:
    """Width and height in pixels, which a person's browser reads from the picture."""
    from visionloop.data.raw import read_samples

    rows = read_samples(workspace).itertuples()
    return {row.sample_id: (int(row.width), int(row.height)) for row in rows}


def _work(desk: _Desk, tasks: Tasks, sessions: int, title: str) -> Iterator[Answer]:
    pool = ThreadPoolExecutor(sessions)
    try:
        answers = pool.map(lambda task: _answer(desk, task), tasks)
        yield from track(answers, title, total=len(tasks))
    finally:
        pool.shutdown(cancel_futures=True)


def _answer(desk: _Desk, task: dict[str, Any]) -> Answer:
    """Read the draft that the person would be shown, decide, submit."""
    sample_id = task["data"]["sample_id"]
    size = desk.sizes[sample_id]
    shown = [row for row in task["predictions"] if row["model_version"] == desk.version]
    draft = max(shown, key=lambda row: row["id"], default=None)
    drafts = from_result(draft["result"], *size)[0] if draft else []
    wanted = desk.mistakes.distort(sample_id, desk.truth[sample_id])
    # The same answer to the same picture, in whatever order the connections take them.
    random = np.random.default_rng((desk.seed, int(sample_id[:12], 16)))
    if desk.is_boxes:
        is_sure = draft is not None and (draft["score"] or 0.0) >= desk.sure
        way: Way = "glance" if is_sure else "verify"
        answer = answer_boxes(
            drafts, wanted, prices=desk.prices, habits=desk.habits, way=way, random=random
        )
    else:
        answer = answer_class(drafts, wanted, prices=desk.prices, habits=desk.habits, random=random)
    content = {
        "result": to_result(answer.regions, *size, origins=answer.origins),
        "lead_time": round(answer.seconds, 2),
        "parent_prediction": draft["id"] if draft else None,
    }
    desk.client.post(f"/api/tasks/{task['id']}/annotations/", content, project=desk.project)
    return answer
