"""Groups: samples that must stay on one side, and the reason that ties each pair of them.

Two samples are tied if they are near-duplicates, show one view under other light, have equal
values in a group column, or were taken by one camera shortly after each other. A group is what
ties connect.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from visionloop.core.errors import DataError
from visionloop.core.progress import track
from visionloop.core.workspace import Workspace
from visionloop.data.splits.near_duplicates import (
    ImageHash,
    find_near_duplicates,
    hash_image,
    join_groups,
)
from visionloop.data.splits.params import SplitParams
from visionloop.data.splits.same_view import Texture, find_same_views, read_texture
from visionloop.data.synthesis.mark import links_to_sources

if TYPE_CHECKING:
    import pandas

__all__ = ["ImageTraits", "Tie", "find_groups", "find_ties", "name_groups", "read_traits"]


@dataclass(frozen=True)
class Tie:
    """Two samples that belong together.

    Attributes
    ----------
    first, second : int
        Rows of the samples table, first < second.
    reason : str
        ``near-duplicate``, ``same view``, ``time``, ``made from`` (a synthetic sample and its
        source), or the name of a group column.
    """

    first: int
    second: int
    reason: str


@dataclass(frozen=True, eq=False)
class ImageTraits:
    """What pictures are compared by.

    Attributes
    ----------
    rows : list of int
        Rows of the samples table whose image could be read.
    hashes : list of ImageHash
    textures : list of Texture
        Empty unless views at other exposures are looked for.
    """

    rows: list[int]
    hashes: list[ImageHash]
    textures: list[Texture]


def read_traits(
    samples: pandas.DataFrame, workspace: Workspace, params: SplitParams
) -> ImageTraits:
    """Read every image once and keep what it is compared by.

    Raises
    ------
    DataError
        If an image cannot be read.
    """
    from visionloop.serving.images import read_image

    traits = ImageTraits([], [], [])
    names = list(samples["file_name"])
    for row, name in enumerate(track(names, "reading images for near-duplicates")):
        image = read_image(workspace.images / name)
        traits.rows.append(row)
        traits.hashes.append(hash_image(image))
        if params.same_view.enabled:
            traits.textures.append(read_texture(image, scale=params.same_view.scale))
    return traits


def find_ties(
    samples: pandas.DataFrame, traits: ImageTraits | None, params: SplitParams
) -> list[Tie]:
    """All ties between samples; without traits, those of columns and time alone.

    Raises
    ------
    DataError
        Naming every group column that the samples lack.
    """
    missing = [name for name in params.group_columns if name not in samples.columns]
    if missing:
        raise DataError(
            "data.split.group_columns",
            [f"the samples have no column '{name}'" for name in missing],
            f"columns: {', '.join(samples.columns)}",
        )
    ties = [] if traits is None else list(_tied_by_picture(traits, params))
    for source, made in links_to_sources(samples):
        ties.append(Tie(min(source, made), max(source, made), "made from"))
    for column in params.group_columns:
        ties += _tied_by_value(column, samples[column])
    if params.time_gap_seconds is not None:
        ties += _tied_by_time(samples, params.time_gap_seconds)
    return ties


def _tied_by_picture(traits: ImageTraits, params: SplitParams) -> Iterator[Tie]:
    rows = traits.rows
    near = find_near_duplicates(traits.hashes, max_distance=params.near_duplicate_distance)
    for first, second, _ in near:
        yield Tie(rows[first], rows[second], "near-duplicate")
    if not params.same_view.enabled:
        return
    known = {(first, second) for first, second, _ in near}
    views = find_same_views(
        traits.textures,
        min_correlation=params.same_view.min_correlation,
        candidates=params.same_view.candidates,
    )
    for first, second, _ in views:
        if (first, second) not in known:
            yield Tie(rows[first], rows[second], "same view")


def _tied_by_value(column: str, values: Iterable[object]) -> Iterator[Tie]:
    """Each sample is tied to the one before it that has its value; empty values tie nothing."""
    last: dict[object, int] = {}
    for row, value in enumerate(values):
        if value is None or value != value or value == "":
            continue
        if value in last:
            yield Tie(last[value], row, column)
        last[value] = row


def _tied_by_time(samples: pandas.DataFrame, gap: float) -> Iterator[Tie]:
    import pandas

    times = pandas.to_datetime(samples["captured_at"], utc=True, errors="coerce", format="ISO8601")
    frame = pandas.DataFrame({"camera": samples["camera"], "site": samples["site"], "time": times})
    frame = frame.reset_index(drop=True).dropna(subset=["time"])
    for _, shots in frame.groupby(["site", "camera"], dropna=False):
        ordered = shots.sort_values("time", kind="stable")
        rows = list(zip(ordered.index, ordered["time"], strict=True))
        for (before, earlier), (after, later) in pairwise(rows):
            if (later - earlier).total_seconds() <= gap:
                yield Tie(min(int(before), int(after)), max(int(before), int(after)), "time")


def find_groups(
    samples: pandas.DataFrame, links: list[tuple[int, int]], params: SplitParams
) -> list[str]:
    """The group of every sample, named by its first sample id.

    Parameters
    ----------
    samples : DataFrame
        Ordered by ``sample_id``.
    links : list of (index, index)
        Near-duplicates.
    params : SplitParams
    """
    ties = [Tie(min(link), max(link), "near-duplicate") for link in links]
    return name_groups(samples, ties + find_ties(samples, None, params))


def name_groups(samples: pandas.DataFrame, ties: Sequence[Tie]) -> list[str]:
    """The group of every sample: the first 16 digits of its smallest sample id."""
    ids = list(samples["sample_id"])
    roots = join_groups(len(ids), [(tie.first, tie.second) for tie in ties])
    return [ids[root][:16] for root in roots]
