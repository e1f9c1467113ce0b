"""``visionloop monitor``: windows of production, drift between them, what to annotate next."""

from __future__ import annotations

from typing import Annotated

import typer

from visionloop.core.cli import WorkspaceOption, new_app
from visionloop.core.progress import say_done
from visionloop.core.workspace import find_workspace

__all__ = ["app"]

app = new_app("Windows of production, drift between them, what to annotate next.")


@app.command()
def summarise(
    workspace: WorkspaceOption = None,
    window: Annotated[
        str, typer.Option(help="one window: its name; default: all of params.yaml")
    ] = "",
    where: Annotated[
        list[str] | None, typer.Option(help="column=value a frame must have; may be repeated")
    ] = None,
    captured_from: Annotated[str, typer.Option(help="first moment inside, RFC 3339")] = "",
    captured_before: Annotated[str, typer.Option(help="first moment outside, RFC 3339")] = "",
    first_sequence: Annotated[int | None, typer.Option(help="first frame number inside")] = None,
    last_sequence: Annotated[int | None, typer.Option(help="last frame number inside")] = None,
) -> None:
    """Write the windows of params.yaml, or one that is described here, from the edge's records."""
    from visionloop.monitoring.summarise import define_windows
    from visionloop.monitoring.summarise import summarise as run

    place = find_workspace(workspace)
    windows = define_windows(
        place,
        name=window,
        where=where or [],
        captured_from=captured_from,
        captured_before=captured_before,
        first_sequence=first_sequence,
        last_sequence=last_sequence,
    )
    report = run(workspace=place, windows=windows)
    for name, count in report.frames.items():
        print(f"{name}: {count} frames ({report.new[name]} new)")
    say_done("windows", report.folder, "visionloop monitor drift")


@app.command()
def drift(
    workspace: WorkspaceOption = None,
    reference: Annotated[str, typer.Option(help="window that shows how it should be")] = "",
    current: Annotated[str, typer.Option(help="window that is judged")] = "",
) -> None:
    """Compare two windows (embeddings, light, answers); the verdict is in drift.json."""
    from visionloop.monitoring.drift import drift as run

    report = run(workspace=find_workspace(workspace), reference=reference, current=current)
    print(report.sentence)
    say_done("drift report", report.page, "visionloop monitor feedback" if report.is_drift else "")


@app.command()
def feedback(workspace: WorkspaceOption = None) -> None:
    """After drift: ask for annotations of the current window, the most useful frames first."""
    from visionloop.monitoring.feedback import feedback as run

    report = run(workspace=find_workspace(workspace))
    print(report.sentence)
    say_done("requests", report.path, "visionloop label select" if report.requests else "")
