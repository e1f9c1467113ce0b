"""From a search space to the numbers of one trial, and into ``params.yaml``."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from visionloop.core.errors import ConfigError
from visionloop.core.files import write_text
from visionloop.training.search.params import RangeParams, SearchParams

if TYPE_CHECKING:
    from optuna import Trial

__all__ = ["check_space", "suggest", "write_trial_params"]

Chosen = dict[str, Any]


def suggest(trial: Trial, search: SearchParams) -> Chosen:
    """The numbers of a trial, by dotted name."""
    return {name: _suggest_one(trial, name, row) for name, row in search.space.items()}


def _suggest_one(trial: Trial, name: str, row: RangeParams) -> Any:
    if row.choices:
        return trial.suggest_categorical(name, row.choices)
    assert row.low is not None and row.high is not None
    if isinstance(row.low, int) and isinstance(row.high, int):
        step = 1 if row.step is None else int(row.step)
        return trial.suggest_int(name, row.low, row.high, step=step, log=row.log)
    return trial.suggest_float(name, row.low, row.high, step=row.step, log=row.log)


def check_space(path: Path, search: SearchParams) -> None:
    """Refuse a space that is empty or names what the training block does not have.

    Raises
    ------
    ConfigError
        With every name at once.
    """
    subject = f"{path}, training.search.space"
    if not search.space:
        raise ConfigError(
            subject, "is empty", "for example: learning_rate: {low: 0.0001, high: 0.01, log: true}"
        )
    block = yaml.safe_load(path.read_text(encoding="utf-8"))["training"]
    problems = []
    for name in search.space:
        first, *rest = name.split(".")
        if first in ("search", "planted_fault", "device"):
            problems.append(f"'{name}' is not searched")
        elif not _is_known(block, [first, *rest]):
            problems.append(f"the training block has no '{name}'")
    if problems:
        raise ConfigError(subject, problems, "names are those of params.yaml below training")


def write_trial_params(source: Path, target: Path, chosen: Mapping[str, Any]) -> None:
    """Write the ``params.yaml`` of a trial: the project's with the chosen numbers."""
    content = copy.deepcopy(yaml.safe_load(source.read_text(encoding="utf-8")))
    for name, value in chosen.items():
        place = content["training"]
        *parents, last = name.split(".")
        for parent in parents:
            place = place[parent]
        place[last] = value
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, yaml.safe_dump(content, sort_keys=False))


def _is_known(block: Any, names: list[str]) -> bool:
    for name in names:
        if not isinstance(block, dict) or name not in block:
            return False
        block = block[name]
    return not isinstance(block, dict)
