"""Commands of ``visionloop data``: check, label-issues."""

from __future__ import annotations

from typing import Annotated

import typer

from visionloop.core.cli import WorkspaceOption
from visionloop.core.progress import say_done
from visionloop.core.workspace import find_workspace

__all__ = ["app"]

app = typer.Typer()


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


@app.command("label-issues")
def label_issues_command(workspace: WorkspaceOption = None) -> None:
    """Find doubtful annotations for a second look."""
    from visionloop.data.quality.label_issues import find

    place = find_workspace(workspace)
    report = find(workspace=place)
    made = f"{report.findings} doubtful annotations of {report.suspects} looked at"
    say_done(made, place.root / "data" / "findings.parquet", "visionloop label issues")
