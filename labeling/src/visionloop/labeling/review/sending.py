"""The verb ``review``: second opinions are asked for, and disputes go to whoever settles them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from visionloop.core.config import ProjectParams
from visionloop.core.errors import DataError
from visionloop.core.failpoints import failpoint
from visionloop.core.files import write_json
from visionloop.core.progress import track
from visionloop.core.workspace import Workspace
from visionloop.labeling.client import StudioClient, connect
from visionloop.labeling.decisions import Decision, load_decisions
from visionloop.labeling.delivery import send_tasks
from visionloop.labeling.params import load_params
from visionloop.labeling.project import find_project
from visionloop.labeling.queries import condition
from visionloop.labeling.redraft import show_drafts_of
from visionloop.labeling.review.agreement import compare_pairs, weak_classes
from visionloop.labeling.review.assigning import Assigner, move_open
from visionloop.labeling.review.comparing import compare_answers
from visionloop.labeling.review.disputes import draft_of_dispute, find_dispute, tell_dispute
from visionloop.labeling.review.pairs import find_pair
from visionloop.labeling.review.params import ReviewParams
from visionloop.labeling.review.plan import Planned, draw, plan_review
from visionloop.labeling.review.tabs import ensure_tabs
from visionloop.labeling.state import PATIENCE_SECONDS, only_one
from visionloop.labeling.tasks import Draft, Look, build_task, list_looks

__all__ = ["REASON", "ReviewReport", "review"]

REASON = "A second opinion: please annotate this as if nobody had done so before."

ATTEMPTS = 3
"""So often a sample is sent until another person than the first has answered."""

Samples = Mapping[str, Mapping[str, Any]]
Tasks = list[dict[str, Any]]


@dataclass(frozen=True)
class ReviewReport:
    """What was sent.

    Attributes
    ----------
    planned : int
        First answers that the plan draws.
    sent : int
        Second opinions asked for now.
    again : int
        Of these, asked again, because whoever gave the first answer gave the second, too.
    waiting : int
        Second opinions that were asked for before and are still open.
    disputes : int
        Disagreements sent to be settled now.
    reviewers : list of str
        Who may give second opinions; with fewer than two nobody can be named.
    url : str
    """

    planned: int
    sent: int
    again: int
    waiting: int
    disputes: int
    reviewers: list[str]
    url: str


def review(*, workspace: Workspace) -> ReviewReport:
    """Send planned second opinions and open disputes to Label Studio, each once.

    Works from the last pull's decisions and the server's own list of tasks, so it may be
    interrupted anywhere and run again. The plan with its reasons goes to
    ``reports/labeling/review_plan.json``.

    Raises
    ------
    UnreachableError
        If Label Studio does not answer; the same command goes on later.
    DataError
        If nothing was pulled, nobody has answered, or the project was not set up.
    """
    project, params = load_params(workspace)
    by_sample = _by_sample(load_decisions(workspace))
    if not by_sample:
        raise DataError("review", "nobody has answered a task yet", "run: visionloop label pull")
    with only_one(workspace, "push", wait=PATIENCE_SECONDS):
        client = connect(workspace)
        found = find_project(client, project)
        round_ = _Round.begin(workspace, client, found, project, params.review, by_sample)
        named = move_open(client, found["id"], round_.assigner, by_sample)
        opinions, again, waiting = round_.opinions()
        disputes = round_.disputes()
        named.update(task["data"]["reviewer"] for task in opinions)
        if len(round_.assigner.reviewers) > 1:  # else nobody has another's answers to look at
            named.update(round_.assigner.reviewers)
        ensure_tabs(client, found["id"], named)
        for batch in _batches([*opinions, *disputes], params.batch):
            send_tasks(client, found["id"], batch, partial(round_.left, client, found["id"]))
            failpoint("labeling.review")
        if disputes:
            show_drafts_of(client, found["id"], round_.version)
    _write_plan(workspace, round_.planned, len(by_sample))
    return ReviewReport(
        planned=len(round_.planned),
        sent=len(opinions),
        again=again,
        waiting=waiting,
        disputes=len(disputes),
        reviewers=round_.assigner.reviewers,
        url=f"{client.url}/projects/{found['id']}/data",
    )


@dataclass(frozen=True)
class _Round:
    """What one run decides from: answers, tasks on the server, people."""

    params: ReviewParams
    seed: int
    by_sample: Mapping[str, list[Decision]]
    samples: Samples
    looks: Mapping[tuple[str, str], list[Look]]
    planned: list[Planned]
    assigner: Assigner
    version: str

    @classmethod
    def begin(
        cls,
        workspace: Workspace,
        client: StudioClient,
        found: Mapping[str, Any],
        project: ProjectParams,
        params: ReviewParams,
        by_sample: Mapping[str, list[Decision]],
    ) -> _Round:
        """Read what there is."""
        from visionloop.data.raw import read_samples

        decisions = [row for rows in by_sample.values() for row in rows]
        weak = weak_classes(
            compare_pairs(decisions, min_iou=params.min_iou),
            below=params.weak_agreement,
            min_samples=params.min_pairs,
        )
        looks = defaultdict(list)
        for look in list_looks(client, found["id"]):
            looks[(look.look, look.sample_id)].append(look)
        return cls(
            params=params,
            seed=project.seed,
            by_sample=by_sample,
            samples={row["sample_id"]: row for row in read_samples(workspace).to_dict("records")},
            looks=looks,
            planned=plan_review(decisions, params, seed=project.seed, weak=weak),
            assigner=Assigner(
                params.reviewers or sorted({row.annotator for row in decisions}), project.seed
            ),
            version=found["model_version"] or f"{project.model}@review",
        )

    def left(self, client: StudioClient, project_id: int, tasks: Tasks) -> Tasks:
        """Tasks of this run that the server does not have."""
        newest = max((row.task for rows in self.looks.values() for row in rows), default=0)
        made = list_looks(client, project_id, condition("id", "greater", "Number", newest))
        have = {(row.look, row.sample_id) for row in made}
        return [row for row in tasks if (row["data"]["look"], row["data"]["sample_id"]) not in have]

    def opinions(self) -> tuple[Tasks, int, int]:
        """Tasks to send for a second opinion; how many of them again; how many wait."""
        asked = [sample_id for look, sample_id in self.looks if look == "review"]
        candidates = dict.fromkeys([row.sample_id for row in self.planned] + sorted(asked))
        tasks: Tasks = []
        again = waiting = 0
        for sample_id in candidates:
            decisions = self.by_sample.get(sample_id, [])
            before = self.looks.get(("review", sample_id), [])
            if find_pair(decisions) is not None or sample_id not in self.samples:
                continue
            if self._is_open(before):
                waiting += 1
            elif len(before) < ATTEMPTS and len(tasks) < self.params.tasks:
                again += bool(before)
                tasks.append(self._opinion(sample_id, decisions))
        return tasks, again, waiting

    def disputes(self) -> Tasks:
        """Tasks to send for adjudication."""
        tasks: Tasks = []
        number = sum(len(rows) for (look, _), rows in self.looks.items() if look == "adjudicate")
        for sample_id, decisions in sorted(self.by_sample.items()):
            pair = find_dispute(decisions, min_iou=self.params.min_iou)
            before = self.looks.get(("adjudicate", sample_id), [])
            if pair is None or self._is_open(before) or len(before) >= ATTEMPTS:
                continue
            if len(tasks) == self.params.tasks:
                break
            regions = draft_of_dispute(pair, min_iou=self.params.min_iou, seed=self.seed)
            found = compare_answers(
                pair.first.regions, pair.second.regions, min_iou=self.params.min_iou
            )
            tasks.append(
                build_task(
                    self.samples[sample_id],
                    look="adjudicate",
                    reason=tell_dispute(found),
                    rank=number + len(tasks) + 1,
                    draft=Draft(regions, 0.5, self.version) if regions else None,
                )
            )
        return tasks

    def _is_open(self, looks: Sequence[Look]) -> bool:
        """Whether a task waits; one that was skipped stays open for others."""
        said = {
            row.task
            for look in looks
            for row in self.by_sample.get(look.sample_id, [])
            if not row.is_skipped
        }
        return any(look.task not in said for look in looks)

    def _opinion(self, sample_id: str, decisions: Sequence[Decision]) -> dict[str, Any]:
        task = build_task(
            self.samples[sample_id],
            look="review",
            reason=REASON,
            rank=int(9999 * draw(sample_id, self.seed)),
            draft=None,
        )
        task["data"]["reviewer"] = self.assigner.assign(sample_id, decisions)
        return task


def _by_sample(decisions: Iterable[Decision]) -> dict[str, list[Decision]]:
    grouped: dict[str, list[Decision]] = defaultdict(list)
    for row in decisions:
        grouped[row.sample_id].append(row)
    return grouped


def _batches(tasks: Tasks, size: int) -> Iterator[Tasks]:
    batches = [tasks[start : start + size] for start in range(0, len(tasks), size)]
    yield from track(batches, f"sending {len(tasks)} tasks to Label Studio")


def _write_plan(workspace: Workspace, planned: Sequence[Planned], samples: int) -> None:
    path = workspace.reports / "labeling" / "review_plan.json"
    write_json(path, {"samples": samples, "planned": [asdict(row) for row in planned]})
