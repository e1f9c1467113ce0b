"""``visionloop serve``: engines and the edge agent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visionloop.core.cli import WorkspaceOption, new_app
from visionloop.core.progress import say_done, say_step
from visionloop.core.workspace import find_workspace

__all__ = ["app"]

app = new_app("Build engines, serve models at the edge.")


@app.command()
def build(workspace: WorkspaceOption = None) -> None:
    """Make FP16 and INT8 variants, compare them with FP32, build TensorRT engines."""
    from visionloop.serving.build import build as run

    report = run(workspace=find_workspace(workspace))
    accepted = [one.precision for one in report.manifest.variants if one.accepted]
    built = [
        f"{one.kind} {one.tensorrt_version} engine of {one.precision}, "
        f"{one.engine_bytes / 1e6:.1f} MB{' from the cache' if one.from_cache else ''}"
        for one in report.manifest.built
    ]
    for line in report.manifest.missing:
        say_step(f"the release {line}")
    say_done("parity", report.page)
    made = f"variants: {', '.join(accepted) or 'none'}; {'; '.join(built) or 'no engine'}"
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
) -> None:
    """Run the edge agent: newest release, sources, rules, outbox."""
    from visionloop.serving.edge.agent import run_agent

    report = run_agent(workspace=find_workspace(workspace), config=config, max_frames=max_frames)
    rate = report.frames / report.seconds if report.seconds else 0.0
    say_done(
        f"{report.frames} frames ({rate:.1f}/s), {report.events} events, {report.kept} kept",
        report.db,
        "visionloop monitor summarise",
    )
