"""Sites and cameras: a class that one of them lacks although others have it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from visionloop.core.entities import Annotation
from visionloop.data.quality.finding import Finding
from visionloop.data.quality.params import CheckParams

if TYPE_CHECKING:
    import pandas

__all__ = ["find_classes_missing_in_parts"]

CERTAIN = 5.0
"""Samples of a class that a part should have had, by the share of the class elsewhere, before
none at all is no accident (e^-5 is under 1 %)."""


def find_classes_missing_in_parts(
    samples: pandas.DataFrame, annotations: dict[str, list[Annotation]], limits: CheckParams
) -> Iterator[Finding]:
    """Classes that a value of ``class_by`` (a site, a camera) has no annotated sample of.

    A part with fewer than ``min_part`` annotated samples says nothing, nor does a class so rare
    that none could be expected there.
    """
    said = {
        one: {row.class_name for row in rows if row.class_name} for one, rows in annotations.items()
    }
    classes = sorted({name for names in said.values() for name in names})
    share = {name: sum(name in names for names in said.values()) / len(said) for name in classes}
    for column in limits.class_by:
        if column not in samples or samples[column].nunique() < 2:
            continue
        parts: dict[str, list[set[str]]] = defaultdict(list)
        for one, value in zip(samples["sample_id"], samples[column], strict=True):
            if one in said and value:
                parts[str(value)].append(said[one])
        for part, found in sorted(parts.items()):
            there = set().union(*found)
            for name in classes:
                expected = share[name] * len(found)
                if len(found) >= limits.min_part and name not in there and expected >= CERTAIN:
                    reason = (
                        f"{column} '{part}' has no '{name}' among {len(found)} annotated samples; "
                        f"about {expected:.0f} were to be expected"
                    )
                    yield Finding("class_in_part", "", reason, 0.5)
