"""The verb ``split``: train, val and test by group, never by single image.

A group is what must not be torn apart: near-duplicates, and samples with equal values
in the columns of ``data.split.group_columns``. Test is what the data set reserves
(``official_split``); a training sample whose group touches test is *excluded*. Train and
val are decided by a hash of the group alone, so samples that come later change nothing,
and a sample keeps its split from round to round unless that would leak.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from visionloop.core.errors import DataError
from visionloop.core.files import write_json
from visionloop.core.progress import track
from visionloop.core.tables import Table, read_table, write_table
from visionloop.core.workspace import Workspace
from visionloop.data.formats import coco
from visionloop.data.params import SplitParams, load_params
from visionloop.data.raw import read_samples
from visionloop.data.splits.near_duplicates import (
    ImageHash,
    find_near_duplicates,
    hash_image,
    join_groups,
)
from visionloop.data.synthesis.mark import is_synthetic, links_to_sources

if TYPE_CHECKING:
    import pandas

__all__ = ["SPLITS", "SplitReport", "assign_splits", "find_groups", "read_splits", "split"]

SPLITS = Table(
    "splits",
    {
        "sample_id": "SHA-256 of the image file",
        "group": "what must not be torn apart",
        "split": "train, val, test or excluded",
    },
)


@dataclass(frozen=True)
class SplitReport:
    """Counts of a split.

    Attributes
    ----------
    counts : dict of str to int
        Samples of train, val, test, excluded.
    groups, largest_group : int
    near_duplicate_pairs : int
    moved : int
        Samples that changed their split of an earlier round, because it would leak.
    crossing : int
        Groups with samples on both sides; 0, or the verb raises.
    """

    counts: dict[str, int]
    groups: int
    largest_group: int
    near_duplicate_pairs: int
    moved: int
    crossing: int


def split(*, workspace: Workspace) -> SplitReport:
    """Write ``data/splits.parquet`` and ``reports/split/split.json`` for all of ``data/raw``.

    Raises
    ------
    DataError
        If nothing was imported, a group column is missing, or a group would cross
        (a defect of this module: nothing is written).
    """
    project, data = load_params(workspace)
    samples = read_samples(workspace)
    hashes = hash_samples(samples, workspace)
    pairs = find_near_duplicates(hashes, max_distance=data.split.near_duplicate_distance)
    links = [(a, b) for a, b, _ in pairs] + links_to_sources(samples)
    groups = find_groups(samples, links, data.split)
    earlier = read_splits(workspace)
    classes = _strata(workspace)
    assigned = assign_splits(
        samples, groups, data.split, seed=project.seed, earlier=earlier, strata=classes
    )
    frame = samples[["sample_id"]].assign(group=groups, split=assigned)
    crossing = _count_crossing(frame)
    if crossing:
        raise DataError("split", f"{crossing} groups cross splits", "nothing was written")
    write_table(workspace.root / "data" / "splits.parquet", SPLITS, frame)
    moved = sum(
        earlier[one] not in (now, "excluded")
        for one, now in zip(frame["sample_id"], assigned, strict=True)
        if one in earlier
    )
    report = SplitReport(
        counts=dict(sorted(Counter(assigned).items())),
        groups=len(set(groups)),
        largest_group=max(Counter(groups).values()),
        near_duplicate_pairs=len(pairs),
        moved=moved,
        crossing=crossing,
    )
    write_json(workspace.reports / "split" / "split.json", dict(vars(report)))
    return report


def hash_samples(samples: pandas.DataFrame, workspace: Workspace) -> list[ImageHash]:
    """Perceptual hashes of the samples' images, in the table's order."""
    from visionloop.serving.images import read_image

    names = list(samples["file_name"])
    return [
        hash_image(read_image(workspace.images / name))
        for name in track(names, "hashing images for near-duplicates")
    ]


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
        Its ``group_columns`` link samples of equal, non-empty values.

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
    links = list(links)
    for column in params.group_columns:
        first: dict[object, int] = {}
        for number, value in enumerate(samples[column]):
            if value is None or value != value or value == "":
                continue
            links.append((first.setdefault(value, number), number))
    ids = list(samples["sample_id"])
    return [ids[root][:16] for root in join_groups(len(samples), links)]


def assign_splits(
    samples: pandas.DataFrame,
    groups: list[str],
    params: SplitParams,
    *,
    seed: int,
    earlier: dict[str, str],
    strata: dict[str, str],
) -> list[str]:
    """The split of every sample.

    Parameters
    ----------
    samples : DataFrame
    groups : list of str
        Group of each sample.
    params : SplitParams
    seed : int
    earlier : dict of sample id to split
        Of an earlier round; kept unless a group would cross.
    strata : dict of sample id to stratum
        A class of the sample, where it is known: chance alone must not leave train or val
        without it.
    """
    ids = list(samples["sample_id"])
    official = list(samples.get("official_split", [None] * len(ids)))
    made = is_synthetic(samples)
    is_test = [
        not synthetic and (value == "test" or earlier.get(one) == "test")
        for one, value, synthetic in zip(ids, official, made, strict=True)
    ]
    tested = {group for group, test in zip(groups, is_test, strict=True) if test}
    side = _train_or_val(ids, groups, tested, params, seed, earlier, strata)
    for group, synthetic in zip(groups, made, strict=True):
        if synthetic:
            side[group] = "train"  # never measured on, and its sources stay beside it
    return [
        "test" if test else "excluded" if group in tested else side[group]
        for group, test in zip(groups, is_test, strict=True)
    ]


def _train_or_val(
    ids: list[str],
    groups: list[str],
    tested: set[str],
    params: SplitParams,
    seed: int,
    earlier: dict[str, str],
    strata: dict[str, str],
) -> dict[str, str]:
    """Side of each free group: its earlier side (the majority's), else by the group's hash."""
    members: dict[str, list[str]] = {}
    for one, group in zip(ids, groups, strict=True):
        if group not in tested:
            members.setdefault(group, []).append(one)
    side: dict[str, str] = {}
    for group, inside in members.items():
        votes = Counter(earlier[one] for one in inside if earlier.get(one) in ("train", "val"))
        if votes:
            side[group] = max(("train", "val"), key=lambda name: (votes[name], name == "train"))
        else:
            side[group] = "val" if _draw(seed, group) < params.val_fraction else "train"
    _fill_empty_sides(side, members, strata, seed, frozen={*earlier})
    return side


def _fill_empty_sides(
    side: dict[str, str],
    members: dict[str, list[str]],
    strata: dict[str, str],
    seed: int,
    frozen: set[str],
) -> None:
    """A class that chance left out of train or val gives that side its next group."""
    of_stratum: dict[str, list[str]] = {}
    for group, inside in members.items():
        for stratum in sorted({strata[one] for one in inside if one in strata}):
            of_stratum.setdefault(stratum, []).append(group)
    for _, found in sorted(of_stratum.items()):
        sides = {side[group] for group in found}
        movable = [group for group in found if not frozen & set(members[group])]
        if len(found) < 2 or len(sides) == 2 or not movable:
            continue
        missing = "val" if sides == {"train"} else "train"
        pick = min if missing == "val" else max
        side[pick(movable, key=lambda group: _draw(seed, group))] = missing


def _draw(seed: int, group: str) -> float:
    """A number in [0, 1) that only seed and group decide."""
    digest = hashlib.sha256(f"{seed}:{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def read_splits(workspace: Workspace) -> dict[str, str]:
    """Sample id to split, as the last round left them; empty before the first."""
    path = workspace.root / "data" / "splits.parquet"
    if not path.exists():
        return {}
    frame = read_table(path, SPLITS)
    return dict(zip(frame["sample_id"], frame["split"], strict=True))


def _strata(workspace: Workspace) -> dict[str, str]:
    """A class of each sample that experts annotated.

    Label Studio's annotations are left out on purpose: splits must not depend on when
    somebody annotated.
    """
    path = workspace.raw / "annotations.json"
    rows = coco.load(path)[1] if path.exists() else []
    strata: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: row.class_name):
        if row.class_name:
            strata.setdefault(row.sample_id, row.class_name)
    return strata


def _count_crossing(frame: pandas.DataFrame) -> int:
    counted = frame[frame["split"] != "excluded"].groupby("group")["split"].nunique()
    return int((counted > 1).sum())
