"""Commands of ``visionloop data``: freeze, diff, verify."""

from __future__ import annotations

from typing import Annotated

import typer

from visionloop.core.cli import WorkspaceOption
from visionloop.core.progress import say_done
from visionloop.core.workspace import find_workspace

__all__ = ["app"]

app = typer.Typer()


@app.command("freeze")
def freeze_command(
    workspace: WorkspaceOption = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="overwrite a version of this name")
    ] = False,
) -> None:
    """Freeze what is annotated now as the dataset version of params.yaml."""
    from visionloop.data.versions.freeze import freeze

    place = find_workspace(workspace)
    report = freeze(workspace=place, replace=replace)
    print(", ".join(f"{name} {count}" for name, count in report.splits.items()))
    state = "was frozen already" if report.unchanged else "frozen"
    made = f"{report.name} {state}, {report.samples} samples, fingerprint {report.fingerprint[:12]}"
    say_done(made, place.version(report.name), "visionloop train train")


@app.command("diff")
def diff_command(
    first: Annotated[str, typer.Argument(help="older dataset version")],
    second: Annotated[str, typer.Argument(help="newer dataset version")],
    workspace: WorkspaceOption = None,
) -> None:
    """Show what changed between two dataset versions."""
    from visionloop.data.versions.diff import diff, render_diff

    place = find_workspace(workspace)
    report = diff(first, second, workspace=place)
    print(render_diff(report))
    say_done("difference", place.reports / "diff" / f"{first}-{second}.json")


@app.command("verify")
def verify_command(workspace: WorkspaceOption = None) -> None:
    """Hash every image again and compare every version with its fingerprint."""
    from visionloop.core.errors import DataError
    from visionloop.data.versions.verify import verify

    place = find_workspace(workspace)
    report = verify(workspace=place)
    if report.problems:
        next_step = "restore them with 'dvc checkout', or import again"
        raise DataError("data", list(report.problems), next_step)
    say_done(f"{report.images} images and {report.versions} versions are intact", place.raw)
