"""The one chart of the demo's page: quality by slice, before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["draw_quality"]

Quality = dict[str, Any]


def draw_quality(
    path: Path, first: Quality, second: Quality, chance: dict[str, Any] | None
) -> Path:
    """Bars with intervals for the slices of both rounds, and for randomly chosen samples."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [
        name
        for name, row in second["slices"].items()
        if row["value"] is not None and name in first["slices"]
    ]
    series = [
        ("first round", first["slices"], "#9aa7b5"),
        ("second round", second["slices"], "#2f6fb0"),
    ]
    if chance:
        series.insert(1, ("second round, samples chosen at random", chance, "#d9a441"))
    width = 0.8 / len(series)
    figure, axes = pyplot.subplots(figsize=(max(6.0, 1.6 * len(names) + 3), 3.6))
    for number, (title, rows, colour) in enumerate(series):
        places, values, spread = [], [], ([], [])  # type: ignore[var-annotated]
        for index, name in enumerate(names):
            row = rows.get(name)
            if not row or row["value"] is None:
                continue
            places.append(index + (number - (len(series) - 1) / 2) * width)
            values.append(row["value"])
            spread[0].append(max(0.0, row["value"] - row["low"]))
            spread[1].append(max(0.0, row["high"] - row["value"]))
        axes.bar(places, values, width * 0.92, yerr=spread, capsize=3, label=title, color=colour)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylim(0, 1)
    axes.set_ylabel(second["metric"])
    if second["metric"] == "balanced_accuracy":
        axes.axhline(0.5, color="#b03a2e", linewidth=1, linestyle="--")
        axes.text(-0.45, 0.51, "a coin", color="#b03a2e", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=3)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=140)
    pyplot.close(figure)
    return path
