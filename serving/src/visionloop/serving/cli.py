"""``visionloop serve``: engines and the edge agent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visionloop.core.cli import WorkspaceOption, new_app
from visionloop.core.progress import say_done
from visionloop.core.workspace import find_workspace

__all__ = ["app"]

app = new_app("Build engines, serve models at the edge.")


@app.command()
def build(workspace: WorkspaceOption = None) -> None:
    """Convert the package to FP16, compare it, and build a TensorRT engine."""
    from visionloop.serving.build import build as run

    report = run(workspace=find_workspace(workspace))
    manifest = report.manifest
    made = (
        f"{manifest.kind} {manifest.tensorrt_version} engine, "
        f"{manifest.engine_bytes / 1e6:.1f} MB in {manifest.seconds:.1f} s"
        if manifest.built
        else f"FP16 model, no engine ({manifest.reason})"
    )
    say_done(made, report.folder, "visionloop watch --once")


@app.command()
def edge(
    workspace: WorkspaceOption = None,
    config: Annotated[
        Path | None,
        typer.Option(help="YAML file with the keys of serving.edge (default: params.yaml)"),
    ] = None,
    max_frames: Annotated[
        int | None, typer.Option(min=1, help="stop after this many frames of each source")
    ] = None,
    max_seconds: Annotated[
        float | None, typer.Option(min=0.1, help="stop watching the cameras after so long")
    ] = None,
) -> None:
    """Run the edge agent: newest release, sources and cameras, rules, outbox."""
    from visionloop.serving.edge.agent import run_agent

    report = run_agent(
        workspace=find_workspace(workspace),
        config=config,
        max_frames=max_frames,
        max_seconds=max_seconds,
    )
    rate = report.frames / report.seconds if report.seconds else 0.0
    say_done(
        f"{report.frames} frames ({rate:.1f}/s), {report.events} events, {report.kept} kept",
        report.db,
        "visionloop monitor summarise",
    )
