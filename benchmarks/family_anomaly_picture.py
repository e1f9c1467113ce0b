"""What anomaly families reach on real data: ``docs/pictures/family-anomaly-tiles.png``.

A chart of our own, no picture of a data set: for each family measured by ``families_tiles.py``
(which has to run first), how many defective tiles it reports at which share of false alarms, on
tiles of views that it never saw. A line a split, the mean of the splits strong.

    python benchmarks/family_anomaly_picture.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from families_tiles import ASKED, FAMILIES, FOLDER
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from visionloop.core.files import read_json
from visionloop.evaluation.plots import ACCENT, INK, WARN, finish_axes, save_figure

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "family-anomaly-tiles.png"
GRID = np.linspace(0, 1, 201)


def main() -> None:
    """Draw one panel a family."""
    runs = {name: [read_json(one) for one in sorted(FOLDER.glob(f"{name}-?.json"))]
            for name in FAMILIES}  # fmt: skip
    runs = {name: own for name, own in runs.items() if own}
    figure = Figure(figsize=(2.6 * len(runs), 3.2), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(runs), sharey=True))
    for axes, (name, own) in zip(panels, runs.items(), strict=True):
        draw(axes, [reported(one["confidence"], one["defective"]) for one in own])
        area = np.mean([one["image_auroc"] for one in own])
        axes.set_title(f"{name}\nAUROC {area:.3f}, splits: {len(own)}", loc="left", color=INK,
                       fontsize=9.5)  # fmt: skip
        print(f"{name}: image AUROC {area:.4f}, splits: {len(own)}")
    panels[0].set_ylabel("defective tiles reported")
    print(save_figure(figure, PICTURE))


def reported(confidence: list[float], defective: list[bool]) -> NDArray[np.float64]:
    """Share of the defective tiles reported at each share of false alarms of :data:`GRID`."""
    values, bad = np.array(confidence), np.array(defective, bool)
    limits = np.quantile(values[~bad], 1 - GRID)
    return np.array([(values[bad] > limit).mean() for limit in limits])


def draw(axes: Axes, curves: list[NDArray[np.float64]]) -> None:
    """Receiver operating characteristics, and where the asked rate lies."""
    for curve in curves:
        axes.plot(GRID, curve, color=ACCENT, lw=0.8, alpha=0.4)
    axes.plot(GRID, np.mean(curves, axis=0), color=ACCENT, lw=2)
    axes.axvline(ASKED, color=WARN, lw=1, ls=":")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    finish_axes(axes, "", "share of false alarms", "")


if __name__ == "__main__":
    main()
