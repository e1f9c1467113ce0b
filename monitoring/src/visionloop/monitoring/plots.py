"""Pictures of two windows: where they differ. Each is drawn for light and for dark pages."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionloop.core.image_statistics import STATISTIC_NAMES
from visionloop.monitoring.novelty import Novelty, measure_novelty
from visionloop.monitoring.windows import PROBABILITY_PREFIX, Window, common_embeddings

__all__ = ["Figure", "draw_embeddings", "draw_image_statistics", "draw_predictions"]

REFERENCE_COLOUR = "#3b82c4"
CURRENT_COLOUR = "#e8853a"
INK = {"light": "#24292f", "dark": "#d7dce2"}
PAPER = {"light": "#ffffff", "dark": "#161b22"}


@dataclass(frozen=True)
class Figure:
    """One picture as PNG bytes, for light and for dark pages."""

    light: bytes
    dark: bytes


def draw_embeddings(reference: Window, current: Window) -> Figure:
    """Map of both windows (two principal components) and distances to the reference."""
    pair = common_embeddings(reference, current)
    if pair is None:
        return _message("no embeddings of one package in both windows")
    first, second = pair
    if min(len(first.rows), len(second.rows)) < 2:
        return _message("too few embeddings")
    places = _principal_components(np.concatenate([first.vectors, second.vectors]))
    novelty = measure_novelty(first.vectors, second.vectors)

    def fill(axes: Any) -> None:
        size = len(first.rows)
        for part, window, colour in (
            (places[:size], reference, REFERENCE_COLOUR),
            (places[size:], current, CURRENT_COLOUR),
        ):
            axes[0].scatter(*part.T, s=9, alpha=0.65, color=colour, lw=0, label=window.name)
        axes[0].set_title("map of the embeddings (two principal components)")
        axes[0].set(xticks=[], yticks=[])
        axes[0].legend(frameon=False)
        _fill_novelty(axes[1], novelty, reference.name, current.name)

    return _draw(fill, 2)


def draw_image_statistics(reference: Window, current: Window) -> Figure:
    """Histograms of luminance, contrast, blur and noise."""

    def fill(axes: Any) -> None:
        for axis, name in zip(axes, STATISTIC_NAMES, strict=True):
            _histogram(axis, name, reference.numbers(name), current.numbers(name))
        axes[0].legend([reference.name, current.name], frameon=False)

    return _draw(fill, len(STATISTIC_NAMES))


def draw_predictions(reference: Window, current: Window) -> Figure:
    """What the model answered: probabilities or boxes, and how often each class."""
    names = reference.columns(PROBABILITY_PREFIX)
    # Of two classes one probability says it all; of more the last two show the change.
    names = names[-2 if len(names) > 2 else -1 :] or ["boxes", "confidence"]

    def fill(axes: Any) -> None:
        for axis, name in zip(axes, names, strict=False):
            title = name.replace(PROBABILITY_PREFIX, "probability of ")
            _histogram(axis, title, reference.numbers(name), current.numbers(name))
        axes[0].legend([reference.name, current.name], frameon=False)
        _fill_class_mix(axes[len(names)], reference, current)

    return _draw(fill, len(names) + 1)


def _fill_novelty(axis: Any, novelty: Novelty, reference: str, current: str) -> None:
    _histogram(axis, "distance to the nearest reference frames", novelty.reference, novelty.current)
    limit = float(np.quantile(novelty.reference, 0.95))
    axis.axvline(limit, color="#8b949e", lw=1, ls="--")
    axis.set_xlabel(f"{100 * novelty.share_beyond():.0f} % of {current} beyond 95 % of {reference}")


def _fill_class_mix(axis: Any, reference: Window, current: Window) -> None:
    first, classes = reference.class_counts()
    second, others = current.class_counts()
    if not classes or classes != others:
        axis.set_title("class mix: not comparable")
        axis.set_axis_off()
        return
    places = np.arange(len(classes))
    for counts, shift, colour in ((first, -0.2, REFERENCE_COLOUR), (second, 0.2, CURRENT_COLOUR)):
        share = counts.sum(axis=0) / max(1, counts.sum())
        axis.bar(places + shift, share * 100, width=0.38, color=colour)
    axis.set_xticks(places, classes, rotation=30 if len(classes) > 3 else 0)
    axis.set_title("predicted classes, % of all")


def _histogram(axis: Any, title: str, first: Any, second: Any) -> None:
    """Shares of each window in common bins; says so where a window lacks the values."""
    axis.set_title(title)
    parts = [
        np.zeros(0) if part is None else np.asarray(part, np.float64) for part in (first, second)
    ]
    parts = [part[np.isfinite(part)] for part in parts]
    if not all(len(part) for part in parts):
        axis.text(0.5, 0.5, "missing", ha="center", transform=axis.transAxes)
        axis.set(xticks=[], yticks=[])
        return
    low, high = np.percentile(np.concatenate(parts), [0.5, 99.5])
    if high <= low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, 31)
    for part, colour in zip(parts, (REFERENCE_COLOUR, CURRENT_COLOUR), strict=True):
        share = np.full(len(part), 100 / len(part))
        axis.hist(np.clip(part, low, high), bins=edges, weights=share, color=colour, alpha=0.62)
    axis.set_yticks([])


def _principal_components(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """First two principal components of standardised columns, (N, 2)."""
    deviation = vectors.std(axis=0)
    centred = (vectors - vectors.mean(axis=0)) / np.where(deviation > 1e-9, deviation, 1)
    _, directions = np.linalg.eigh((centred @ centred.T).astype(np.float64))
    return np.asarray(directions[:, [-1, -2]], np.float64)


def _message(text: str) -> Figure:
    def fill(axes: Any) -> None:
        axes[0].text(0.5, 0.5, text, ha="center", va="center", transform=axes[0].transAxes)
        axes[0].set_axis_off()

    return _draw(fill, 1)


def _draw(fill: Callable[[Any], None], panels: int) -> Figure:
    return Figure(_render(fill, panels, "light"), _render(fill, panels, "dark"))


def _render(fill: Callable[[Any], None], panels: int, theme: str) -> bytes:
    from matplotlib import rc_context
    from matplotlib.figure import Figure as Canvas

    ink, paper = INK[theme], PAPER[theme]
    style: Any = {
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.edgecolor": "#8b949e",
        "axes.facecolor": paper,
        "figure.facecolor": paper,
        "xtick.color": ink,
        "ytick.color": ink,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.titlesize": 10,
        "font.size": 9,
    }
    with rc_context(style):
        canvas = Canvas(figsize=(11, 2.9), layout="constrained")
        fill(np.atleast_1d(canvas.subplots(1, panels)))
        buffer = io.BytesIO()
        # No creation date or version in the file: the same windows give the same bytes.
        canvas.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    return buffer.getvalue()
