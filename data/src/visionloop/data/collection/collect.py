"""The verb ``collect``: the frames that the edge kept become samples of ``data/raw``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from visionloop.core.errors import DataError
from visionloop.core.files import write_json
from visionloop.core.progress import track
from visionloop.core.workspace import Workspace
from visionloop.data.datasets.imports import take_in
from visionloop.data.datasets.table import RawSample
from visionloop.data.params import load_params
from visionloop.data.raw import RawStore

if TYPE_CHECKING:
    from visionloop.serving.edge.record.records import FrameRecord

__all__ = ["CollectReport", "collect"]

PHASE = "collected"


@dataclass(frozen=True)
class CollectReport:
    """What a collection brought in.

    Attributes
    ----------
    added, known : int
        Samples new in ``data/raw``, and there already.
    gone : int
        Frames without a picture: not kept, or removed since.
    rejected : int
        Pictures that cannot be read or are not what the agent recorded.
    """

    added: int
    known: int
    gone: int
    rejected: int


def collect(*, workspace: Workspace) -> CollectReport:
    """Bring kept frames from ``edge/outbox.db`` into ``data/raw``, by content hash.

    The same bytes are one sample however often they came; metadata of the first time
    stay. Attributes of the source become columns.

    Raises
    ------
    DataError
        If there is no database of the edge agent.
    """
    from visionloop.serving.edge.record.records import read_frames

    project, _ = load_params(workspace)
    records = read_frames(workspace.edge / "outbox.db")
    store = RawStore.load(workspace)
    rows: dict[str, dict[str, Any]] = {}
    rejected: list[dict[str, str]] = []
    counts = {"known": 0, "gone": 0}
    for record in track(records, "collecting frames"):
        if record.image is None or not record.image.exists():
            counts["gone"] += 1
        elif record.sample_id in store.known:
            counts["known"] += 1
        elif record.sample_id not in rows:
            row, problem = _take_in_frame(record, workspace)
            if problem:
                rejected.append({"file": record.image.name, "reason": problem})
            else:
                rows[record.sample_id] = row
    if rows:
        store.save(list(rows.values()), [], project.classes)
    report = CollectReport(len(rows), counts["known"], counts["gone"], len(rejected))
    write_json(
        workspace.reports / "collect" / "collect.json", {**vars(report), "rejected_files": rejected}
    )
    return report


def _take_in_frame(record: FrameRecord, workspace: Workspace) -> tuple[dict[str, Any], str]:
    assert record.image is not None
    try:
        content = record.image.read_bytes()
    except OSError as error:
        return {}, f"cannot be read: {error.strerror}"
    raw = RawSample(
        content=content,
        suffix=record.image.suffix.removeprefix(".").replace("jpeg", "jpg"),
        camera=record.camera,
        site=record.site,
        captured_at=record.captured_at,
        attributes=dict(record.attributes),
        phase=PHASE,
    )
    if raw.sample_id != record.sample_id:
        return {}, "has another content hash than the agent recorded"
    try:
        return take_in(raw, workspace.images)
    except DataError as error:
        return {}, "; ".join(error.problems)
