"""What the agent saw: one row a frame, for collection and monitoring."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Answer, Detections, Frame, Prediction
from visionloop.serving.edge.record.store import open_reader

__all__ = ["FrameRecord", "add_frame", "drop_oldest_frames", "next_sequence", "read_frames"]

_COLUMNS = (
    "sample_id, camera, site, captured_at, sequence, package, attributes, statistics, answer, "
    "embedding, image, source"
)


@dataclass(frozen=True, eq=False)
class FrameRecord:
    """One frame that the agent analysed.

    Attributes
    ----------
    sample_id : str
        SHA-256 of the picture's file; of the pixels where no file was kept.
    camera, site : str
    captured_at : str
        UTC, RFC 3339.
    sequence : int
        Counts the frames of this source from 0.
    package : str
        SHA-256 of the package that answered.
    attributes : dict
        Metadata of the source, for example ``{"cell_type": "poly"}``.
    statistics : dict
        luminance, contrast, blur, noise.
    probabilities : float32 array (C,) or None
    detections : Detections or None
    embedding : float32 array (D,) or None
    image : Path or None
        The kept file, or None where the frame was not kept.
    source : str
        Name of the source that played it.
    """

    sample_id: str
    camera: str
    site: str
    captured_at: str
    sequence: int
    package: str
    attributes: dict[str, Any]
    statistics: dict[str, float]
    probabilities: NDArray[np.float32] | None
    detections: Detections | None
    embedding: NDArray[np.float32] | None
    image: Path | None
    source: str


def add_frame(
    connection: sqlite3.Connection,
    frame: Frame,
    prediction: Prediction,
    *,
    source: str,
    sample_id: str,
    package: str,
    statistics: dict[str, float],
    image: str | None,
) -> bool:
    """Record a frame in the caller's transaction; False if it is there already.

    Parameters
    ----------
    image : str or None
        The kept file, relative to the database's folder.
    """
    embedding = prediction.embedding
    done = connection.execute(
        f"INSERT OR IGNORE INTO frames ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            sample_id,
            frame.camera,
            frame.site,
            frame.captured_at,
            frame.sequence,
            package,
            json.dumps(frame.attributes),
            json.dumps(statistics),
            json.dumps(_answer_row(prediction.answer)),
            None if embedding is None else embedding.astype("<f4").tobytes(),
            image,
            source,
        ),
    )
    return done.rowcount == 1


def next_sequence(connection: sqlite3.Connection, source: str) -> int:
    """The sequence number with which a source goes on."""
    row = connection.execute(
        "SELECT MAX(sequence) FROM frames WHERE source = ?", (source,)
    ).fetchone()
    return 0 if row[0] is None else int(row[0]) + 1


def drop_oldest_frames(connection: sqlite3.Connection, most: int) -> list[str]:
    """Keep the newest records, at most so many, in the caller's transaction.

    Returns
    -------
    list of str
        Files of frames that no record names any more, relative to the database's folder.
        Each source keeps its last record, from which it goes on counting.
    """
    row = connection.execute(
        "SELECT frame FROM frames ORDER BY frame DESC LIMIT 1 OFFSET ?", (most - 1,)
    ).fetchone()
    if row is None:
        return []
    old = (
        "FROM frames WHERE frame < ? AND frame NOT IN "
        "(SELECT MAX(frame) FROM frames GROUP BY source)"
    )
    names = connection.execute(f"SELECT image {old} AND image IS NOT NULL", (row[0],)).fetchall()
    connection.execute(f"DELETE {old}", (row[0],))
    still = {one[0] for one in connection.execute("SELECT DISTINCT image FROM frames")}
    return sorted({name for (name,) in names} - still)


def read_frames(db: Path, *, cameras: Sequence[str] | None = None) -> list[FrameRecord]:
    """Read the frames of a device, in the order in which they were seen.

    Parameters
    ----------
    db : Path
        The agent's database, ``edge/outbox.db`` in a workspace.
    cameras : sequence of str or None
        Only these cameras; None takes all.

    Raises
    ------
    DataError
        If there is no database of the edge agent.
    """
    with closing(open_reader(db)) as connection:
        rows = connection.execute(f"SELECT {_COLUMNS} FROM frames ORDER BY frame").fetchall()
    wanted = None if cameras is None else set(cameras)
    return [_record(row, db.parent) for row in rows if wanted is None or row[1] in wanted]


def _answer_row(answer: Answer) -> dict[str, Any]:
    if not isinstance(answer, Detections):
        return {"probabilities": answer.probabilities.tolist()}
    return {
        "xyxy": answer.xyxy.tolist(),
        "class_id": answer.class_id.tolist(),
        "confidence": answer.confidence.tolist(),
    }


def _record(row: tuple[Any, ...], folder: Path) -> FrameRecord:
    answer = json.loads(row[8])
    is_class = "probabilities" in answer
    return FrameRecord(
        sample_id=row[0],
        camera=row[1],
        site=row[2],
        captured_at=row[3],
        sequence=row[4],
        package=row[5],
        attributes=json.loads(row[6]),
        statistics=json.loads(row[7]),
        probabilities=np.asarray(answer["probabilities"], np.float32) if is_class else None,
        detections=None if is_class else Detections(**answer),
        embedding=None if row[9] is None else np.frombuffer(row[9], "<f4").astype(np.float32),
        image=None if row[10] is None else folder / row[10],
        source=row[11],
    )
