"""What an anomaly family found: held-out pictures with heat maps, and where the limit lies."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from visionloop.core.files import write_bytes
from visionloop.serving.images import read_image
from visionloop.serving.manifest import ImageInput
from visionloop.serving.preprocess import make_batch, place_image

if TYPE_CHECKING:
    from visionloop.training.families.anomaly import AnomalyForExport

__all__ = ["draw_anomalies"]

SHOWN = 4
NORMAL, ANOMALOUS = "#0072B2", "#D55E00"


def draw_anomalies(
    path: Path,
    network: AnomalyForExport,
    paths: Sequence[Path],
    values: NDArray[np.float64],
    is_anomalous: NDArray[np.bool_],
    spec: ImageInput,
    *,
    limit: float,
    rate: float,
) -> None:
    """Write a PNG: the most and the least anomalous pictures with their maps, and the values."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    order = np.argsort(-values, kind="stable")
    shown = list(dict.fromkeys([*order[:SHOWN].tolist(), *order[-2:].tolist()]))
    figure: Any = Figure(figsize=(2.1 * len(shown), 6.6), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(3, len(shown), height_ratios=[2, 2, 2.2])
    for column, row in enumerate(shown):
        picture, looked = _heat(network, read_image(paths[row]), spec)
        top, below = figure.add_subplot(grid[0, column]), figure.add_subplot(grid[1, column])
        top.imshow(picture[..., ::-1])
        below.imshow(looked[..., ::-1])
        confidence = values[row] / (values[row] + limit)
        truth = "anomalous" if is_anomalous[row] else "normal"
        top.set_title(f"{truth}, said {confidence:.2f}", fontsize=8)
        for axes in (top, below):
            axes.set_axis_off()
    axes = figure.add_subplot(grid[2, :])
    bins = np.linspace(0, max(float(values.max()), limit) * 1.02, 40)
    axes.hist(values[~is_anomalous], bins, color=NORMAL, alpha=0.7, label="held-out normal")
    if is_anomalous.any():
        axes.hist(values[is_anomalous], bins, color=ANOMALOUS, alpha=0.7, label="anomalous")
    axes.axvline(limit, color="0.2", lw=1)
    axes.set(xlabel="raw value", ylabel="pictures")
    axes.set_title(f"limit for a false-alarm rate of {rate:g}", fontsize=9)
    axes.legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90, metadata={"Software": None})
    write_bytes(path, buffer.getvalue())


def _heat(
    network: AnomalyForExport, image: NDArray[np.uint8], spec: ImageInput
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The picture as the network sees it, and with its map laid over."""
    batch, _ = make_batch([image], spec)
    with torch.inference_mode():
        heat = network(torch.from_numpy(batch))[2][0].numpy()
    placed, _ = place_image(image, spec)
    size = (placed.shape[1], placed.shape[0])
    large = np.clip(cv2.resize(heat, size, interpolation=cv2.INTER_LINEAR), 0, 1)
    colour = cv2.applyColorMap((large * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    return placed, np.asarray(cv2.addWeighted(placed, 0.5, colour, 0.5, 0), np.uint8)
