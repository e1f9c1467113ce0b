"""``visionloop pipeline``: compile the Kubeflow pipelines, or run them on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visionloop.core.cli import WorkspaceOption, new_app
from visionloop.core.errors import ConfigError
from visionloop.core.progress import say_done
from visionloop.core.workspace import find_workspace

__all__ = ["app"]

app = new_app("Kubeflow pipelines: compile and run.")


@app.command("compile")
def compile_command(
    folder: Annotated[Path, typer.Option(help="where the YAML files go")] = Path("build/pipelines"),
) -> None:
    """Write each pipeline as the YAML that a Kubeflow cluster takes."""
    from visionloop.pipelines.kubeflow import compile_pipelines

    made = compile_pipelines(folder)
    say_done("pipelines", ", ".join(str(path) for path in made), "visionloop pipeline run --local")


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="train_and_export or monitor")] = "train_and_export",
    local: Annotated[bool, typer.Option("--local", help="run on this machine")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Run a pipeline with the samples and parameters of a project folder."""
    if not local:
        raise ConfigError(
            f"pipeline '{name}'",
            "only --local runs from here",
            "for a cluster: visionloop pipeline compile, then upload the YAML",
        )
    from visionloop.pipelines.kubeflow import run_local

    outputs = run_local(name, workspace=find_workspace(workspace))
    for key, value in outputs.items():
        print(f"{key}: {value}")
    say_done("pipeline", name, "its artifacts are below kfp/runs")
