"""The command line: one group a stage, and the commands that span stages.

Groups are imported only when one of their commands runs, so ``visionloop --help``
answers at once.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from visionloop.core.cli import run_command

__all__ = ["main"]

GROUPS: dict[str, tuple[str, str]] = {
    "data": ("visionloop.data.cli:app", "Collect, import, check, split, freeze and embed samples."),
    "label": ("visionloop.labeling.cli:app", "Label Studio: set up, push, pull, second look."),
    "train": ("visionloop.training.cli:app", "Train a model family and export a signed package."),
    "evaluate": ("visionloop.evaluation.cli:app", "Measure a package, judge it, promote it."),
    "serve": ("visionloop.serving.cli:app", "Build engines; run edge agent and HTTP server."),
    "monitor": ("visionloop.monitoring.cli:app", "Windows, drift, what to annotate next."),
    "pipeline": ("visionloop.pipelines.pipeline_cli:app", "Kubeflow pipelines: compile and run."),
    "keys": ("visionloop.pipelines.ring_cli:keys", "Signing keys of packages and releases."),
}
"""Group name -> ("module:app", one line of help)."""

COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("visionloop.pipelines.ring_cli:init", "Make a project folder for a recipe."),
    "doctor": ("visionloop.pipelines.ring_cli:doctor", "What is installed, reachable, free."),
    "plan": ("visionloop.pipelines.ring_cli:plan", "Which family, edge or cloud, at what cost."),
    "demo": ("visionloop.pipelines.ring_cli:demo", "Run the whole ring on real images."),
    "up": ("visionloop.pipelines.ring_cli:up", "Make or open a project; start Label Studio."),
    "down": ("visionloop.pipelines.ring_cli:down", "Stop what `up` started."),
    "watch": ("visionloop.pipelines.ring_cli:watch", "Release verified champions."),
}
"""Command name -> ("module:function", one line of help)."""


class LazyGroup(TyperGroup):
    """Lists every group and command without importing their modules."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The order in which a person meets them."""
        return [*GROUPS, *COMMANDS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, imported now."""
        row = GROUPS.get(cmd_name) or COMMANDS.get(cmd_name)
        if row is None:
            return None
        path, description = row
        target = _load(path)
        if isinstance(target, typer.Typer):
            return typer.main.get_command(target)
        return _as_command(cmd_name, target, description)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The list of commands from the tables alone."""
        rows = [(name, line) for name, (_, line) in {**GROUPS, **COMMANDS}.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _load(path: str) -> Any:
    module_name, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module_name), attribute)


def _as_command(name: str, function: Any, description: str) -> Any:
    one = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    one.command(name=name, help=description)(function)
    return typer.main.get_command(one)


app = typer.Typer(
    cls=LazyGroup,
    help="visionloop takes a computer-vision model from the camera to production and back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _root() -> None:
    """visionloop takes a computer-vision model from the camera to production and back."""


def main() -> None:
    """Entry point of the ``visionloop`` command."""
    sys.exit(run_command(app))
