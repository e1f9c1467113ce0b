"""Commands of ``visionloop data``: import."""

from __future__ import annotations

import typer

from visionloop.core.cli import WorkspaceOption
from visionloop.core.progress import say_done
from visionloop.core.workspace import find_workspace

__all__ = ["app"]

app = typer.Typer()


@app.command("import")
def import_command(workspace: WorkspaceOption = None) -> None:
    """Bring the data set of params.yaml into data/raw, by content hash."""
    from visionloop.data.datasets.imports import import_samples

    place = find_workspace(workspace)
    report = import_samples(workspace=place)
    print(f"source: {report.source}")
    print("phases: " + ", ".join(f"{name} {count}" for name, count in report.phases.items()))
    if report.rejected:
        where = place.reports / "import" / "rejected.json"
        print(f"rejected: {report.rejected} files that are not usable images, listed in {where}")
    made = f"{report.added} samples added, {report.known} were there"
    say_done(made, place.raw, "visionloop data check")
