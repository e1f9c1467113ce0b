"""The command line as a person meets it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from visionloop.pipelines.cli import COMMANDS, GROUPS


def visionloop(*words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "visionloop.pipelines", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_help_lists_every_group_and_command() -> None:
    shown = visionloop("--help")
    assert shown.returncode == 0
    for name, (_, description) in {**GROUPS, **COMMANDS}.items():
        assert f"  {name} " in shown.stdout
        assert description[:40] in shown.stdout


@pytest.mark.parametrize("name", [*GROUPS, *COMMANDS])
def test_every_group_and_command_shows_its_help(name: str) -> None:
    shown = visionloop(name, "--help")
    assert shown.returncode == 0, shown.stderr
    assert "Usage" in shown.stdout


def test_unknown_command_exits_2() -> None:
    shown = visionloop("tarin")
    assert shown.returncode == 2
    assert "Traceback" not in shown.stderr


def test_bad_parameters_are_one_screen_with_exit_2(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("project: {recipee: x}\ndata: {dataset: 3}\n")
    shown = visionloop("data", "import", folder=tmp_path)
    assert shown.returncode == 2
    assert "Traceback" not in shown.stderr
    assert "params.yaml:1: unknown key 'project.recipee', did you mean 'recipe'?" in shown.stderr
    assert "'data.dataset'" in shown.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["params.yaml"]


def test_a_folder_without_a_project_says_what_to_do(tmp_path: Path) -> None:
    shown = visionloop("train", "train", folder=tmp_path)
    assert shown.returncode == 2
    assert "visionloop init" in shown.stderr
