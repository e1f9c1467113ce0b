"""``drift``: compare a current window with the reference, say what changed, show it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from visionloop.core.config import ProjectParams, load_blocks
from visionloop.core.files import write_bytes, write_json, write_text
from visionloop.core.progress import say_step
from visionloop.core.targets import load_targets
from visionloop.core.workspace import Workspace
from visionloop.monitoring.evidently_report import write_evidently_report, write_placeholder
from visionloop.monitoring.families import Decision, FamilyDecision, compare_windows
from visionloop.monitoring.null import NullDraws, null_draws
from visionloop.monitoring.page import choose_pictures, render_page, show_p_value
from visionloop.monitoring.params import DriftParams, MonitoringParams
from visionloop.monitoring.plots import (
    Figure,
    draw_embeddings,
    draw_image_statistics,
    draw_predictions,
)
from visionloop.monitoring.windows import Window, load_window

__all__ = ["DriftReport", "drift"]


@dataclass(frozen=True)
class DriftReport:
    """The verdict and where it is written.

    Attributes
    ----------
    is_drift : bool
    verdict : str
        ``drift``, ``steady`` or ``insufficient data``.
    p_value : float or None
        Smallest p-value of the families after correction.
    sentence : str
        What changed, for a person.
    null_false_alarms, null_draws : int
    report, page, evidently : Path
        ``drift.json``, ``index.html``, ``evidently.html``.
    """

    is_drift: bool
    verdict: str
    p_value: float | None
    sentence: str
    null_false_alarms: int
    null_draws: int
    report: Path
    page: Path
    evidently: Path


def drift(*, workspace: Workspace, reference: str = "", current: str = "") -> DriftReport:
    """Compare two windows and write ``reports/drift/``: JSON, page, plots, Evidently.

    The verdict is in ``drift.json``: drift is a finding, not a failure.

    Parameters
    ----------
    reference, current : str
        Names of windows; empty takes those of ``params.yaml``.

    Raises
    ------
    DataError
        If a window was not summarised or is damaged.
    """
    loaded = load_blocks(
        workspace.params, {"project": ProjectParams, "monitoring": MonitoringParams}
    )
    params: DriftParams = loaded["monitoring"].drift
    seed = loaded["project"].seed
    alpha = load_targets(workspace.targets).monitoring.drift_alpha
    first = load_window(workspace, reference or params.reference)
    second = load_window(workspace, current or params.current)
    decision = compare_windows(first, second, params=params, alpha=alpha, seed=seed)
    say_step(f"{params.null_draws} random halves of window {first.name}")
    null = null_draws(first, params=params, alpha=alpha, n=params.null_draws, seed=seed)
    content = _content(first, second, decision, null, params)
    folder = workspace.reports / "drift"
    _write_page(workspace, folder, content, first, second, decision, params)
    write_json(folder / "drift.json", content)
    evidently = _write_evidently(folder / "evidently.html", first, second, params)
    return DriftReport(
        is_drift=decision.is_drift,
        verdict=decision.verdict,
        p_value=decision.p_value,
        sentence=content["sentence"],
        null_false_alarms=null.false_alarms,
        null_draws=null.draws,
        report=folder / "drift.json",
        page=folder / "index.html",
        evidently=evidently,
    )


def _content(
    reference: Window, current: Window, decision: Decision, null: NullDraws, params: DriftParams
) -> dict[str, Any]:
    """What ``drift.json`` holds."""
    return {
        "verdict": decision.verdict,
        "is_drift": decision.is_drift,
        "p_value": decision.p_value,
        "alpha": decision.alpha,
        "sentence": _sentence(reference, current, decision),
        "reference": _window_content(reference),
        "current": _window_content(current),
        "families": {family.name: asdict(family) for family in decision.families},
        "null_draws": null.draws,
        "null_false_alarms": null.false_alarms,
        "null": asdict(null),
        "permutations": params.permutations,
        "features": params.random_features,
    }


def _window_content(window: Window) -> dict[str, Any]:
    first, last = window.span()
    return {
        "name": window.name,
        "frames": len(window),
        "first": first,
        "last": last,
        "packages": [package[:12] for package in window.packages()],
        "cameras": sorted({str(camera) for camera in window.frames["camera"]}),
    }


def _sentence(reference: Window, current: Window, decision: Decision) -> str:
    sizes = f"({len(reference)} and {len(current)} frames)"
    pair = f"{current.name} against {reference.name} {sizes}"
    if decision.verdict == "insufficient data":
        notes = "; ".join(dict.fromkeys(f.note or f.status for f in decision.families))
        return f"No verdict on {pair}: {notes}."
    parts = [_family_phrase(family) for family in decision.families if family.status == "drift"]
    others = [f"{_plain(one)} {one.status}" for one in decision.families if one.status != "drift"]
    rest = f" Besides: {', '.join(others)}." if others else ""
    if not parts:
        return f"No drift in {pair}: {show_p_value(decision.p_value)} after correction.{rest}"
    return f"Drift in {pair}: {'; '.join(parts)}.{rest}"


def _family_phrase(family: FamilyDecision) -> str:
    """The family, its p-value, and the column that moved most."""
    known = [test for test in family.tests if test.p_value is not None]
    strongest = min(known, key=lambda test: test.p_value or 0.0)
    moved = ""
    if strongest.reference is not None and strongest.current is not None:
        name = strongest.name.replace("probability_", "probability of ")
        moved = f", {name} {strongest.reference:.3g} → {strongest.current:.3g}"
    return f"{_plain(family)} ({show_p_value(family.adjusted_p_value)}{moved})"


def _plain(family: FamilyDecision) -> str:
    return family.name.replace("_", " ")


def _write_page(
    workspace: Workspace,
    folder: Path,
    content: dict[str, Any],
    reference: Window,
    current: Window,
    decision: Decision,
    params: DriftParams,
) -> None:
    first, second = reference.thinned(params.max_frames), current.thinned(params.max_frames)
    figures: dict[str, Figure] = {
        "embeddings": draw_embeddings(first, second),
        "image_statistics": draw_image_statistics(first, second),
        "predictions": draw_predictions(first, second),
    }
    for name, figure in figures.items():
        write_bytes(folder / f"{name}.png", figure.light)
    pictures = choose_pictures(workspace, first, second, params.pictures)
    page = render_page(content, families=decision.families, figures=figures, pictures=pictures)
    write_text(folder / "index.html", page)


def _write_evidently(path: Path, reference: Window, current: Window, params: DriftParams) -> Path:
    if not params.evidently:
        return write_placeholder(path, "switched off in params.yaml (monitoring.drift.evidently)")
    if min(len(reference), len(current)) < params.min_frames:
        return write_placeholder(path, "insufficient data")
    say_step("Evidently report (its import takes some seconds)")
    return write_evidently_report(
        path, reference.thinned(params.max_frames), current.thinned(params.max_frames)
    )
