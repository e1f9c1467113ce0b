"""Commands of ``visionloop data``: check, exclude, relabel, label-issues."""

from __future__ import annotations

from typing import Annotated

import typer

from visionloop.core.cli import WorkspaceOption
from visionloop.core.progress import say_done
from visionloop.core.workspace import find_workspace

__all__ = ["app"]

app = typer.Typer()

Names = Annotated[
    list[str] | None,
    typer.Argument(help="findings of the last check, or samples (8 digits or more of their id)"),
]
Kinds = Annotated[
    list[str] | None, typer.Option("--kind", help="all findings of this kind; may be repeated")
]


@app.command("check")
def check_command(
    workspace: WorkspaceOption = None,
    write_verdict_only: Annotated[
        bool, typer.Option("--write-verdict-only", help="exit 0 on a breach; check.json says it")
    ] = False,
) -> None:
    """Check samples and annotations against the contract; exit code 3 on a breach."""
    from visionloop.core.errors import RefusedError
    from visionloop.data.quality.contract import check

    place = find_workspace(workspace)
    report = check(workspace=place)
    page = place.reports / "check" / "index.html"
    for name, count in report.counts.items():
        print(f"{name}: {count}")
    if report.breaches and not write_verdict_only:
        raise RefusedError("data contract", list(report.breaches), f"look at {page}")
    verdict = "kept" if report.is_passed else f"broken in {len(report.breaches)} points"
    made = f"contract {verdict}, {len(report.findings)} findings"
    say_done(made, page, "visionloop data split")


@app.command("exclude")
def exclude_command(
    names: Names = None,
    kind: Kinds = None,
    reason: Annotated[str, typer.Option("--reason", help="why; else the finding's own")] = "",
    take_back: Annotated[
        bool, typer.Option("--take-back", help="take these samples back in instead")
    ] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Leave samples out of every check and of what is frozen from now on."""
    from visionloop.data.quality import exclusions

    place = find_workspace(workspace)
    if take_back:
        report = exclusions.take_back(workspace=place, names=names or [])
        made = f"{report.changed} samples taken back, {report.total} excluded"
    else:
        report = exclusions.exclude(
            workspace=place, names=names or [], kinds=kind or [], reason=reason
        )
        made = f"{report.changed} samples excluded now, {report.total} in all"
    say_done(made, place.root / "data" / "exclusions.json", "visionloop data check")


@app.command("relabel")
def relabel_command(
    names: Names = None, kind: Kinds = None, workspace: WorkspaceOption = None
) -> None:
    """Put findings on the list that goes back to people for a second look."""
    from visionloop.data.quality.exclusions import relabel

    place = find_workspace(workspace)
    report = relabel(workspace=place, names=names or [], kinds=kind or [])
    made = f"{report.added} findings added, {report.total} on the list"
    say_done(made, place.root / "data" / "findings.parquet", "visionloop label issues")


@app.command("label-issues")
def label_issues_command(workspace: WorkspaceOption = None) -> None:
    """Find doubtful annotations for a second look."""
    from visionloop.data.quality.label_issues import find

    place = find_workspace(workspace)
    report = find(workspace=place)
    made = f"{report.findings} doubtful annotations of {report.suspects} looked at"
    say_done(made, place.root / "data" / "findings.parquet", "visionloop label issues")
