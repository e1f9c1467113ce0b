"""Files of a search: a table of its trials and a picture."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from visionloop.core.files import write_bytes, write_text
from visionloop.training.search.params import SearchParams

__all__ = ["write_search_report"]

ACCENT, MUTED = "#0072B2", "0.65"


def write_search_report(
    folder: Path, trials: Sequence[FrozenTrial], wanted: SearchParams, best: FrozenTrial
) -> None:
    """Write ``trials.csv`` and ``search.png`` (also the input of ``dvc plots``)."""
    names = list(wanted.space)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["trial", "state", wanted.metric, *names, "seconds", "reason"])
    for one in trials:
        value = "" if one.state != TrialState.COMPLETE else one.value
        seconds = one.duration.total_seconds() if one.duration else 0.0
        numbers = [one.params.get(name, "") for name in names]
        reason = str(one.user_attrs.get("reason", ""))
        writer.writerow(
            [one.number, one.state.name.lower(), value, *numbers, f"{seconds:.1f}", reason]
        )
    write_text(folder / "trials.csv", buffer.getvalue())
    write_bytes(folder / "search.png", _draw(trials, wanted, best))


def _draw(trials: Sequence[FrozenTrial], wanted: SearchParams, best: FrozenTrial) -> bytes:
    """The value by trial with the best so far, then the value by each number."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = 1 + len(wanted.space)
    columns = min(3, panels)
    lines = -(-panels // columns)
    figure: Any = Figure(figsize=(4 * columns, 3.2 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(lines, columns, number + 1) for number in range(panels)]
    whole = [one for one in trials if one.state == TrialState.COMPLETE]
    _draw_history(axes[0], trials, whole, wanted)
    for panel, (name, row) in zip(axes[1:], wanted.space.items(), strict=True):
        _draw_number(panel, whole, name, best)
        if row.log:
            panel.set_xscale("log")
    for panel in axes:
        panel.set_ylabel(wanted.metric)
        panel.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return buffer.getvalue()


def _draw_history(
    axes: Any, trials: Sequence[FrozenTrial], whole: Sequence[FrozenTrial], wanted: SearchParams
) -> None:
    places = {one.number: place + 1 for place, one in enumerate(trials)}
    x = [places[one.number] for one in whole]
    values = [float(one.value or 0.0) for one in whole]
    better = min if wanted.direction == "minimize" else max
    axes.plot(x, values, "o", color=MUTED, ms=4, label="trial")
    axes.step(
        x, list(itertools.accumulate(values, better)), where="post", color=ACCENT, label="best"
    )
    for one in trials:
        if one.state != TrialState.COMPLETE:
            axes.axvline(places[one.number], color=MUTED, lw=0.6, ls=":")
    axes.set(xlabel="trial (dotted: stopped early, or failed)", title=f"study {wanted.name}")
    axes.legend(fontsize=8)


def _draw_number(axes: Any, whole: Sequence[FrozenTrial], name: str, best: FrozenTrial) -> None:
    shown = [one for one in whole if name in one.params]
    # text, so that choices of any kind have a place of their own
    is_text = any(isinstance(one.params[name], str | bool) for one in shown)
    x = [str(one.params[name]) if is_text else one.params[name] for one in shown]
    axes.plot(x, [one.value for one in shown], "o", color=MUTED, ms=4)
    chosen = best.params[name]
    axes.plot([str(chosen) if is_text else chosen], [best.value], "o", color=ACCENT, ms=7)
    axes.set_xlabel(name)
