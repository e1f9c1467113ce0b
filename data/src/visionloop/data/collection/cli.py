"""Commands of ``visionloop data``: collect."""

from __future__ import annotations

import typer

from visionloop.core.cli import WorkspaceOption
from visionloop.core.progress import say_done
from visionloop.core.workspace import find_workspace

__all__ = ["app"]

app = typer.Typer()


@app.command("collect")
def collect_command(workspace: WorkspaceOption = None) -> None:
    """Bring the frames that the edge kept into data/raw."""
    from visionloop.data.collection.collect import collect

    place = find_workspace(workspace)
    report = collect(workspace=place)
    made = f"{report.added} frames collected, {report.known} were there, {report.gone} have no file"
    say_done(made, place.raw, "visionloop data embed")
