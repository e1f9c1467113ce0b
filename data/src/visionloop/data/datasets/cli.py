"""Commands of ``visionloop data``: import, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visionloop.core.cli import WorkspaceOption
from visionloop.core.errors import ConfigError
from visionloop.core.progress import say_done
from visionloop.core.workspace import Workspace, find_workspace

__all__ = ["app"]

app = typer.Typer()


@app.command("import")
def import_command(
    source: Annotated[
        Path | None,
        typer.Argument(help="folder, zip or tar; without one: what params.yaml names"),
    ] = None,
    format_name: Annotated[
        str, typer.Option("--format", help="row of the format table (default: guessed)")
    ] = "",
    classes: Annotated[
        str, typer.Option(help="from-source: write the source's classes into params.yaml")
    ] = "",
    camera: Annotated[str, typer.Option(help="camera of samples that do not say")] = "",
    site: Annotated[str, typer.Option(help="site of samples that do not say")] = "",
    on_error: Annotated[
        str, typer.Option(help="a wrong row: refuse (take in nothing) or skip (all but it)")
    ] = "refuse",
    workspace: WorkspaceOption = None,
) -> None:
    """Bring pictures and annotations into data/raw, by content hash."""
    place = find_workspace(workspace)
    if source is not None:
        _import_source(place, source, format_name, classes, camera, site, on_error)
    elif format_name or classes or camera or site or on_error != "refuse":
        raise ConfigError("import", "these options need a SOURCE", "name a folder or an archive")
    else:
        _import_dataset(place)


def _import_dataset(place: Workspace) -> None:
    from visionloop.data.datasets.imports import import_samples
    from visionloop.data.datasets.own_sources import import_own_sources

    own = import_own_sources(workspace=place)
    for one in own:
        print(f"{one.source}: {one.added} samples added, {one.known} were there, {one.format}")
    if own:
        say_done(f"{len(own)} sources of params.yaml", place.raw, "visionloop data check")
        return
    report = import_samples(workspace=place)
    print(f"source: {report.source}")
    print("phases: " + ", ".join(f"{name} {count}" for name, count in report.phases.items()))
    if report.rejected:
        where = place.reports / "import" / "rejected.json"
        print(f"rejected: {report.rejected} files that are not usable images, listed in {where}")
    made = f"{report.added} samples added, {report.known} were there"
    say_done(made, place.raw, "visionloop data check")


def _import_source(
    place: Workspace,
    source: Path,
    format_name: str,
    classes: str,
    camera: str,
    site: str,
    on_error: str,
) -> None:
    from visionloop.data.datasets.import_source import import_source

    if on_error not in ("refuse", "skip"):
        raise ConfigError("--on-error", f"'{on_error}' is not known", "write refuse or skip")
    report = import_source(
        workspace=place,
        source=source,
        format_name=format_name,
        classes=classes,
        camera=camera,
        site=site,
        on_error="skip" if on_error == "skip" else "refuse",
    )
    print(f"format: {report.format} ({report.reason})")
    if classes:
        print(f"project.classes: {', '.join(report.classes)}")
    if report.faults:
        print(f"left out: {report.faults} wrong rows")
    for oddity in report.oddities:
        print(f"odd: {oddity}")
    print(f"report: {report.page}")
    made = f"{report.added} samples added, {report.known} were there"
    say_done(made, place.raw, "visionloop data check")


@app.command("export")
def export_command(
    version: Annotated[str, typer.Argument(help="a dataset version, or raw")],
    out: Annotated[Path, typer.Argument(help="folder to write")],
    format_name: Annotated[str, typer.Option("--format", help="row of the format table")],
    hardlink: Annotated[
        bool, typer.Option("--hardlink", help="link the image files instead of copying them")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="replace a folder that an export wrote before")
    ] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Write a dataset version in the format of another tool, whole or not at all."""
    from visionloop.data.datasets.export import export_version

    report = export_version(
        workspace=find_workspace(workspace),
        version=version,
        format_name=format_name,
        out=out,
        hardlink=hardlink,
        replace=replace,
    )
    for line in report.notes:
        print(f"note: {line}")
    made = f"{report.samples} pictures, {report.annotations} annotations as {format_name}"
    say_done(made, report.out, f"visionloop data import {report.out}")
