"""Commands of ``visionloop data``: synthesise, gallery."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    if report.without_place:
        made += f", {report.without_place} found no place for anything"
    say_done(made, place.reports / "synthesise" / "index.html", "visionloop data split")


@app.command("gallery")
def gallery_command(
    image: Annotated[
        Path | None, typer.Option("--image", help="a PNG or JPEG; without it a board is drawn")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="decides where drops and patches lie")] = 0,
    workspace: WorkspaceOption = None,
) -> None:
    """Show every condition at every severity on one picture."""
    from visionloop.data.synthesis.gallery import gallery

    place = find_workspace(workspace)
    report = gallery(workspace=place, image=image, seed=seed)
    made = f"{report.conditions} conditions, {report.pictures} pictures"
    say_done(made, place.reports / "gallery" / "index.html")
