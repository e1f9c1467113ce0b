"""Recipes and command line: complete, strict, quick to list."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from visionloop.core.config import ProjectParams, load_blocks
from visionloop.core.targets import load_targets
from visionloop.data.params import DataParams
from visionloop.training.families.table import EXTRAS, FAMILIES
from visionloop.training.params import TrainingParams
from visionloop.training.weights import WEIGHTS

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "training" / "configs").glob("*.yaml"))


def merge(base: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    for key, value in overrides.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            merge(base[key], value)
        else:
            base[key] = value
    return base


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_gives_valid_params_and_targets(path, tmp_path):
    recipe = yaml.safe_load(path.read_text())
    assert set(recipe) <= {"description", "extra", "params", "targets"}
    content = merge(yaml.safe_load((ROOT / "params.yaml").read_text()), recipe["params"])
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    blocks = load_blocks(
        tmp_path / "params.yaml",
        {"project": ProjectParams, "data": DataParams, "training": TrainingParams},
    )
    params, project = blocks["training"], blocks["project"]
    assert params.family in FAMILIES
    assert params.weights in WEIGHTS
    targets = recipe.get("targets") or yaml.safe_load((ROOT / "targets.yaml").read_text())
    (tmp_path / "targets.yaml").write_text(yaml.safe_dump(targets))
    loaded = load_targets(tmp_path / "targets.yaml")
    assert loaded.vision_task == project.vision_task
    assert set(loaded.quality.per_class) <= set(project.classes)


def test_every_number_of_the_block_is_in_params_yaml():
    block = yaml.safe_load((ROOT / "params.yaml").read_text())["training"]
    assert set(block) == set(TrainingParams.model_fields)


def test_a_budget_in_images_gives_the_epochs():
    block = yaml.safe_load((ROOT / "params.yaml").read_text())["training"]
    params = TrainingParams.model_validate(copy.deepcopy(block) | {"image_passes": 3000})
    assert params.epochs_for(208) == 14
    assert params.epochs_for(300) == 10
    assert params.epochs_for(9000) == 1


def test_the_extra_of_each_family_exists():
    text = (ROOT / "pyproject.toml").read_text()
    assert all(f"\n{extra} = [" in text for extra in {"training", *EXTRAS.values()})


def test_help_imports_no_heavy_library():
    script = (
        "import sys; import visionloop.training.cli; "
        "print([n for n in ('torch', 'mlflow', 'timm', 'pandas', 'ultralytics', 'cv2') "
        "if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
