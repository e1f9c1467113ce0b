"""Commands of ``visionloop data``: split."""

from __future__ import annotations

import typer

from visionloop.core.cli import WorkspaceOption
from visionloop.core.progress import say_done
from visionloop.core.workspace import find_workspace

__all__ = ["app"]

app = typer.Typer()


@app.command("split")
def split_command(workspace: WorkspaceOption = None) -> None:
    """Share samples out over train, val and test by group."""
    from visionloop.data.splits.split import split

    place = find_workspace(workspace)
    report = split(workspace=place)
    print(", ".join(f"{name} {count}" for name, count in report.counts.items()))
    print(f"groups: {report.groups}, the largest of {report.largest_group}; crossing: 0")
    say_done("splits", place.root / "data" / "splits.parquet", "visionloop data freeze")
