"""``summarise``: from the edge's frame records to window files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionloop.core.config import ProjectParams, load_blocks
from visionloop.core.errors import ConfigError, DataError
from visionloop.core.progress import say_step
from visionloop.core.workspace import Workspace
from visionloop.monitoring.frame_rows import frame_row, prediction_columns, row_key
from visionloop.monitoring.params import MonitoringParams, WindowParams
from visionloop.monitoring.picture_features import FeatureSource
from visionloop.monitoring.windows import WINDOW, Window, load_window, save_window, window_path

if TYPE_CHECKING:
    import pandas

__all__ = ["SummariseReport", "define_windows", "is_inside", "summarise"]

Row = dict[str, Any]


@dataclass(frozen=True)
class SummariseReport:
    """What was written.

    Attributes
    ----------
    folder : Path
        Of the window files.
    frames, new : dict of str to int
        Window name to its number of frames, and how many of them are new.
    """

    folder: Path
    frames: dict[str, int]
    new: dict[str, int]


def summarise(
    *, workspace: Workspace, windows: Sequence[WindowParams] | None = None
) -> SummariseReport:
    """Write ``reports/windows/<name>.parquet`` for each window.

    Frames that a window file holds already are taken from it, so a second run costs
    little and changes nothing, and frames that left the outbox stay. A picture that was
    seen twice by one package counts once: the tests of drift want separate pictures.

    Parameters
    ----------
    windows : sequence of WindowParams or None
        None takes those of ``params.yaml``.

    Raises
    ------
    ConfigError
        If there are no windows.
    DataError
        If the edge has no outbox here, or a record does not fit the project's classes.
    """
    loaded = load_blocks(
        workspace.params, {"project": ProjectParams, "monitoring": MonitoringParams}
    )
    project: ProjectParams = loaded["project"]
    params: MonitoringParams = loaded["monitoring"]
    wanted = list(windows if windows is not None else params.windows)
    if not wanted:
        raise ConfigError(
            str(workspace.params),
            "monitoring.windows is empty",
            "name a window: visionloop monitor summarise --window current --where camera=north",
        )
    recorded = [frame_row(record, workspace, project) for record in _read_records(workspace)]
    features = FeatureSource(workspace, always_backbone=params.embeddings == "backbone")
    counts: dict[str, int] = {}
    new: dict[str, int] = {}
    for window in wanted:
        frames, added = _frames_of(window, recorded, workspace, project, features)
        counts[window.name], new[window.name] = len(frames), added
        if not len(frames):
            say_step(f"window {window.name}: no frame fits{_known_values(window, recorded)}")
    features.say_what_is_missing()
    return SummariseReport(window_path(workspace, "x").parent, counts, new)


def define_windows(
    workspace: Workspace, *, name: str, where: Sequence[str], **limits: Any
) -> list[WindowParams] | None:
    """The window that a command line describes; None means those of ``params.yaml``.

    A name alone picks that window of ``params.yaml``.

    Raises
    ------
    ConfigError
        If conditions come without a name, or one is not ``column=value``.
    """
    limits = {key: value for key, value in limits.items() if value not in (None, "")}
    if not name:
        if where or limits:
            raise ConfigError("window", "has conditions but no name", "add --window NAME")
        return None
    wrong = [text for text in where if "=" not in text]
    if wrong:
        raise ConfigError("--where", [f"'{text}' is not column=value" for text in wrong])
    if not where and not limits:
        params = load_blocks(workspace.params, {"monitoring": MonitoringParams})["monitoring"]
        chosen = [window for window in params.windows if window.name == name]
        if not chosen:
            known = ", ".join(window.name for window in params.windows) or "none"
            raise ConfigError(f"window '{name}'", f"is not in params.yaml (there: {known})")
        return chosen
    conditions: dict[str, str | int | float | bool] = {
        text.partition("=")[0]: text.partition("=")[2] for text in where
    }
    try:
        return [WindowParams(name=name, where=conditions, **limits)]
    except ValueError as error:
        raise ConfigError(f"window '{name}'", str(error)) from None


def is_inside(row: Mapping[str, Any], window: WindowParams) -> bool:
    """Whether a frame fulfils every condition of a window; values are compared as text."""
    if any(str(row.get(name)) != str(value) for name, value in window.where.items()):
        return False
    sequence = int(row["sequence"])
    if window.first_sequence is not None and sequence < window.first_sequence:
        return False
    if window.last_sequence is not None and sequence > window.last_sequence:
        return False
    if not (window.captured_from or window.captured_before):
        return True
    moment = _moment(row["captured_at"])
    return not (
        (window.captured_from and moment < _moment(window.captured_from))
        or (window.captured_before and moment >= _moment(window.captured_before))
    )


def _frames_of(
    window: WindowParams,
    recorded: list[Row],
    workspace: Workspace,
    project: ProjectParams,
    features: FeatureSource,
) -> tuple[pandas.DataFrame, int]:
    """The window's table, written if it changed, and its number of new frames."""
    import pandas

    before = _stored_rows(workspace, window.name, project)
    features.remember(before.values())
    rows = {key: row for key, row in before.items() if is_inside(row, window)}
    added = 0
    for row in sorted(recorded, key=_order):
        if row_key(row) not in rows and is_inside(row, window):
            rows[row_key(row)] = row
            added += 1
    content = list(rows.values())
    filled = features.complete(content, window.name)
    frames = pandas.DataFrame(content or None, columns=_column_order(content, project))
    frames = frames.sort_values(["captured_at", "camera", "sequence", "sample_id"])
    is_stored = window_path(workspace, window.name).is_file()
    if added or filled or len(rows) != len(before) or not is_stored:
        save_window(workspace, Window(window.name, frames.reset_index(drop=True)))
    return frames, added


def _stored_rows(workspace: Workspace, name: str, project: ProjectParams) -> dict[Any, Row]:
    """Rows of the window file; none if it was made for other classes or is damaged."""
    try:
        frames = load_window(workspace, name).frames
    except DataError:
        return {}
    if not set(prediction_columns(project)) <= set(frames.columns):
        return {}
    rows: list[Row] = frames.to_dict("records")
    return {row_key(row): row for row in rows}


def _column_order(rows: list[Row], project: ProjectParams) -> list[str]:
    """Required columns, predictions, then statistics and attributes by name."""
    first = [*WINDOW.columns, *prediction_columns(project)]
    others = sorted({name for row in rows for name in row} - set(first))
    return [*first, *others]


def _order(row: Row) -> tuple[Any, ...]:
    return _moment(row["captured_at"]), row["camera"], row["sequence"], row["sample_id"]


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        raise DataError(f"moment '{text}'", "is not RFC 3339 (2026-03-01T06:00:00Z)") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _known_values(window: WindowParams, recorded: list[Row]) -> str:
    parts = []
    for name in window.where:
        values = sorted({str(row[name]) for row in recorded if name in row})[:8]
        parts.append(f"{name} is {', '.join(values)}" if values else f"no frame has '{name}'")
    return f" ({'; '.join(parts)})" if parts else ""


def _read_records(workspace: Workspace) -> list[Any]:
    from visionloop.serving.edge.record.records import read_frames

    database = workspace.edge / "outbox.db"
    if not database.is_file():
        raise DataError(
            str(database), "there is no outbox here", "run the edge agent: visionloop serve edge"
        )
    return list(read_frames(database))
