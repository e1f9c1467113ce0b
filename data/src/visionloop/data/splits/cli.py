"""Commands of ``visionloop data``: split, leaks."""

from __future__ import annotations

from typing import Annotated

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
    print(f"proof: {place.reports / 'split' / 'index.html'}")
    say_done("splits", place.root / "data" / "splits.parquet", "visionloop data freeze")


@app.command("leaks")
def leaks_command(
    workspace: WorkspaceOption = None,
    official: Annotated[
        bool, typer.Option("--official", help="judge the data set's own split, not ours")
    ] = False,
    group: Annotated[
        str,
        typer.Option(
            "--group", help=r"a column made for this report: 'board=original_name:(\d{5})\d{3}'"
        ),
    ] = "",
    write_verdict_only: Annotated[
        bool, typer.Option("--write-verdict-only", help="exit 0 on a leak; leaks.json says it")
    ] = False,
) -> None:
    """Which held-back samples are tied to training; exit code 3 if any is."""
    from visionloop.core.errors import RefusedError
    from visionloop.data.splits.leaks import leaks, parse_group

    place = find_workspace(workspace)
    derived = parse_group(group) if group else None
    report = leaks(workspace=place, judged="official" if official else "current", derived=derived)
    page = place.reports / "leaks" / "index.html"
    told = [
        f"{report.leaking[side]} of {report.counts[side]} samples of {side} ({share:.1%}) are tied "
        "to training"
        for side, share in report.shares.items()
        if share
    ]
    if not report.is_tight and not told:
        told = [f"{report.crossing_groups} groups are in val and in test"]
    if told and not write_verdict_only:
        raise RefusedError(f"{report.judged} split", told, f"look at {page}")
    print("\n".join(told) or f"{report.groups} groups, none crosses")
    say_done("leak report", page, "visionloop data split")
