"""What calibration did, as a file and a picture."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from visionloop.core.files import write_bytes, write_json
from visionloop.training.calibration.calibrate import Calibration
from visionloop.training.calibration.costs import ClassThreshold, Statements
from visionloop.training.calibration.temperature import BINS

__all__ = ["write_calibration"]

MOST_CLASSES = 8
"""More curves than this cannot be told apart."""


def write_calibration(folder: Path, calibration: Calibration) -> None:
    """Write ``calibration.json``, and ``calibration.png`` where there were statements."""
    write_json(folder / "calibration.json", calibration.as_row())
    picture = folder / "calibration.png"
    if calibration.statements:
        write_bytes(picture, _draw(calibration))
    else:
        picture.unlink(missing_ok=True)


def _draw(calibration: Calibration) -> bytes:
    """Left how often a confidence is right, right where the threshold of each class lies."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for name, said in list(calibration.statements.items())[:MOST_CLASSES]:
        _draw_reliability(left, name, said)
        _draw_errors(right, name, said, calibration.thresholds.get(name))
    left.plot([0, 1], [0, 1], color="0.8", lw=1, zorder=0)
    fit = calibration.fit
    why = f" ({fit.why_not})" if fit.why_not else ""
    left.set_title(f"temperature {fit.temperature:g}{why}", fontsize=10)
    left.set(xlabel="confidence", ylabel="share that is true", xlim=(0, 1), ylim=(0, 1))
    right.set_title("misses (solid) and false alarms (dotted) by threshold", fontsize=10)
    right.set(xlabel="threshold", ylabel="of the val split", xlim=(0, 1))
    left.legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return buffer.getvalue()


def _draw_reliability(axes: Any, name: str, said: Statements) -> None:
    bins = np.minimum((said.confidence * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    filled = counts > 0
    x = np.bincount(bins, said.confidence, BINS)[filled] / counts[filled]
    y = np.bincount(bins, said.is_true, BINS)[filled] / counts[filled]
    axes.plot(x, y, "-o", ms=4, lw=1, label=name)


def _draw_errors(axes: Any, name: str, said: Statements, chosen: ClassThreshold | None) -> None:
    places = np.linspace(0, 1, 101)
    shown = said.confidence[None, :] >= places[:, None]
    total = int(said.is_true.sum()) + said.missed
    misses = total - (shown & said.is_true).sum(axis=1)
    (line,) = axes.plot(places, misses, lw=1.2, label=name)
    axes.plot(places, (shown & ~said.is_true).sum(axis=1), ":", lw=1.2, color=line.get_color())
    if chosen is not None and not chosen.why_not:
        axes.axvline(chosen.threshold, color=line.get_color(), lw=0.8, alpha=0.6)
