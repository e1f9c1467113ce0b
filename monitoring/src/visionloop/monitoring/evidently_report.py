"""The same columns in Evidently's report, for those who know it."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from visionloop.core.files import write_text
from visionloop.core.image_statistics import STATISTIC_NAMES
from visionloop.core.privacy import set_quiet_environment
from visionloop.monitoring.windows import (
    BOXES_PREFIX,
    PROBABILITY_PREFIX,
    Window,
    common_embeddings,
)

if TYPE_CHECKING:
    import pandas

__all__ = ["write_evidently_report", "write_placeholder"]

COMPONENTS = 5


def write_evidently_report(path: Path, reference: Window, current: Window) -> Path:
    """Write Evidently's data drift preset as a self-contained HTML file.

    Compared are image statistics, predictions and the first principal components of the
    embeddings. Its thresholds are Evidently's own: the verdict that counts is the
    calibrated one in ``drift.json``.
    """
    first, second = _columns(reference), _columns(current)
    for name, values in _components(reference, current).items():
        first[name], second[name] = values
    usable = [name for name in first.columns if _is_usable(first, second, name)]
    if not usable:
        return write_placeholder(path, "no column that both windows have varies")
    # The import takes ten seconds: only here. Its telemetry is off whoever calls this verb.
    set_quiet_environment()
    from evidently import Report
    from evidently.presets import DataDriftPreset

    # Evidently takes the current data first.
    with np.errstate(divide="ignore", invalid="ignore"):
        snapshot = Report([DataDriftPreset()]).run(second[usable], first[usable])
    temporary = path.with_name(f".{path.name}.tmp")
    snapshot.save_html(str(temporary))
    temporary.replace(path)
    return path


def write_placeholder(path: Path, reason: str) -> Path:
    """A page that says why there is no report."""
    sentence = f"No Evidently report: {html.escape(reason)}."
    return write_text(path, f'<!doctype html><meta charset="utf-8"><p>{sentence}</p>\n')


def _columns(window: Window) -> pandas.DataFrame:
    """Statistics and predictions as numbers, the predicted class as a category."""
    import pandas

    names = [
        *STATISTIC_NAMES,
        "confidence",
        "boxes",
        *window.columns(PROBABILITY_PREFIX),
        *window.columns(BOXES_PREFIX),
    ]
    numbers: dict[str, Any] = {}
    for name in names:
        values = window.numbers(name)
        if values is not None:
            numbers[name] = values
    numbers["predicted_class"] = window.frames["predicted_class"].astype(str).to_numpy()
    return pandas.DataFrame(numbers)


def _components(reference: Window, current: Window) -> dict[str, tuple[Any, Any]]:
    """Principal components of the pooled embeddings, NaN for frames without one."""
    pair = common_embeddings(reference, current)
    if pair is None or not (len(pair[0].rows) and len(pair[1].rows)):
        return {}
    first, second = pair
    pooled = np.concatenate([first.vectors, second.vectors])
    centred = pooled - pooled.mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    places = left[:, :COMPONENTS] * singular[:COMPONENTS]
    components = {}
    for number in range(places.shape[1]):
        values = np.full(len(reference), np.nan), np.full(len(current), np.nan)
        values[0][first.rows] = places[: len(first.rows), number]
        values[1][second.rows] = places[len(first.rows) :, number]
        components[f"embedding component {number + 1}"] = values
    return components


def _is_usable(first: pandas.DataFrame, second: pandas.DataFrame, name: str) -> bool:
    """Whether both windows have the column and it varies: Evidently divides by its spread."""
    if name not in second.columns:
        return False
    return bool(first[name].nunique() > 1 and second[name].nunique() > 1)
