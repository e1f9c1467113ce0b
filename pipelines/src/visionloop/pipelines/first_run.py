"""What ``visionloop up`` does once, so that a new project can be annotated: samples, tasks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from visionloop.core.errors import InputError, VisionloopError
from visionloop.core.progress import say_step
from visionloop.core.workspace import Workspace
from visionloop.pipelines.demo.run import tool_environment
from visionloop.pipelines.init import init

__all__ = ["open_or_make_project", "prepare_labeling", "prepare_samples"]


def open_or_make_project(folder: Path, recipe: str) -> Workspace:
    """The project of a folder; one is made where there is nothing yet.

    Raises
    ------
    InputError
        If the folder holds something else.
    """
    workspace = Workspace(folder.resolve())
    if workspace.params.exists():
        return workspace
    if workspace.root.exists() and any(workspace.root.iterdir()):
        raise InputError(
            str(folder), "is not a project folder", "make one: visionloop init, or visionloop demo"
        )
    say_step(f"making a project of recipe {recipe} in {folder}")
    return init(folder=folder, recipe=recipe)


def prepare_samples(workspace: Workspace) -> None:
    """Import and split the samples, and embed them so that the most useful come first.

    Does nothing where samples are there already.

    Raises
    ------
    VisionloopError
        If DVC fails; its message stands above.
    """
    if (workspace.raw / "samples.parquet").exists():
        return
    say_step("bringing the samples: import, split, embed (minutes, once)")
    command = [sys.executable, "-m", "dvc", "repro", "split", "embed"]
    code = subprocess.run(
        command, cwd=workspace.root, env=tool_environment(), stdout=sys.stderr
    ).returncode
    if code:
        raise VisionloopError(
            "dvc repro split embed", "a stage failed; its message is above", "run it again"
        )


def prepare_labeling(workspace: Workspace) -> str:
    """Set the project up in a running Label Studio, and give it its first tasks.

    Returns
    -------
    str
        Where people annotate.
    """
    from visionloop.labeling.ledger import open_ledger
    from visionloop.labeling.project import setup
    from visionloop.labeling.push import push
    from visionloop.labeling.selection import select

    url = setup(workspace=workspace).url
    with open_ledger(workspace) as ledger:
        if ledger.of_look("first"):
            return url
    try:
        if not (workspace.studio_state / "selection.parquet").exists():
            select(workspace=workspace)
        push(workspace=workspace)
    except InputError as error:  # nothing to annotate, or a model that must not be loaded
        say_step(f"no tasks were made: {error}")
    return url
