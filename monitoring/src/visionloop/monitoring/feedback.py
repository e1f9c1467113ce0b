"""``feedback``: after drift, which frames should be annotated, the most useful first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from visionloop.core.config import load_blocks
from visionloop.core.errors import DataError
from visionloop.core.files import read_json
from visionloop.core.tables import REQUESTS, read_table, write_table
from visionloop.core.workspace import Workspace
from visionloop.data.formats import coco
from visionloop.monitoring.novelty import measure_novelty
from visionloop.monitoring.params import FeedbackParams, MonitoringParams
from visionloop.monitoring.picture_features import find_picture
from visionloop.monitoring.windows import (
    PROBABILITY_PREFIX,
    Window,
    common_embeddings,
    load_window,
)

if TYPE_CHECKING:
    import pandas

__all__ = ["FeedbackReport", "feedback", "measure_uncertainty", "rank_requests"]

REQUESTED_BY = "feedback"


@dataclass(frozen=True)
class FeedbackReport:
    """What was asked for.

    Attributes
    ----------
    requests : int
        How many samples are asked for; 0 where there was no drift.
    sentence : str
    path : Path
        ``data/requests.parquet``.
    """

    requests: int
    sentence: str
    path: Path


def feedback(*, workspace: Workspace) -> FeedbackReport:
    """Write ``data/requests.parquet`` from the last drift report.

    Asked for are the frames of the current window whose picture was kept and that nobody
    annotated yet. Requests of others in the file stay. Without drift nothing is asked for.

    Raises
    ------
    DataError
        If there is no drift report yet, or its windows are gone.
    """
    report_path = workspace.reports / "drift" / "drift.json"
    if not report_path.is_file():
        raise DataError(str(report_path), "there is no drift report", "visionloop monitor drift")
    report = read_json(report_path)
    path = workspace.root / "data" / "requests.parquet"
    if not report["is_drift"]:
        _write(path, [])
        sentence = f"Nothing is asked for: the last drift check says '{report['verdict']}'."
        return FeedbackReport(0, sentence, path)
    params = load_blocks(workspace.params, {"monitoring": MonitoringParams})["monitoring"].feedback
    reference = load_window(workspace, report["reference"]["name"])
    current = load_window(workspace, report["current"]["name"])
    open_rows, done, unkept = _open_rows(workspace, current)
    requests = rank_requests(reference, current, open_rows, params)
    _write(path, requests)
    sentence = (
        f"{len(requests)} of {len(current)} frames of window {current.name} are asked for "
        f"({done} annotated already, {unkept} without a kept picture)."
    )
    return FeedbackReport(len(requests), sentence, path)


def rank_requests(
    reference: Window, current: Window, rows: NDArray[np.int64], params: FeedbackParams
) -> list[dict[str, Any]]:
    """Requests for these rows of the current window, the largest priority first.

    Priority is the weighted sum of novelty, the share of reference frames that lie nearer
    to the reference than this frame, and of uncertainty, its rank among the asked frames;
    both in [0, 1]. Novelty is full for every frame of a new kind: the farthest of them are
    oddities, and asking for those first was worse than chance on solar cells. Without
    embeddings uncertainty alone counts.
    """
    uncertain = _ranks(measure_uncertainty(current)[rows])
    shares = _novelty_shares(reference, current)[rows]
    weight = params.novelty_weight if np.isfinite(shares).any() else 0.0
    priority = weight * np.nan_to_num(shares, nan=0.5) + (1 - weight) * uncertain
    requests: dict[str, dict[str, Any]] = {}
    for place in np.argsort(-priority, kind="stable"):
        frame = current.frames.iloc[int(rows[place])]
        sample_id = str(frame["sample_id"])
        if sample_id not in requests:
            requests[sample_id] = {
                "sample_id": sample_id,
                "reason": _reason(frame, float(shares[place]), reference.name),
                "priority": float(priority[place]),
                "requested_by": REQUESTED_BY,
            }
    return list(requests.values())[: params.max_requests]


def measure_uncertainty(window: Window) -> NDArray[np.float64]:
    """How unsure the model was of each frame, 0 (sure) to 1, float64 (N,).

    Classification: one minus the margin of the two most probable classes. Detection: one
    minus the mean confidence of the boxes; a frame without boxes counts one half, because
    a detector that does not know an object says nothing. Without an answer: 1.
    """
    names = window.columns(PROBABILITY_PREFIX)
    if names:
        probabilities = np.sort(window.frames[names].to_numpy(np.float64), axis=1)
        runner_up = probabilities[:, -2] if len(names) > 1 else 0.0
        return np.nan_to_num(1 - (probabilities[:, -1] - runner_up), nan=1.0)
    confidence = window.frames["confidence"].to_numpy(np.float64)
    empty = (window.frames["boxes"] == 0).to_numpy()
    return np.where(empty, 0.5, np.nan_to_num(1 - confidence, nan=1.0))


def _open_rows(workspace: Workspace, current: Window) -> tuple[NDArray[np.int64], int, int]:
    """Rows with a kept picture that nobody annotated; how many were annotated, not kept."""
    annotated = _annotated_samples(workspace)
    rows: list[int] = []
    done = unkept = 0
    for number, frame in enumerate(current.frames.to_dict("records")):
        if frame["sample_id"] in annotated:
            done += 1
        elif find_picture(workspace, frame) is None:
            unkept += 1
        else:
            rows.append(number)
    return np.array(rows, np.int64), done, unkept


def _annotated_samples(workspace: Workspace) -> set[str]:
    annotated: set[str] = set()
    for path in (workspace.raw / "annotations.json", workspace.studio_annotations):
        if path.is_file():
            annotated |= {row.sample_id for row in coco.load(path)[1]}
    return annotated


def _novelty_shares(reference: Window, current: Window) -> NDArray[np.float64]:
    """Share of reference frames nearer to the reference than each frame, NaN for unknown, (N,)."""
    shares = np.full(len(current), np.nan)
    pair = common_embeddings(reference, current)
    if pair is not None and len(pair[0].rows) > 1:
        first, second = pair
        shares[second.rows] = measure_novelty(first.vectors, second.vectors).ranks()
    return shares


def _ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Ranks from 0 (smallest) to 1."""
    order = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return np.asarray(order / max(1, len(values) - 1), np.float64)


def _reason(frame: Any, share: float, reference: str) -> str:
    parts = []
    if np.isfinite(share):
        parts.append(f"farther from window {reference} than {100 * share:.0f} % of its own frames")
    if frame["predicted_class"]:
        parts.append(f"predicted {frame['predicted_class']} at {frame['confidence']:.2f}")
    elif frame["boxes"] == 0:
        parts.append("no box found")
    elif frame["boxes"] > 0:
        parts.append(f"{int(frame['boxes'])} boxes at {frame['confidence']:.2f} on average")
    return "; ".join(parts) or f"in the window that drifted from {reference}"


def _write(path: Path, requests: list[dict[str, Any]]) -> None:
    """Our requests replace our earlier ones; those of others stay."""
    import pandas

    ours = pandas.DataFrame(requests, columns=list(REQUESTS.columns))
    tables: list[pandas.DataFrame] = [ours.astype({"priority": "float64"})]
    if path.is_file():
        stored = read_table(path, REQUESTS)
        others = stored[stored["requested_by"] != REQUESTED_BY]
        if len(others):
            tables.append(others)
    frame = pandas.concat(tables, ignore_index=True) if len(tables) > 1 else tables[0]
    write_table(path, REQUESTS, frame)
