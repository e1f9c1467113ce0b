"""Commands of ``visionloop data``: synthesise."""

from __future__ import annotations

import typer

from visionloop.core.cli import WorkspaceOption
from visionloop.core.progress import say_done
from visionloop.core.workspace import find_workspace

__all__ = ["app"]

app = typer.Typer()


@app.command("synthesise")
def synthesise_command(workspace: WorkspaceOption = None) -> None:
    """Make the samples that data.synthesise asks for, from annotated samples of train."""
    from visionloop.data.synthesis.synthesise import synthesise

    place = find_workspace(workspace)
    report = synthesise(workspace=place)
    print(", ".join(f"{name} {count}" for name, count in report.recipes.items()) or "no recipe")
    made = f"{report.added} samples made, {report.known} were there, {report.removed} removed"
    say_done(made, place.reports / "synthesise" / "index.html", "visionloop data split")
