"""Slices: parts of the test samples, and which of their limits bind.

A limit of ``targets.yaml`` may wait until a package was trained on enough samples of
its slice (``applies_after_train_samples``). A package says in its signed manifest what
it was trained on (``train_mix``); one that does not say is held to every limit.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import ConfigError
from visionloop.core.targets import SliceTarget

if TYPE_CHECKING:
    import pandas

__all__ = [
    "DERIVED",
    "SampleSlice",
    "find_slices",
    "guarded_rows",
    "is_binding",
    "trained_samples",
    "with_derived",
]

DERIVED = ("hour", "size")
"""Columns that are made of others: the part of the day in UTC, and the picture's pixels."""
MOST_VALUES = 12
"""A numeric column with more values is cut into three parts of equal size."""

TrainMix = dict[str, dict[str, int]]


@dataclass(frozen=True, eq=False)
class SampleSlice:
    """Samples that share a value.

    Attributes
    ----------
    name : str
        ``column=value``.
    column, value : str
    rows : int64 array
        Positions in the table of samples; may be empty.
    target : SliceTarget or None
        Its limit in ``targets.yaml``.
    status : str
        "guarded", "not trained for" or "reported"; see SlicePart.
    train_samples : int or None
        What the package was trained on, where it says so.
    """

    column: str
    value: str
    rows: NDArray[np.int64]
    target: SliceTarget | None
    status: str
    train_samples: int | None

    @property
    def name(self) -> str:
        return f"{self.column}={self.value}"


def trained_samples(train_mix: TrainMix, column: str, value: str) -> int | None:
    """Samples of a slice that a package was trained on; None where it does not say."""
    return train_mix[column].get(value, 0) if column in train_mix else None


def is_binding(target: SliceTarget, train_mix: TrainMix) -> bool:
    """Whether a package is held to the limit of a slice."""
    trained = trained_samples(train_mix, target.column, target.value)
    return trained is None or trained >= target.applies_after_train_samples


def guarded_rows(
    samples: pandas.DataFrame, targets: Sequence[SliceTarget], train_mix: TrainMix
) -> NDArray[np.int64]:
    """Positions of the samples that the gate's overall number rests on.

    All samples where ``targets.yaml`` names no slices, else those of the slices whose
    limits bind; none where no limit binds.
    """
    if not targets:
        return np.arange(len(samples))
    chosen = np.zeros(len(samples), bool)
    samples = with_derived(samples, [target.column for target in targets])
    for target in targets:
        if is_binding(target, train_mix):
            chosen |= _is_value(samples, target.column, target.value)
    return np.flatnonzero(chosen)


def find_slices(
    samples: pandas.DataFrame,
    columns: Sequence[str],
    targets: Sequence[SliceTarget],
    train_mix: TrainMix,
) -> list[SampleSlice]:
    """The slices that ``targets.yaml`` names, then those of the columns asked for.

    Raises
    ------
    ConfigError
        Naming every column that the samples do not have.
    """
    wanted = [*(target.column for target in targets), *columns]
    samples = with_derived(samples, wanted)
    if unknown := [name for name in dict.fromkeys(wanted) if name not in samples]:
        raise ConfigError(
            "slices",
            [f"no sample has the column '{name}'{_nearest(name, samples)}" for name in unknown],
            "correct evaluation.slice_columns in params.yaml or quality.slices in targets.yaml",
        )
    found = []
    for target in targets:
        rows = np.flatnonzero(_is_value(samples, target.column, target.value))
        status = "guarded" if is_binding(target, train_mix) else "not trained for"
        trained = trained_samples(train_mix, target.column, target.value)
        found.append(SampleSlice(target.column, target.value, rows, target, status, trained))
    known = {one.name for one in found}
    for column in columns:
        for value, rows in _values(samples, column):
            trained = trained_samples(train_mix, column, value)
            one = SampleSlice(column, value, rows, None, "reported", trained)
            if one.name not in known:
                found.append(one)
    return found


def with_derived(samples: pandas.DataFrame, columns: Sequence[str]) -> pandas.DataFrame:
    """The samples with those of ``hour`` and ``size`` that are asked for and not there.

    ``hour`` is a quarter of the day in UTC (``00-06``, ...), or ``unknown``; ``size`` is
    the number of megapixels, rounded to two digits that count.
    """
    if "hour" in columns and "hour" not in samples:
        samples = samples.assign(hour=[_quarter(str(one)) for one in samples["captured_at"]])
    if "size" in columns and "size" not in samples:
        pixels = samples["width"] * samples["height"] / 1e6
        samples = samples.assign(size=[f"{one:.2g} megapixels" for one in pixels])
    return samples


def _quarter(captured_at: str) -> str:
    match = re.match(r"\d{4}-\d\d-\d\d[T ](\d\d):", captured_at)
    if match is None:
        return "unknown"
    start = int(match[1]) // 6 * 6
    return f"{start:02d}-{start + 6:02d}"


def _values(samples: pandas.DataFrame, column: str) -> list[tuple[str, NDArray[np.int64]]]:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    numbers = samples[column]
    is_number = is_numeric_dtype(numbers) and not is_bool_dtype(numbers)
    if not is_number or numbers.nunique() <= MOST_VALUES:
        texts = numbers.astype(str)
        return [(str(v), np.flatnonzero(texts == v)) for v in sorted(texts.unique())]
    first, second = np.nanquantile(numbers, [1 / 3, 2 / 3])
    parts = (
        (f"below {first:.4g}", numbers < first),
        (f"{first:.4g} to {second:.4g}", (numbers >= first) & (numbers < second)),
        (f"{second:.4g} and above", numbers >= second),
    )
    return [(name, np.flatnonzero(chosen)) for name, chosen in parts]


def _is_value(samples: pandas.DataFrame, column: str, value: str) -> NDArray[np.bool_]:
    return np.asarray(samples[column].astype(str) == value, dtype=bool)


def _nearest(name: str, samples: pandas.DataFrame) -> str:
    near = get_close_matches(name, [str(column) for column in samples.columns], n=1)
    return f", did you mean '{near[0]}'?" if near else ""
