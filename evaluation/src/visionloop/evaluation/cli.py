"""Commands of ``visionloop evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visionloop.core.cli import WorkspaceOption, new_app
from visionloop.core.errors import RefusedError
from visionloop.core.progress import say_done
from visionloop.core.workspace import find_workspace

__all__ = ["app"]

app = new_app("Measure the package that will be shipped, judge it by targets.yaml, promote it.")


@app.command()
def evaluate(workspace: WorkspaceOption = None) -> None:
    """Measure the package on the test samples: metrics with intervals, slices, latency."""
    from visionloop.evaluation.evaluate import evaluate as run

    report = run(workspace=find_workspace(workspace))
    part, name = report.evaluation.guarded, report.evaluation.metric
    estimate = part.metrics.get(name)
    if estimate is None or estimate.value is None or not part.enough:
        said = f"not enough data: {part.why}"
    else:
        said = f"{name} {estimate.value:.3f}"
        if estimate.low is not None and estimate.high is not None:
            said += f" ({estimate.low:.3f} to {estimate.high:.3f})"
    say_done(f"evaluation, {said}", report.folder, "visionloop evaluate robustness")


@app.command()
def robustness(
    workspace: WorkspaceOption = None,
    budget: Annotated[
        int | None,
        typer.Option(help="answers to spend in all: a quick look, which no gate takes", min=1),
    ] = None,
) -> None:
    """Measure the package in bad light, blur, noise and under occlusion."""
    from visionloop.evaluation.robustness import robustness as run

    report = run(workspace=find_workspace(workspace), budget=budget)
    measured = report.robustness
    for row in measured.subset_errors:
        typer.echo(
            f"  {row.samples} of {measured.samples} samples: mPC off by {row.mean:.4f}, "
            f"at most {row.high:.4f} nineteen times in twenty"
        )
    said = "worst case"
    if measured.worst is not None:
        said += f", {measured.metric} {measured.worst:.3f} under {measured.worst_condition}"
    say_done(said, report.folder, "visionloop evaluate gate")


@app.command()
def alarms(
    footage: Annotated[
        list[Path] | None,
        typer.Argument(help="videos, or folders of them, in which nothing happens"),
    ] = None,
    day: Annotated[bool, typer.Option(help="also a made day of 24 hours")] = True,
    workspace: WorkspaceOption = None,
) -> None:
    """Count false alarms on footage where nothing happens and on a made day; name thresholds."""
    from visionloop.evaluation.false_alarms import alarms as run

    place = find_workspace(workspace)
    report = run(workspace=place, footage=footage or [], with_day=day)
    for row in [*report.footage, *report.made_day]:
        typer.echo(f"  {row.verdict:<16} {row.rule}, {row.name}: {row.why}")
    for one in report.thresholds:
        typer.echo(f"  {one.rule}: minimum_confidence {one.minimum_confidence:.3f}, {one.why}")
    say_done("false alarms", place.reports / "alarms", "serving.edge.rules takes the thresholds")


@app.command()
def gate(
    workspace: WorkspaceOption = None,
    write_verdict_only: Annotated[
        bool,
        typer.Option(
            "--write-verdict-only",
            help="end with 0 when refused: for DVC and Kubeflow, where the next stage refuses",
        ),
    ] = False,
) -> None:
    """Judge the package by targets.yaml and sign the verdict; ends with 3 when refused."""
    from visionloop.evaluation.gate import gate as run

    place = find_workspace(workspace)
    report = run(workspace=place)
    folder = place.reports / "gate"
    for check in report.checks:
        typer.echo(f"  {check.verdict:<16} {check.name}: {check.why}")
    if report.verdict == "refused" and not write_verdict_only:
        raise RefusedError(
            f"package {report.package_sha256[:12]}", report.reasons, f"see {folder / 'gate.html'}"
        )
    next_step = "visionloop evaluate promote" if report.verdict == "passed" else ""
    say_done(f"gate, {report.verdict}", folder, next_step)


@app.command()
def waive(
    check: Annotated[str, typer.Option(help="name of the check as the gate prints it")],
    reason: Annotated[str, typer.Option(help="one sentence: why this may ship all the same")],
    author: Annotated[str, typer.Option(help="who answers for it")],
    days: Annotated[int, typer.Option(help="until it expires, 1 to 365")],
    slice_name: Annotated[
        str, typer.Option("--slice", help="column=value, for --check slice or champion")
    ] = "",
    every_package: Annotated[
        bool, typer.Option("--every-package", help="also for packages to come")
    ] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Answer for one check of the gate until a day: a signed file with the reason."""
    from visionloop.evaluation.waivers import waive as run

    path = run(
        workspace=find_workspace(workspace),
        check=check,
        reason=reason,
        author=author,
        days=days,
        slice_name=slice_name,
        every_package=every_package,
    )
    say_done("waiver", path, "visionloop evaluate gate")


@app.command()
def latency(
    device: Annotated[str, typer.Option(help="profile of targets.yaml, latency.devices")],
    backend: Annotated[str, typer.Option(help="onnxruntime or tensorrt")] = "onnxruntime",
    images: Annotated[int, typer.Option(help="test pictures that are timed", min=20)] = 100,
    workspace: WorkspaceOption = None,
) -> None:
    """Time the package on this device, for the gate's limit of its profile."""
    from visionloop.evaluation.latency import latency as run

    path, measured = run(
        workspace=find_workspace(workspace), device=device, backend=backend, images=images
    )
    say_done(f"latency, p95 {measured.p95_ms:.1f} ms", path, "visionloop evaluate gate")


@app.command()
def card(workspace: WorkspaceOption = None) -> None:
    """Write the model card: one page with everything known about the package."""
    from visionloop.evaluation.card import card as run

    report = run(workspace=find_workspace(workspace))
    say_done("model card", report.page, "visionloop evaluate promote")


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="evaluation folder of the model in use")],
    second: Annotated[Path, typer.Argument(help="evaluation folder of the candidate")],
    workspace: WorkspaceOption = None,
) -> None:
    """Compare two evaluations on the same samples: verdict, and regressions by slice."""
    from visionloop.evaluation.compare import compare as run

    report = run(workspace=find_workspace(workspace), first=first, second=second)
    for row in report.comparison.rows:
        typer.echo(f"  {row.verdict:<20} {row.name}: {row.why}")
    if worse := report.comparison.regressions:
        typer.echo(f"  worse on: {', '.join(worse)}")
    say_done(f"comparison, second: {report.comparison.verdict}", report.path)


@app.command()
def promote(workspace: WorkspaceOption = None) -> None:
    """Register the package in MLflow and set its alias; ends with 3 unless its gate passed."""
    from visionloop.evaluation.promotion import promote as run

    report = run(workspace=find_workspace(workspace))
    say_done(
        f"version {report.version} of {report.model}, alias {' and '.join(report.aliases)}",
        report.run_id,
        "visionloop watch --once",
    )
