"""What people and DVC look at after a training: metrics, history and curves."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visionloop.core.files import write_bytes, write_json, write_text
from visionloop.training.resume import EpochRow

__all__ = ["write_history"]


def write_history(
    folder: Path, *, history: list[EpochRow], metrics: dict[str, float], facts: dict[str, Any]
) -> None:
    """Write ``history.csv``, ``curves.png`` and ``metrics.json`` (metrics, then facts)."""
    columns = list(dict.fromkeys(name for row in history for name in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    for row in history:
        writer.writerow({**row, "epoch": int(row["epoch"])})
    write_text(folder / "history.csv", buffer.getvalue())
    write_bytes(folder / "curves.png", _draw_curves(history, columns))
    write_json(folder / "metrics.json", {**metrics, **facts})


def _draw_curves(history: list[EpochRow], columns: list[str]) -> bytes:
    """Losses on the left, val metrics on the right, as a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    losses: list[str] = [name for name in ("train_loss", "val_loss") if name in columns]
    others = [name for name in columns if name not in ("epoch", "val_fitness", *losses)]
    figure: Any = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    _draw_side(figure.add_subplot(1, 2, 1), history, losses, "loss")
    _draw_side(figure.add_subplot(1, 2, 2), history, others, "on the val split")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return buffer.getvalue()


def _draw_side(axes: Any, history: Sequence[EpochRow], names: list[str], title: str) -> None:
    epochs = [row["epoch"] for row in history]
    for name in names:
        values = [row.get(name, float("nan")) for row in history]
        axes.plot(epochs, values, marker="o", markersize=3, label=name)
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.3)
    if names:
        axes.legend()
