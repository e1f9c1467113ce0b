"""Commands of ``visionloop data``: collect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visionloop.core.cli import WorkspaceOption
from visionloop.core.progress import say_done
from visionloop.core.workspace import Workspace, find_workspace

if TYPE_CHECKING:
    from visionloop.data.collection.run import CamerasReport

__all__ = ["app"]

app = typer.Typer()


@app.command("collect")
def collect_command(
    workspace: WorkspaceOption = None,
    cameras: Annotated[
        Path | None,
        typer.Option(help="file of cameras (default: cameras.yaml, if there is one)"),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="look once at every camera and end, for cron")
    ] = False,
    burst: Annotated[
        str, typer.Option(metavar="CAMERA", help="ask the running collection for a burst")
    ] = "",
) -> None:
    """Bring the frames that the edge kept, and those of cameras.yaml, into data/raw."""
    place = find_workspace(workspace)
    config = cameras or place.root / "cameras.yaml"
    if burst:
        _ask_for_burst(place, config, burst)
        return
    has_cameras = cameras is not None or config.exists()
    if not has_cameras or (place.edge / "outbox.db").exists():
        _collect_from_edge(place)
    if has_cameras:
        from visionloop.data.collection.run import collect_from_cameras

        report = collect_from_cameras(workspace=place, config=config, once=once)
        _show(report)
        made = f"{report.kept} samples kept of {len(report.cameras)} cameras"
        page = place.reports / "collect" / "index.html"
        say_done(f"{made} in {report.seconds:.0f} s", page, "visionloop data embed")


def _collect_from_edge(place: Workspace) -> None:
    from visionloop.data.collection.collect import collect

    report = collect(workspace=place)
    made = f"{report.added} frames collected, {report.known} were there, {report.gone} have no file"
    say_done(made, place.raw, "visionloop data embed")


def _ask_for_burst(place: Workspace, config: Path, camera: str) -> None:
    from visionloop.data.collection.bursts import request_burst
    from visionloop.data.collection.cameras import load_cameras

    load_cameras(config).find(camera)
    say_done("burst asked for", request_burst(place, camera), "the running collection takes it")


def _show(report: CamerasReport) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="collected")
    for name in ("camera", "kept", "today", "too similar", "over quota", "missed", "faults"):
        table.add_column(name, justify="left" if name == "camera" else "right")
    table.add_column("last fault", overflow="fold")
    for row in report.cameras:
        today = f"{row.kept_today}" + (f"/{row.quota}" if row.quota is not None else "")
        table.add_row(
            row.camera,
            str(row.kept),
            today,
            str(row.similar + row.known),
            str(row.over_quota),
            str(row.missed + row.no_space + row.misfit),
            str(row.faults),
            row.fault.removeprefix(f"camera '{row.camera}': "),
        )
    Console().print(table)
