"""Strict configuration: unknown keys refused, all errors at once, each with its line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from visionloop.core.errors import ConfigError

__all__ = [
    "BLOCKS",
    "ONE_CLASS_TASKS",
    "ProjectParams",
    "StrictModel",
    "VisionTask",
    "load_block",
    "load_blocks",
    "load_project",
    "load_yaml_model",
]

VisionTask = Literal["classification", "detection", "scene", "anomaly"]

ONE_CLASS_TASKS = ("classification", "anomaly")
"""Vision tasks whose truth is one class a picture."""

BLOCKS = ("project", "data", "labeling", "training", "evaluation", "serving", "monitoring")
"""The top-level keys of ``params.yaml``: one block a stage, and the project itself."""

Model = TypeVar("Model", bound=BaseModel)


class StrictModel(BaseModel):
    """Base of every configuration model: unknown keys are errors, values are not changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ProjectParams(StrictModel):
    """What the whole ring shares."""

    recipe: str = Field(description="name of the recipe these numbers came from")
    model: str = Field(description="name of the registered model and of its releases")
    vision_task: VisionTask = Field(
        description="classification (one class a picture), detection (boxes), scene (any number "
        "of attributes a picture) or anomaly (normal, learned from normal pictures alone, or not)"
    )
    classes: list[str] = Field(
        min_length=1, description="class names; their order is the order of the model's outputs"
    )
    seed: int = Field(default=0, ge=0, description="seed of everything random")

    @model_validator(mode="after")
    def _anomaly_has_two_classes(self) -> ProjectParams:
        if self.vision_task == "anomaly" and len(self.classes) != 2:
            raise ValueError(
                "classes of vision_task anomaly are two: the normal one, then the other, "
                f"not {self.classes}"
            )
        return self


def load_block(path: Path, block: str, model: type[Model]) -> Model:
    """Read one block of ``params.yaml``; see :func:`load_blocks`."""
    loaded: Model = load_blocks(path, {block: model})[block]
    return loaded


def load_project(path: Path) -> ProjectParams:
    """Read the ``project`` block of ``params.yaml``."""
    return load_block(path, "project", ProjectParams)


def load_blocks(path: Path, models: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    """Read blocks of ``params.yaml``, each into its model.

    Raises
    ------
    ConfigError
        Naming every unknown key, missing key and wrong value of these blocks, and
        every unknown block, with file, line and the nearest known name.
    """
    content, lines = _read_yaml(path)
    problems = [
        _at(path, lines, (key,), f"unknown block '{key}'{_nearest(str(key), BLOCKS)}")
        for key in content
        if key not in BLOCKS
    ]
    loaded: dict[str, Any] = {}
    for block, model in models.items():
        if block not in content:
            problems.append(f"{path}: block '{block}' is missing")
            continue
        try:
            loaded[block] = model.model_validate(content[block])
        except ValidationError as error:
            problems += _explain(error, model, path, lines, (block,))
    if problems:
        raise ConfigError(str(path), problems, "correct these lines; nothing was started")
    return loaded


def load_yaml_model(path: Path, model: type[Model]) -> Model:
    """Read a whole YAML file into a model; errors as in :func:`load_blocks`."""
    content, lines = _read_yaml(path)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ConfigError(
            str(path), _explain(error, model, path, lines, ()), "correct these lines"
        ) from None


Location = tuple[Any, ...]


def _read_yaml(path: Path) -> tuple[dict[str, Any], dict[Location, int]]:
    try:
        text = Path(path).read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except FileNotFoundError:
        raise ConfigError(
            str(path), "there is no such file", "visionloop init makes a project folder"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), f"is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(str(path), "must be a mapping of keys to values")
    return content, dict(_line_numbers(node, ()))


def _line_numbers(node: Any, place: Location) -> Iterator[tuple[Location, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*place, key.value)
            yield here, key.start_mark.line + 1
            yield from _line_numbers(value, here)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            here = (*place, index)
            yield here, value.start_mark.line + 1
            yield from _line_numbers(value, here)


def _explain(
    error: ValidationError,
    model: type[BaseModel],
    path: Path,
    lines: dict[Location, int],
    prefix: Location,
) -> list[str]:
    problems = []
    for detail in error.errors():
        place = (*prefix, *detail["loc"])
        name = ".".join(str(part) for part in place)
        if detail["type"] == "extra_forbidden":
            known = _field_names(model, detail["loc"][:-1])
            text = f"unknown key '{name}'{_nearest(str(place[-1]), known)}"
        elif detail["type"] == "missing":
            text = f"'{name}' is missing"
        else:
            text = _say(name, detail)
        problems.append(_at(path, lines, place, text))
    return problems


def _say(name: str, detail: Any) -> str:
    """A wrong value in words; a whole block is not repeated, and where it has no name only said."""
    message = str(detail["msg"]).removeprefix("Value error, ")
    got = "" if isinstance(detail["input"], dict) else f", got {detail['input']!r}"
    return f"'{name}': {message}{got}" if name else message


def _at(path: Path, lines: dict[Location, int], place: Location, text: str) -> str:
    while place and place not in lines:
        place = place[:-1]
    return f"{path}:{lines[place]}: {text}" if place else f"{path}: {text}"


def _field_names(model: type[BaseModel], place: Location) -> list[str]:
    """Names known where ``place`` leads to; list indices and dictionary keys are passed over."""
    for part in place:
        field = model.model_fields.get(part) if isinstance(part, str) else None
        if field is None:
            continue
        nested = _nested_model(field.annotation)
        if nested is None:
            return []
        model = nested
    return list(model.model_fields)


def _nested_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        found = _nested_model(part)
        if found is not None:
            return found
    return None


def _nearest(name: str, known: Any) -> str:
    near = get_close_matches(name, list(known), n=1)
    return f", did you mean '{near[0]}'?" if near else ""
