"""How a made sample is told from a real one, and the rule that follows: train only.

A synthetic sample says so in its row of the samples table, for ever: what made it, from
which samples, under which licence. It belongs to the group of its sources and may be in
train alone: a model that is measured on made pictures is not measured.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from visionloop.core.errors import RefusedError

if TYPE_CHECKING:
    import pandas

__all__ = [
    "COLUMNS",
    "SYNTHETIC_SOURCE",
    "describe_synthetic",
    "is_synthetic",
    "links_to_sources",
    "refuse_measured_on_synthetic",
]

COLUMNS = {
    "synthetic": "true for a made sample, else false or empty",
    "synthesis_recipe": "name of the recipe in data.synthesise",
    "synthesis_kind": "template_defects, paste, surface_defects",
    "synthesis_seed": "seed of the recipe",
    "synthesis_numbers": "the recipe without its count, JSON",
    "synthesis_key": "hash of everything that it was made from",
    "source_sample_ids": "samples it was made from, joined by spaces",
    "licence": "of the sources, and so of the sample",
    "mask_file": "below data/raw/masks: 0 background, n the n-th defect or object",
}
"""Columns of the samples table that synthesis adds (name to meaning)."""

SYNTHETIC_SOURCE = "synthetic"
"""``Annotation.source`` of made annotations."""


def is_synthetic(samples: pandas.DataFrame) -> list[bool]:
    """For each sample whether it was made."""
    if "synthetic" not in samples.columns:
        return [False] * len(samples)
    return [value is True or value == 1 for value in samples["synthetic"]]


def links_to_sources(samples: pandas.DataFrame) -> list[tuple[int, int]]:
    """Pairs of rows, made sample and source: they belong to one group."""
    place = {one: number for number, one in enumerate(samples["sample_id"])}
    return [
        (place[source], number)
        for number, made in enumerate(is_synthetic(samples))
        if made
        for source in str(samples["source_sample_ids"].iloc[number]).split()
        if source in place
    ]


def refuse_measured_on_synthetic(name: str, samples: pandas.DataFrame) -> None:
    """Refuse made samples in val and test.

    Raises
    ------
    RefusedError
        Naming how many there are in each split.
    """
    splits = samples["split"][is_synthetic(samples)]
    counts = {split: int((splits == split).sum()) for split in ("val", "test")}
    problems = [f"{count} synthetic samples in {split}" for split, count in counts.items() if count]
    if problems:
        raise RefusedError(
            name, problems, "run: visionloop data split; made samples are train only"
        )


def describe_synthetic(samples: pandas.DataFrame) -> dict[str, Any]:
    """For the manifest of a version: count, numbers, seeds and licences of each recipe."""
    made = samples[is_synthetic(samples)]
    if made.empty:
        return {}
    return {
        str(name): {
            "kind": str(rows["synthesis_kind"].iloc[0]),
            "samples": len(rows),
            "numbers": json.loads(rows["synthesis_numbers"].iloc[0]),
            "seeds": sorted({int(seed) for seed in rows["synthesis_seed"]}),
            "licences": sorted({str(licence) for licence in rows["licence"]}),
        }
        for name, rows in made.groupby("synthesis_recipe")
    }
