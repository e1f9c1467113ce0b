"""Command line of the data stage: ``visionloop data ...``."""

from __future__ import annotations

from typing import Annotated

import typer

from visionloop.core.cli import WorkspaceOption, new_app
from visionloop.core.progress import say_done
from visionloop.core.workspace import find_workspace

__all__ = ["app"]

app = new_app("Collect, import, check, split, freeze, embed: from images to dataset versions.")


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


@app.command("collect")
def collect_command(workspace: WorkspaceOption = None) -> None:
    """Bring the frames that the edge kept into data/raw."""
    from visionloop.data.collection.collect import collect

    place = find_workspace(workspace)
    report = collect(workspace=place)
    made = f"{report.added} frames collected, {report.known} were there, {report.gone} have no file"
    say_done(made, place.raw, "visionloop data embed")


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


@app.command("split")
def split_command(workspace: WorkspaceOption = None) -> None:
    """Share samples out over train, val and test by group."""
    from visionloop.data.splits.split import split

    place = find_workspace(workspace)
    report = split(workspace=place)
    print(", ".join(f"{name} {count}" for name, count in report.counts.items()))
    print(f"groups: {report.groups}, the largest of {report.largest_group}; crossing: 0")
    say_done("splits", place.root / "data" / "splits.parquet", "visionloop data freeze")


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


@app.command("embed")
def embed_command(workspace: WorkspaceOption = None) -> None:
    """Compute the embeddings that are missing, with the backbone package."""
    from visionloop.data.embeddings import embed

    place = find_workspace(workspace)
    report = embed(workspace=place)
    made = f"{report.computed} embeddings computed, {report.total} in all, {report.dimension} long"
    say_done(made, place.embeddings, "visionloop data split")


@app.command("label-issues")
def label_issues_command(workspace: WorkspaceOption = None) -> None:
    """Find doubtful annotations for a second look."""
    from visionloop.data.quality.label_issues import find

    place = find_workspace(workspace)
    report = find(workspace=place)
    made = f"{report.findings} doubtful annotations of {report.suspects} looked at"
    say_done(made, place.root / "data" / "findings.parquet", "visionloop label issues")
