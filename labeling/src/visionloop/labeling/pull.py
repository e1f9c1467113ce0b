"""The verb ``pull``: what people said in Label Studio becomes ``data/annotations/studio.json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from visionloop.core.config import ProjectParams
from visionloop.core.entities import Annotation
from visionloop.core.errors import DataError
from visionloop.core.files import read_json, write_json
from visionloop.core.workspace import Workspace
from visionloop.labeling.client import StudioClient, connect
from visionloop.labeling.params import load_params
from visionloop.labeling.project import find_project
from visionloop.labeling.regions import Region, compare, from_result
from visionloop.labeling.state import state_folder

if TYPE_CHECKING:
    import pandas

__all__ = ["Decision", "PullReport", "load_decisions", "pull"]

ANSWERED = (
    '{"filters":{"conjunction":"and","items":[{"filter":"filter:tasks:completed_at",'
    '"operator":"empty","type":"Datetime","value":false}]}}'
)
NEXT_STEP = "correct these tasks in Label Studio; nothing was written"


@dataclass(frozen=True)
class Decision:
    """What a person did with one task.

    Attributes
    ----------
    sample_id : str
    look : str
        "first" or "second".
    annotator : str
    decided_at : str
        UTC, RFC 3339, by Label Studio's clock.
    lead_time : float
        Seconds.
    had_draft : bool
    actions : list of str
        One an annotation: accepted, adjusted, relabelled, added; "accepted" alone where
        a person confirmed that nothing is there.
    deleted : int
        Regions of the draft that were removed.
    """

    sample_id: str
    look: str
    annotator: str
    decided_at: str
    lead_time: float
    had_draft: bool
    actions: list[str]
    deleted: int


@dataclass(frozen=True)
class PullReport:
    """What was pulled.

    Attributes
    ----------
    samples, annotations : int
        In ``data/annotations/studio.json``.
    replaced : int
        Samples whose second look replaced the first.
    skipped : int
        Tasks that people skipped.
    actions : dict of str to int
    """

    samples: int
    annotations: int
    replaced: int
    skipped: int
    actions: dict[str, int]


@dataclass(frozen=True)
class _Verdict:
    decision: Decision
    regions: list[Region]


def pull(*, workspace: Workspace) -> PullReport:
    """Write every sample's latest verdict as COCO, and ``studio/decisions.json`` beside.

    A second look replaces the first; where somebody changed an earlier answer later, the
    later answer counts. An answered detection task without boxes says that nothing is
    there. Skipped tasks say nothing.

    Raises
    ------
    UnreachableError
        If Label Studio does not answer; the file stays as it was.
    DataError
        Naming every answer that cannot be understood; the file stays as it was.
    """
    from visionloop.data.formats import coco
    from visionloop.data.raw import read_samples

    project, _ = load_params(workspace)
    client = connect(workspace)
    found = find_project(client, project)
    samples = read_samples(workspace).set_index("sample_id")
    verdicts, skipped = _verdicts(client, found["id"], samples, project)
    latest: dict[str, _Verdict] = {}
    for verdict in sorted(verdicts, key=lambda row: row.decision.decided_at):
        latest[verdict.decision.sample_id] = verdict
    annotations = [row for verdict in latest.values() for row in _annotations(verdict)]
    images = [
        coco.CocoImage(one, str(row["file_name"]), int(row["width"]), int(row["height"]))
        for one, row in samples.loc[sorted(latest)].iterrows()
    ]
    coco.save(workspace.studio_annotations, images, annotations, project.classes)
    decisions = [asdict(verdict.decision) for verdict in verdicts]
    write_json(state_folder(workspace) / "decisions.json", decisions)
    firsts = {row.decision.sample_id for row in verdicts if row.decision.look == "first"}
    return PullReport(
        samples=len(latest),
        annotations=len(annotations),
        replaced=sum(v.decision.look == "second" and one in firsts for one, v in latest.items()),
        skipped=skipped,
        actions=dict(sorted(Counter(row.action for row in annotations).items())),
    )


def load_decisions(workspace: Workspace) -> list[Decision]:
    """The decisions that the last pull brought.

    Raises
    ------
    DataError
        If nothing was pulled yet.
    """
    path = workspace.studio_state / "decisions.json"
    if not path.exists():
        raise DataError(str(path), "nothing was pulled yet", "run: visionloop label pull")
    return [Decision(**row) for row in read_json(path)]


def _verdicts(
    client: StudioClient, project_id: int, samples: pandas.DataFrame, project: ProjectParams
) -> tuple[list[_Verdict], int]:
    people = {row["id"]: row["email"] for row in client.get("/api/users/")}
    verdicts: list[_Verdict] = []
    problems: list[str] = []
    skipped = 0
    for task in client.tasks(project=project_id, fields="all", query=ANSWERED):
        sample_id = task["data"].get("sample_id")
        if not sample_id:
            continue  # somebody's own upload
        given = [row for row in task["annotations"] if not row["was_cancelled"]]
        if not given:
            skipped += 1
        elif sample_id not in samples.index:
            problems.append(f"task {task['id']}: sample {sample_id[:12]} is not in data/raw")
        else:
            row = samples.loc[sample_id]
            size = int(row["width"]), int(row["height"])
            newest = max(given, key=lambda one: one["updated_at"])
            verdict, wrong = _verdict(task, newest, size, people, project)
            problems += [f"task {task['id']}: {text}" for text in wrong]
            verdicts.append(verdict)
    if problems:
        raise DataError(f"Label Studio project '{project.model}'", problems, NEXT_STEP)
    return verdicts, skipped


def _verdict(
    task: dict[str, Any],
    annotation: dict[str, Any],
    size: tuple[int, int],
    people: dict[int, str],
    project: ProjectParams,
) -> tuple[_Verdict, list[str]]:
    regions, problems = from_result(annotation["result"], *size)
    unknown = {region.class_name for region in regions} - set(project.classes)
    problems += [f"class '{name}' is not in params.yaml" for name in sorted(unknown)]
    if project.vision_task == "classification" and not regions and not problems:
        problems.append("was submitted without a class")
    parent = annotation.get("parent_prediction")
    shown = [row for row in task["predictions"] if row["id"] == parent]
    drafts = from_result(shown[0]["result"], *size)[0] if shown else []
    actions, deleted = compare(drafts, regions)
    if not regions and shown and not deleted:
        actions = ["accepted"]
    by = annotation["completed_by"]
    decision = Decision(
        sample_id=task["data"]["sample_id"],
        look=task["data"].get("look", "first"),
        annotator=people.get(by["id"] if isinstance(by, dict) else by, "unknown"),
        decided_at=annotation["updated_at"],
        lead_time=float(annotation["lead_time"] or 0),
        had_draft=bool(shown),
        actions=actions,
        deleted=deleted,
    )
    return _Verdict(decision, regions), problems


def _annotations(verdict: _Verdict) -> Iterator[Annotation]:
    """The time of a task is shared out among its annotations, so that the sum is right."""
    decision, regions = verdict.decision, verdict.regions
    statements = regions or [Region("")]
    actions = decision.actions or [""]
    for region, action in zip(statements, actions, strict=True):
        yield Annotation(
            sample_id=decision.sample_id,
            class_name=region.class_name,
            xyxy=region.xyxy,
            annotator=decision.annotator,
            source="studio",
            action=action,
            lead_time=round(decision.lead_time / len(statements), 3),
        )
