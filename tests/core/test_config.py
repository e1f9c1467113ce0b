"""Bad configuration: every problem at once, with file, line and the nearest name (X1)."""

from __future__ import annotations

from pathlib import Path

import pytest

from visionloop.core.config import ProjectParams, load_block, load_blocks, load_project
from visionloop.core.errors import ConfigError
from visionloop.core.targets import load_targets

ROOT = Path(__file__).parents[2]

GOOD = """\
project:
  recipe: tiny
  model: tiny
  vision_task: classification
  classes: [good, bad]
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return path


def test_good_block_is_read(tmp_path: Path) -> None:
    project = load_project(write(tmp_path, GOOD))
    assert project.classes == ["good", "bad"]
    assert project.seed == 0


def test_all_problems_at_once_with_line_and_nearest_name(tmp_path: Path) -> None:
    text = GOOD.replace("recipe: tiny", "recipee: tiny").replace("[good, bad]", "7")
    path = write(tmp_path, text + "  seed: many\ntrainning: {}\n")
    with pytest.raises(ConfigError) as caught:
        load_project(path)
    problems = "\n".join(caught.value.problems)
    assert f"{path}:2: unknown key 'project.recipee', did you mean 'recipe'?" in problems
    assert "'project.recipe' is missing" in problems
    assert f"{path}:5: 'project.classes'" in problems
    assert f"{path}:6: 'project.seed'" in problems
    assert f"{path}:7: unknown block 'trainning', did you mean 'training'?" in problems
    assert len(caught.value.problems) == 5
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1", "is not valid YAML"),
        ("- 1\n- 2\n", "must be a mapping"),
        ("{}", "block 'project' is missing"),
    ],
)
def test_broken_files(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        load_project(write(tmp_path, text))


def test_missing_file_names_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="visionloop init"):
        load_project(tmp_path / "params.yaml")


def test_strings_are_not_numbers(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="seed"):
        load_block(write(tmp_path, GOOD + "  seed: '3'\n"), "project", ProjectParams)


def test_top_level_files_of_the_repository_are_valid() -> None:
    load_project(ROOT / "params.yaml")
    load_targets(ROOT / "targets.yaml")


def test_nested_unknown_key_in_targets(tmp_path: Path) -> None:
    text = (ROOT / "targets.yaml").read_text().replace("drift_alpha", "drift_alhpa")
    path = tmp_path / "targets.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_targets(path)
    assert "did you mean 'drift_alpha'?" in str(caught.value)
    line = text[: text.index("drift_alhpa")].count("\n") + 1
    assert f"{path}:{line}:" in str(caught.value)


def test_blocks_are_read_together(tmp_path: Path) -> None:
    loaded = load_blocks(write(tmp_path, GOOD), {"project": ProjectParams})
    assert set(loaded) == {"project"}
