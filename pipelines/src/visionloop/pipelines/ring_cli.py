"""The commands that span stages: init, plan, doctor, demo, up, down, watch, keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visionloop.core.cli import WorkspaceOption, new_app
from visionloop.core.progress import say_done
from visionloop.core.workspace import find_workspace

__all__ = ["demo", "doctor", "down", "init", "keys", "plan", "up", "watch"]

RecipeOption = Annotated[str, typer.Option(help="solar, pcb, solar-full, tiles or tiles-scene")]

keys = new_app("Signing keys of packages and releases.")


@keys.callback()
def _keys() -> None:
    """Signing keys of packages and releases."""


@keys.command()
def new(
    folder: Annotated[Path, typer.Argument(help="a new folder outside every repository")],
) -> None:
    """Make an EC key pair; the private key is readable by its owner alone."""
    from visionloop.serving.signing import new_key_pair

    private, public = new_key_pair(folder)
    say_done(
        "key pair",
        folder,
        f"export VISIONLOOP_SIGNING_KEY={private} VISIONLOOP_TRUSTED_KEYS={public}",
    )


def init(
    folder: Annotated[Path, typer.Argument(help="project folder to make")] = Path(),
    recipe: RecipeOption = "solar",
) -> None:
    from visionloop.pipelines.init import init as make_project

    workspace = make_project(folder=folder, recipe=recipe)
    say_done(f"project of recipe {recipe}", workspace.root, f"cd {folder} && dvc repro freeze")


def doctor(workspace: WorkspaceOption = None) -> None:
    from rich.console import Console
    from rich.table import Table

    from visionloop.pipelines.doctor import diagnose

    findings = diagnose(find_workspace(workspace))
    table = Table(show_edge=False)
    for heading in ("", "what", "found", "fix"):
        table.add_column(heading, overflow="fold")
    marks = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "problem": "[red]problem[/]"}
    for finding in findings:
        table.add_row(marks[finding.verdict], finding.subject, finding.found, finding.fix)
    Console().print(table)
    problems = sum(finding.verdict == "problem" for finding in findings)
    say_done("problems", problems, "visionloop demo" if problems == 0 else "mend them first")
    raise typer.Exit(1 if problems else 0)


def plan(
    targets: Annotated[
        Path | None, typer.Argument(help="targets.yaml (default: the project's)")
    ] = None,
    workspace: WorkspaceOption = None,
) -> None:
    from visionloop.pipelines.plan.plan import plan as make_plan

    found, page = make_plan(workspace=find_workspace(workspace), path=targets)
    print(f"{found.family.family}, {found.place.place}")
    reasons = [*found.family.reasons, *found.place.edge, *found.place.cloud]
    for reason in reasons:
        print(f"  - {reason}")
    figure = found.latency
    print(f"  {figure.milliseconds:.1f} ms a picture, {figure.origin}: {figure.source}")
    if found.here is not None and found.here != figure:
        print(f"  {found.here.milliseconds:.1f} ms a picture, measured: {found.here.source}")
    month = found.costs.break_even_month
    when = f"after {month:.1f} months" if month < 1000 else "never"
    print(f"  hardware {found.costs.hardware:,.0f}, paid for {when}")
    say_done("plan", page, "visionloop init --recipe ... makes a project")


def demo(
    recipe: RecipeOption = "solar",
    studio: Annotated[
        str, typer.Option(help="scripted: a program annotates; human: you do, in the browser")
    ] = "scripted",
    folder: Annotated[
        Path | None, typer.Option(help="project folder (default: workspace/<recipe>)")
    ] = None,
) -> None:
    from visionloop.pipelines.demo.run import run_demo

    run_demo(recipe=recipe, studio=studio, folder=folder or Path("workspace") / recipe)


def up(
    recipe: RecipeOption = "solar",
    folder: Annotated[
        Path | None, typer.Option(help="project folder (default: this one, or workspace/<recipe>)")
    ] = None,
    mlflow_port: Annotated[int, typer.Option(help="port of MLflow on 127.0.0.1")] = 5000,
    studio_port: Annotated[int, typer.Option(help="port of Label Studio on 127.0.0.1")] = 8080,
    report_port: Annotated[int, typer.Option(help="port of the report on 127.0.0.1")] = 8900,
    backend_port: Annotated[
        int | None, typer.Option(help="port of the ML backend, instead of labeling.backend_port")
    ] = None,
) -> None:
    from visionloop.pipelines.servers import start_servers

    start_servers(
        recipe=recipe,
        backend_port=backend_port,
        folder=folder or _project_folder(recipe),
        mlflow_port=mlflow_port,
        studio_port=studio_port,
        report_port=report_port,
    )


def down(
    recipe: RecipeOption = "solar",
    folder: Annotated[
        Path | None, typer.Option(help="project folder (default: workspace/<recipe>)")
    ] = None,
) -> None:
    from visionloop.pipelines.servers import stop_servers

    stop_servers(folder=folder or _project_folder(recipe))


def _project_folder(recipe: str) -> Path:
    """This folder where it is a project, else the one that the demo uses."""
    is_project = Path("params.yaml").exists() and Path(".dvc").is_dir()
    return Path() if is_project else Path("workspace") / recipe


def watch(
    workspace: WorkspaceOption = None,
    once: Annotated[bool, typer.Option("--once", help="look once and end")] = False,
    interval: Annotated[float, typer.Option(help="seconds between looks", min=0.1)] = 10.0,
    engines: Annotated[
        bool, typer.Option(help="build TensorRT engines where a package has none yet")
    ] = True,
    webhook_port: Annotated[
        int | None,
        typer.Option(help="listen on 127.0.0.1 for MLflow's webhooks: looks at once", min=0),
    ] = None,
) -> None:
    from visionloop.pipelines import watch as watcher

    if not once:
        watcher.watch(
            workspace=find_workspace(workspace),
            interval=interval,
            build_engines=engines,
            webhook_port=webhook_port,
        )
        return
    report = watcher.watch_once(workspace=find_workspace(workspace), build_engines=engines)
    if report.release:
        what = "release" if report.is_new else "already released"
        say_done(what, f"{report.release} (version {report.version})", "visionloop serve edge")
    else:
        say_done("champion", "none yet", "visionloop evaluate promote")
