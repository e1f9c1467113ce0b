"""``visionloop init`` and recipes: a project folder that DVC and people can work in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from visionloop.core.config import load_project
from visionloop.core.errors import ConfigError
from visionloop.core.targets import load_targets
from visionloop.pipelines.init import init
from visionloop.pipelines.recipes import load_recipe, recipe_names, render_params


def test_a_project_has_its_own_git_and_dvc(tmp_path: Path) -> None:
    workspace = init(folder=tmp_path / "project", recipe="solar")
    assert load_project(workspace.params).recipe == "solar"
    command = ["git", "status", "--porcelain"]
    status = subprocess.run(command, cwd=workspace.root, capture_output=True, text=True)
    assert status.stdout == ""
    command = [sys.executable, "-m", "dvc", "config", "--list"]
    config = subprocess.run(command, cwd=workspace.root, capture_output=True, text=True).stdout
    assert "remote.local.verify=true" in config
    assert "core.analytics=false" in config


def test_doing_it_again_changes_nothing(tmp_path: Path) -> None:
    workspace = init(folder=tmp_path, recipe="solar")
    workspace.params.write_text(workspace.params.read_text().replace("seed: 0", "seed: 7"))
    assert load_project(init(folder=tmp_path, recipe="solar").params).seed == 7


def test_a_project_of_another_recipe_is_refused(tmp_path: Path) -> None:
    init(folder=tmp_path, recipe="solar")
    with pytest.raises(ConfigError, match="is a project of recipe 'solar'"):
        init(folder=tmp_path, recipe="pcb")


def test_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'solar'"):
        load_recipe("solr")


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_valid_in_all_blocks(tmp_path: Path, name: str) -> None:
    from visionloop.core.config import ProjectParams, load_blocks
    from visionloop.data.params import DataParams
    from visionloop.evaluation.params import EvaluationParams
    from visionloop.labeling.params import LabelingParams
    from visionloop.monitoring.params import MonitoringParams
    from visionloop.serving.params import ServingParams
    from visionloop.training.params import TrainingParams

    recipe = load_recipe(name)
    path = tmp_path / "params.yaml"
    path.write_text(render_params(recipe))
    blocks = load_blocks(
        path,
        {
            "project": ProjectParams,
            "data": DataParams,
            "labeling": LabelingParams,
            "training": TrainingParams,
            "evaluation": EvaluationParams,
            "serving": ServingParams,
            "monitoring": MonitoringParams,
        },
    )
    assert blocks["project"].recipe == name
    if recipe.targets:
        (tmp_path / "targets.yaml").write_text(yaml.safe_dump(recipe.targets))
        targets = load_targets(tmp_path / "targets.yaml")
        assert targets.vision_task == blocks["project"].vision_task


def test_comments_of_the_parameters_are_kept() -> None:
    assert "# Every number a person may change" in render_params(load_recipe("solar"))


def test_dvc_knows_every_number_of_training() -> None:
    """A new number of training that ``dvc.yaml`` does not name would change nothing."""
    from visionloop.pipelines.recipes import project_files
    from visionloop.training.params import TrainingParams

    stages = yaml.safe_load((project_files() / "dvc.yaml").read_text())["stages"]
    named = {name for name in stages["train"]["params"] if name.startswith("training.")}
    other_verbs = {"training.export", "training.search"}
    assert named == {f"training.{name}" for name in TrainingParams.model_fields} - other_verbs
    assert "training.export" in stages["export"]["params"]
    assert stages["label"]["frozen"] is True


def test_every_verb_is_a_dvc_stage_and_an_mlflow_entry_point() -> None:
    """One word, one place: the verbs of DVC's stages are entry points of the MLproject."""
    from visionloop.pipelines.recipes import project_files

    stages = yaml.safe_load((project_files() / "dvc.yaml").read_text())["stages"]
    entries = yaml.safe_load((project_files() / "MLproject").read_text())["entry_points"]
    commands = {row["command"].replace(" --workspace {workspace}", "") for row in entries.values()}
    run = [stage["cmd"] for stage in stages.values()]
    assert {one for cmd in run for one in ([cmd] if isinstance(cmd, str) else cmd)} <= commands
