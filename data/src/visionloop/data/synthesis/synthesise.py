"""The verb ``synthesise``: the made samples that ``data.synthesise`` asks for, no more, no fewer.

Every sample is a function of its recipe, its number, the seed and the sources: the same
parameters on the same data give the same bytes. Images are written durably under their
content hash and the tables last, so the verb can be killed and run again. Samples of
recipes that were changed or removed leave ``data/raw``; frozen versions keep them, and
the image files stay.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from visionloop.core.config import ProjectParams
from visionloop.core.entities import Annotation
from visionloop.core.errors import ConfigError, DataError
from visionloop.core.failpoints import failpoint
from visionloop.core.files import canonical_json, sha256_of_bytes, write_bytes, write_json
from visionloop.core.progress import track
from visionloop.core.workspace import Workspace
from visionloop.data.datasets.imports import take_in
from visionloop.data.datasets.table import RawSample
from visionloop.data.params import load_params
from visionloop.data.raw import RawStore
from visionloop.data.splits.split import read_splits, split
from visionloop.data.synthesis.mark import SYNTHETIC_SOURCE, is_synthetic
from visionloop.data.synthesis.params import RecipeParams, SynthesiseParams
from visionloop.data.synthesis.recipes import MadeSample, make_sample
from visionloop.data.synthesis.sources import SourcePool, read_sources

__all__ = ["SynthesiseReport", "synthesise"]

PHASE = "synthetic"
MEASURED = ("sample_id", "file_name", "width", "height", "luminance", "contrast", "blur", "noise")
"""Columns of a row that come from its own picture, not from its source."""


@dataclass(frozen=True)
class SynthesiseReport:
    """What was made.

    Attributes
    ----------
    added, known, removed : int
        Samples made now; there already; of recipes that are no longer asked for.
    without_place : int
        Samples that chance found no place for in several tries.
    recipes : dict of recipe to number of samples
    classes : dict of class to number of made boxes (or samples, for classification)
    sources : int
        Real samples of train that they could be made from.
    """

    added: int
    known: int
    removed: int
    without_place: int
    recipes: dict[str, int] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)
    sources: int = 0


@dataclass(frozen=True)
class _Wanted:
    """One sample that shall be there."""

    kind: str
    params: RecipeParams
    number: int
    key: str


def synthesise(*, workspace: Workspace) -> SynthesiseReport:
    """Make the samples of ``data.synthesise`` from annotated real samples of train.

    Writes images and masks below ``data/raw``, their rows and annotations into its tables,
    ``reports/synthesise/synthesise.json`` and a page with examples.

    Raises
    ------
    ConfigError
        If a recipe names a class that the project lacks.
    DataError
        If a recipe has no fitting source.
    """
    from visionloop.data.synthesis.synthesise_page import write_page

    project, data = load_params(workspace)
    params = data.synthesise
    _refuse_unknown_classes(params, project)
    if params.recipes and not read_splits(workspace):
        split(workspace=workspace)
    store = RawStore.load(workspace)
    pool = read_sources(workspace) if params.recipes else None
    wanted = list(_list_wanted(params, pool)) if pool is not None else []
    known = _forget_others(store, {one.key for one in wanted})
    removed = known.pop("removed", 0)
    rows: list[dict[str, Any]] = []
    annotations: list[Annotation] = []
    missing = [one for one in wanted if one.key not in known]
    for one in track(missing, "making samples"):
        assert pool is not None
        made = make_sample(one.kind, one.params, pool, _generator(params.seed, one))
        if made is not None:
            row, said = _keep(made, one, params.seed, project, workspace)
            rows.append(row)
            annotations += said
        failpoint("synthesise.sample")
    if rows or removed:
        failpoint("synthesise.before_tables")
        store.save(rows, annotations, project.classes)
    report = _report(workspace, rows, known, removed, missing, pool)
    write_page(workspace, report)
    return report


def _refuse_unknown_classes(params: SynthesiseParams, project: ProjectParams) -> None:
    problems = [
        f"recipe '{name}': class '{class_name}' is not in project.classes"
        for name, (_, recipe) in params.recipes.items()
        for class_name in [
            *getattr(recipe, "defects", {}).values(),
            *getattr(recipe, "classes", []),
        ]
        if class_name not in project.classes
    ]
    if problems:
        raise ConfigError("data.synthesise", problems, f"classes: {', '.join(project.classes)}")


def _list_wanted(params: SynthesiseParams, pool: SourcePool) -> Iterator[_Wanted]:
    for kind, recipe in params.recipes.values():
        numbers = recipe.model_dump(exclude={"count"})
        for number in range(recipe.count):
            content = [kind, numbers, params.seed, number, pool.fingerprint]
            yield _Wanted(kind, recipe, number, sha256_of_bytes(canonical_json(content))[:32])


def _generator(seed: int, one: _Wanted) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(one.params.name.encode()), one.number])


def _forget_others(store: RawStore, keys: set[str]) -> dict[str, int]:
    """Drop made samples that nobody asks for; keys of those that stay, and "removed"."""
    if store.frame is None:
        return {}
    frame = store.frame
    made = np.array(is_synthetic(frame), bool)
    if not made.any():
        return {}
    there = frame["sample_id"].isin(store.known).to_numpy()
    stays = ~made | (frame["synthesis_key"].isin(keys).to_numpy() & there)
    gone = set(frame["sample_id"][~stays])
    store.annotations = [row for row in store.annotations if row.sample_id not in gone]
    store.frame = frame[stays].reset_index(drop=True)
    found: dict[str, int] = dict.fromkeys(frame["synthesis_key"][made & stays], 1)
    return {**found, "removed": len(gone)}


def _keep(
    made: MadeSample, one: _Wanted, seed: int, project: ProjectParams, workspace: Workspace
) -> tuple[dict[str, Any], list[Annotation]]:
    """Write picture and mask; the row of the samples table and the annotations."""
    from visionloop.data.synthesis.paste import is_two_level

    content = _encode(made.image, two_level=is_two_level(made.image))
    first = made.sources[0].row if made.sources else {}
    raw = RawSample(
        content=content,
        suffix="png",
        camera=str(first.get("camera", "")),
        site=str(first.get("site", "")),
        captured_at=str(first.get("captured_at", "")),
        phase=PHASE,
    )
    row, problem = take_in(raw, workspace.images)
    if problem:
        raise DataError(f"recipe {one.params.name}, sample {one.number}", problem)
    _write_mask(made, workspace, raw.sample_id)
    inherited = {key: value for key, value in first.items() if key not in MEASURED}
    row = {
        **inherited,
        **row,
        "synthetic": True,
        "synthesis_recipe": one.params.name,
        "synthesis_kind": one.kind,
        "synthesis_seed": seed,
        "synthesis_numbers": json.dumps(one.params.model_dump(exclude={"count", "name"})),
        "synthesis_key": one.key,
        "source_sample_ids": " ".join(source.sample_id for source in made.sources),
        "licence": made.licence,
        "mask_file": f"{raw.sample_id}.png",
    }
    return row, _annotations(made, one, raw.sample_id, project)


def _encode(image: np.ndarray[Any, Any], *, two_level: bool) -> bytes:
    import cv2

    if two_level and int(image.max()) == 255 and int(image.min()) == 0:
        coded = cv2.imencode(".png", image[..., 0], [cv2.IMWRITE_PNG_BILEVEL, 1])[1]
    else:
        is_grey = bool((image == image[..., :1]).all())
        coded = cv2.imencode(".png", image[..., 0] if is_grey else image)[1]
    return bytes(coded)


def _write_mask(made: MadeSample, workspace: Workspace, sample_id: str) -> None:
    """Pixels of the n-th made object hold n; real ones that were there are not in it."""
    import cv2

    numbered = np.zeros(made.image.shape[:2], np.uint8)
    masks = [one.mask for one in made.objects if one.mask is not None]
    for number, mask in enumerate(masks, start=1):
        numbered[mask] = number
    coded = cv2.imencode(".png", numbered)[1]
    write_bytes(workspace.raw / "masks" / f"{sample_id}.png", bytes(coded))


def _annotations(
    made: MadeSample, one: _Wanted, sample_id: str, project: ProjectParams
) -> list[Annotation]:
    """Boxes for detection; for classification the class of the first defect."""
    who = f"synthesise:{one.params.name}"
    if project.vision_task != "detection":
        first = next(row for row in made.objects if not row.is_real)
        return [Annotation(sample_id, first.class_name, annotator=who, source=SYNTHETIC_SOURCE)]
    return [
        Annotation(sample_id, row.class_name, row.xyxy, annotator=who, source=SYNTHETIC_SOURCE)
        for row in made.objects
    ]


def _report(
    workspace: Workspace,
    rows: list[dict[str, Any]],
    known: dict[str, int],
    removed: int,
    missing: list[_Wanted],
    pool: SourcePool | None,
) -> SynthesiseReport:
    store = RawStore.load(workspace)
    recipes: Counter[str] = Counter()
    classes: Counter[str] = Counter()
    if store.frame is not None:
        made = store.frame[is_synthetic(store.frame)]
        recipes.update(made["synthesis_recipe"] if len(made) else [])
        inside = set(made["sample_id"])
        classes.update(row.class_name for row in store.annotations if row.sample_id in inside)
    report = SynthesiseReport(
        added=len(rows),
        known=len(known),
        removed=removed,
        without_place=len(missing) - len(rows),
        recipes=dict(sorted(recipes.items())),
        classes=dict(sorted(classes.items())),
        sources=len(pool.sources) if pool else 0,
    )
    write_json(workspace.reports / "synthesise" / "synthesise.json", dict(vars(report)))
    return report
