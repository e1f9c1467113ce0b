"""The verb ``pull``: what people said in Label Studio becomes ``data/annotations/studio.json``.

Every answer goes to ``studio/decisions.sqlite``; the verdicts on them go to the COCO file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from visionloop.core.entities import Annotation
from visionloop.core.errors import DataError
from visionloop.core.workspace import Workspace
from visionloop.labeling.client import StudioClient, connect
from visionloop.labeling.decisions import Decision, DecisionStore, open_decisions
from visionloop.labeling.params import load_params
from visionloop.labeling.project import find_project
from visionloop.labeling.reading import Reader
from visionloop.labeling.regions import Region
from visionloop.labeling.state import only_one
from visionloop.labeling.verdicts import Verdict, settle

__all__ = ["PullReport", "pull"]

ANSWERED = (
    '{"filters":{"conjunction":"and","items":[{"filter":"filter:tasks:completed_at",'
    '"operator":"empty","type":"Datetime","value":false}]}}'
)
NEXT_STEP = "correct these tasks in Label Studio; nothing was written"


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


def pull(*, workspace: Workspace) -> PullReport:
    """Bring every answer into ``studio/decisions.sqlite``, and the verdicts as COCO.

    Which answer to a sample counts is :func:`visionloop.labeling.verdicts.settle`'s to say.
    An answered detection task without boxes says that nothing is there. Skipped tasks say
    nothing.

    Raises
    ------
    UnreachableError
        If Label Studio does not answer; the files stay as they were.
    DataError
        Naming every answer that cannot be understood; the files stay as they were.
    """
    from visionloop.data.raw import read_samples

    project, _ = load_params(workspace)
    with only_one(workspace, "pull"), open_decisions(workspace) as store:
        client = connect(workspace)
        found = find_project(client, project)
        people = {row["id"]: row["email"] for row in client.get("/api/users/")}
        samples = read_samples(workspace).set_index("sample_id")
        sizes = {
            str(row.Index): (int(row.width), int(row.height))
            for row in samples[["width", "height"]].itertuples()
        }
        _bring(client, found["id"], Reader(project, people, sizes), store)
        return _compose(workspace, store)


def _bring(client: StudioClient, project_id: int, reader: Reader, store: DecisionStore) -> None:
    """Make the store agree with the server."""
    read: set[int] = set()
    problems: list[str] = []

    def decisions() -> Iterator[Decision]:
        for task in client.tasks(project=project_id, fields="all", query=ANSWERED):
            rows, wrong = reader.read(task)
            problems.extend(wrong)
            read.update(row.annotation for row in rows)
            yield from rows
        if problems:
            raise DataError(f"Label Studio project '{reader.project.model}'", problems, NEXT_STEP)

    store.put(decisions())
    store.forget(annotations={row.annotation for row in store} - read)


def _compose(workspace: Workspace, store: DecisionStore) -> PullReport:
    """Write the verdicts as COCO."""
    from visionloop.data.formats import coco
    from visionloop.data.raw import read_samples

    project, params = load_params(workspace)
    samples = read_samples(workspace).set_index("sample_id")
    images: list[coco.CocoImage] = []
    annotations: list[Annotation] = []
    replaced = 0
    for sample_id, decisions in store.by_sample():
        verdict = settle(decisions, min_iou=params.review.min_iou)
        if verdict is None:
            continue
        row = samples.loc[sample_id]
        images.append(
            coco.CocoImage(sample_id, str(row["file_name"]), int(row["width"]), int(row["height"]))
        )
        annotations += _annotations(verdict)
        replaced += verdict.is_replaced
    coco.save(workspace.studio_annotations, images, annotations, project.classes)
    return PullReport(
        samples=len(images),
        annotations=len(annotations),
        replaced=replaced,
        skipped=len({row.task for row in store if row.is_skipped}),
        actions=dict(sorted(Counter(row.action for row in annotations).items())),
    )


def _annotations(verdict: Verdict) -> Iterator[Annotation]:
    """The time of a verdict is shared out among its annotations, so that the sum is right."""
    statements = verdict.regions or [Region("")]
    actions = verdict.actions or [""]
    for region, action in zip(statements, actions, strict=True):
        yield Annotation(
            sample_id=verdict.sample_id,
            class_name=region.class_name,
            xyxy=region.xyxy,
            annotator=verdict.annotator,
            source="studio",
            action=action,
            lead_time=round(verdict.lead_time / len(statements), 3),
        )
