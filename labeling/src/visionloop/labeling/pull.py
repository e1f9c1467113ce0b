"""The verb ``pull``: what people said in Label Studio becomes ``data/annotations/studio.json``.

Every answer goes to ``studio/decisions.sqlite``; the verdicts on them go to the COCO file.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from visionloop.core.config import ProjectParams
from visionloop.core.entities import Annotation
from visionloop.core.errors import DataError
from visionloop.core.failpoints import failpoint
from visionloop.core.progress import track
from visionloop.core.workspace import Workspace
from visionloop.labeling.client import connect
from visionloop.labeling.decisions import (
    MADE_OF_THEM,
    Decision,
    DecisionStore,
    open_decisions,
)
from visionloop.labeling.feed import Feed
from visionloop.labeling.finder_precision import update_finder
from visionloop.labeling.garbage import rarely_searched
from visionloop.labeling.ledger import open_ledger
from visionloop.labeling.params import LabelingParams, load_params
from visionloop.labeling.project import find_project
from visionloop.labeling.reading import Reader
from visionloop.labeling.regions import Region
from visionloop.labeling.state import PATIENCE_SECONDS, only_one
from visionloop.labeling.verdicts import Verdict, settle

if TYPE_CHECKING:
    from visionloop.data.formats.coco import CocoImage

__all__ = ["PullReport", "pull"]

NEXT_STEP = "correct these tasks in Label Studio; data/annotations/studio.json stays as it was"


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
    read : int
        Tasks that were read, because they are new or were changed.
    """

    samples: int
    annotations: int
    replaced: int
    skipped: int
    actions: dict[str, int]
    read: int = 0


def pull(*, workspace: Workspace) -> PullReport:
    """Bring every answer into ``studio/decisions.sqlite``, and the verdicts as COCO.

    What second looks say of the finder of doubtful annotations goes to ``studio/finder.json``.
    Only tasks that changed on the server are read; those that were deleted there are
    forgotten. Where nothing changed, the files stay untouched. Killed anywhere, it goes on
    where it was.

    Which answer to a sample counts is :func:`visionloop.labeling.verdicts.settle`'s to say.
    An answered detection task without boxes says that nothing is there. Skipped tasks say
    nothing.

    Raises
    ------
    UnreachableError
        If Label Studio does not answer; ``studio.json`` stays as it was.
    DataError
        Naming every answer that cannot be understood; ``studio.json`` stays as it was.
    """
    from visionloop.data.formats import coco

    project, params = load_params(workspace)
    with (
        only_one(workspace, "pull", wait=PATIENCE_SECONDS),
        open_decisions(workspace) as store,
        rarely_searched(),
    ):
        client = connect(workspace)
        found = find_project(client, project)
        people = {row["id"]: row["email"] for row in client.get("/api/users/")}
        names, sizes = _images(workspace)
        feed = Feed(client, found["id"], store, partial(_pushed, workspace, found["id"]))
        read = _bring(feed, Reader(project, people, sizes), store)
        report = _made_before(workspace, store, project, params)
        if report is None:
            totals = _Totals(skipped=store.skipped())
            coco.save_ordered(
                workspace.studio_annotations,
                _looked_at(store.answered_samples(), names, sizes),
                _statements(_verdicts(store, params), totals),
                project.classes,
            )
            update_finder(workspace, params.second_look_precision)
            report = totals.report()
            made = [_made_of(workspace, project, params), asdict(report)]
            store.set_note(MADE_OF_THEM, json.dumps(made))
    return replace(report, read=read)


def _made_before(
    workspace: Workspace, store: DecisionStore, project: ProjectParams, params: LabelingParams
) -> PullReport | None:
    """What a pull with these decisions and parameters said, if its files are still there."""
    made_of, report = json.loads(store.note(MADE_OF_THEM) or "[null, null]")
    if report is None or made_of != _made_of(workspace, project, params):
        return None
    return PullReport(**report)


def _made_of(workspace: Workspace, project: ProjectParams, params: LabelingParams) -> list[Any]:
    """What a pull's files depend on beside the decisions, and their own stamps."""
    files = [
        workspace.studio_annotations,
        workspace.studio_state / "finder.json",
        workspace.raw / "samples.parquet",
    ]
    found = [path.stat() if path.exists() else None for path in files]
    stamps = [[one.st_mtime_ns, one.st_size] if one else [] for one in found]
    return [stamps, project.classes, params.review.min_iou, params.second_look_precision]


def _pushed(workspace: Workspace, project_id: int) -> set[int]:
    """Ids of the tasks that the last push knew of."""
    with open_ledger(workspace) as ledger:
        return ledger.tasks() if ledger.note("project") == str(project_id) else set()


def _bring(feed: Feed, reader: Reader, store: DecisionStore) -> int:
    """Make the store agree with the server; the number of tasks read."""
    problems: list[str] = []
    read = 0
    pages = (task for tasks in feed.changed() for task in _store(tasks, reader, store, problems))
    for _ in track(pages, "reading answers from Label Studio", total=feed.count()):
        read += 1
    for tasks in feed.lost():
        read += sum(1 for _ in _store(tasks, reader, store, problems))
    if problems:
        feed.give_up()
        raise DataError(f"Label Studio project '{reader.project.model}'", problems, NEXT_STEP)
    feed.finish()
    return read


def _store(
    tasks: Iterable[dict[str, Any]], reader: Reader, store: DecisionStore, problems: list[str]
) -> Iterator[int]:
    """Store a page whole; a task that is not understood keeps what was known of it."""
    rows: list[Decision] = []
    read: dict[int, str] = {}
    for task in tasks:
        decisions, wrong = reader.read(task)
        problems += wrong
        if not wrong:
            rows += decisions
            read[task["id"]] = task["updated_at"]
        yield task["id"]
    gone = store.annotations_of(read) - {row.annotation for row in rows}
    store.put(rows, read=read)
    store.forget(annotations=gone)
    failpoint("labeling.pull")


def _images(workspace: Workspace) -> tuple[dict[str, str], dict[str, tuple[int, int]]]:
    """Sample id to its file's name, and to its width and height."""
    from visionloop.data.raw import read_samples

    frame = read_samples(workspace)
    ids, names = frame["sample_id"].tolist(), frame["file_name"].tolist()
    widths, heights = (frame[side].astype(int).tolist() for side in ("width", "height"))
    sizes = zip(widths, heights, strict=True)
    return dict(zip(ids, names, strict=True)), dict(zip(ids, sizes, strict=True))


@dataclass
class _Totals:
    """A report in the making."""

    skipped: int
    samples: int = 0
    annotations: int = 0
    replaced: int = 0
    actions: Counter[str] = field(default_factory=Counter)

    def report(self) -> PullReport:
        return PullReport(
            samples=self.samples,
            annotations=self.annotations,
            replaced=self.replaced,
            skipped=self.skipped,
            actions=dict(sorted(self.actions.items())),
        )


def _verdicts(store: DecisionStore, params: LabelingParams) -> Iterator[Verdict]:
    for _, decisions in store.by_sample():
        verdict = settle(decisions, min_iou=params.review.min_iou)
        if verdict is not None:
            yield verdict


def _looked_at(
    samples: Iterator[str], names: dict[str, str], sizes: dict[str, tuple[int, int]]
) -> Iterator[tuple[CocoImage, bool]]:
    from visionloop.data.formats.coco import CocoImage

    for one in samples:
        if one not in names:
            raise DataError(
                f"sample {one[:12]}",
                "was answered in Label Studio and is not in data/raw",
                "import it again, or delete its tasks in Label Studio",
            )
        yield CocoImage(one, names[one], *sizes[one]), True


def _statements(verdicts: Iterator[Verdict], totals: _Totals) -> Iterator[Annotation]:
    for verdict in verdicts:
        rows = sorted(_annotations(verdict), key=lambda row: (row.xyxy or (), row.class_name))
        totals.samples += 1
        totals.annotations += len(rows)
        totals.replaced += verdict.is_replaced
        totals.actions.update(row.action for row in rows)
        yield from rows


def _annotations(verdict: Verdict) -> Iterator[Annotation]:
    """The time of a verdict is shared out among its annotations, so that the sum is right.

    Where a class of the whole image is given, shapes only show where it is seen.
    """
    regions, given = verdict.regions or [Region("")], verdict.actions or [""]
    statements = list(zip(regions, given, strict=True))
    whole = [row for row in statements if row[0].xyxy is None]
    statements = whole or statements
    for region, action in statements:
        yield Annotation(
            sample_id=verdict.sample_id,
            class_name=region.class_name,
            xyxy=region.xyxy,
            polygon=region.polygon,
            annotator=verdict.annotator,
            source="studio",
            action=action,
            lead_time=round(verdict.lead_time / len(statements), 3),
        )
