"""``visionloop serve``: engines, the edge agent, the HTTP server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visionloop.core.cli import WorkspaceOption, new_app
from visionloop.core.progress import say_done, say_step
from visionloop.core.workspace import find_workspace

__all__ = ["app"]

app = new_app("Build engines, serve models at the edge and over HTTP.")


@app.command()
def build(workspace: WorkspaceOption = None) -> None:
    """Make FP16 and INT8 variants, compare them with FP32, build TensorRT engines."""
    from visionloop.serving.build import build as run

    report = run(workspace=find_workspace(workspace))
    accepted = [one.name for one in report.manifest.variants if one.accepted]
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
def tune(workspace: WorkspaceOption = None) -> None:
    """Measure backends, precisions, threads and sizes on this device, and choose."""
    from visionloop.serving.tuning.tune import tune as run

    report = run(workspace=find_workspace(workspace))
    for line in report.profile.why:
        say_step(line)
    chosen = report.profile.choice
    said = "" if report.profile.is_met else " (the target is missed)"
    say_done(
        f"{chosen.backend} {chosen.precision}, {chosen.threads} thread(s){said}",
        report.path,
        "set backend: tuned in serving.edge and serving.http",
    )


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


@app.command()
def hub(
    database: Annotated[
        str,
        typer.Option(
            envvar="VISIONLOOP_HUB_DATABASE",
            show_envvar=True,
            help="sqlite:///path or postgresql://user:password@host/name",
        ),
    ] = "sqlite:///hub.db",
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8460,
    certificate: Annotated[Path | None, typer.Option(help="PEM file, for HTTPS")] = None,
    key: Annotated[Path | None, typer.Option(help="PEM file of its private key")] = None,
    behind_proxy: Annotated[bool, typer.Option(help="a proxy in front ends TLS")] = False,
    releases: Annotated[
        Path | None, typer.Option(help="folder of releases that devices may fetch")
    ] = None,
    add_device: Annotated[
        str, typer.Option(help="let this device report, print its token once, and end")
    ] = "",
    revoke_device: Annotated[
        str, typer.Option(help="refuse this device from now on, and end")
    ] = "",
) -> None:
    """Run the receiving end: events of devices come in and are acknowledged after the commit."""
    from visionloop.serving.hub import database as devices
    from visionloop.serving.hub.serve import serve_hub

    if add_device:
        print(devices.add_device(devices.open_database(database), add_device))
        return
    if revoke_device:
        devices.revoke_device(devices.open_database(database), revoke_device)
        say_done("revoked", revoke_device)
        return
    serve_hub(
        database=database,
        host=host,
        port=port,
        certificate=certificate,
        key=key,
        behind_proxy=behind_proxy,
        releases=releases,
    )


@app.command()
def http(
    workspace: WorkspaceOption = None,
    config: Annotated[
        Path | None,
        typer.Option(help="YAML file with the keys of serving.http (default: params.yaml)"),
    ] = None,
    host: Annotated[str | None, typer.Option(help="address to listen on")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="0 takes any free port")
    ] = None,
) -> None:
    """Answer over HTTP with the newest release, until stopped."""
    from visionloop.serving.http.serve import run_server

    run_server(workspace=find_workspace(workspace), config=config, host=host, port=port)
