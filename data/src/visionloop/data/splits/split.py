"""The verb ``split``: train, val and test by group, never by single image.

What ties samples to a group stands in :mod:`visionloop.data.splits.groups`, how groups are shared
out in :mod:`visionloop.data.splits.assign`. ``data/splits.parquet`` is the memory of earlier
rounds: a sample keeps its split from round to round unless that would leak.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from visionloop.core.errors import DataError
from visionloop.core.files import write_json
from visionloop.core.tables import Table, read_table, write_table
from visionloop.core.workspace import Workspace
from visionloop.data.formats import coco
from visionloop.data.params import load_params
from visionloop.data.raw import read_samples
from visionloop.data.splits.assign import assign_splits
from visionloop.data.splits.groups import find_ties, name_groups, read_traits

if TYPE_CHECKING:
    import pandas

__all__ = ["SPLITS", "SplitReport", "foresee_splits", "read_splits", "split"]

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
    ties : dict of str to int
        Pairs that are tied, by reason.
    class_counts : dict of side to (dict of class to int)
        Samples of each class that experts annotated.
    moved : int
        Samples that changed their split of an earlier round, because it would leak.
    crossing : int
        Groups with samples on both sides; 0, or the verb raises.
    """

    counts: dict[str, int]
    groups: int
    largest_group: int
    near_duplicate_pairs: int
    ties: dict[str, int]
    class_counts: dict[str, dict[str, int]]
    moved: int
    crossing: int


def split(*, workspace: Workspace) -> SplitReport:
    """Write ``data/splits.parquet`` and ``reports/split/{split.json,index.html}``.

    Raises
    ------
    DataError
        If nothing was imported, a group column is missing, an image cannot be read, or a
        group would cross (a defect of this module: nothing is written).
    """
    from visionloop.data.splits.leak_page import write_leak_page
    from visionloop.data.splits.leaks import find_leaks

    project, data = load_params(workspace)
    samples = read_samples(workspace)
    ties = find_ties(samples, read_traits(samples, workspace, data.split), data.split)
    groups = name_groups(samples, ties)
    earlier = read_splits(workspace)
    classes = _classes_of_samples(workspace)
    assigned = assign_splits(
        samples,
        groups,
        data.split,
        seed=project.seed,
        earlier=earlier,
        strata=classes if data.split.stratify == "shares" else _first_class(classes),
    )
    leaks = find_leaks(samples, assigned, ties, judged="current")
    frame = samples[["sample_id"]].assign(group=groups, split=assigned)
    if not leaks.is_tight:
        raise DataError("split", f"{leaks.crossing_groups} groups cross", "nothing was written")
    write_table(workspace.root / "data" / "splits.parquet", SPLITS, frame)
    report = SplitReport(
        counts=dict(sorted(Counter(assigned).items())),
        groups=leaks.groups,
        largest_group=leaks.largest_group,
        near_duplicate_pairs=leaks.ties.get("near-duplicate", 0),
        ties=leaks.ties,
        class_counts=_count_classes(frame, classes),
        moved=_count_moved(frame, earlier),
        crossing=leaks.crossing_groups,
    )
    folder = workspace.reports / "split"
    write_json(folder / "split.json", dict(vars(report)))
    write_leak_page(folder / "index.html", leaks, workspace, samples, assigned)
    return report


def foresee_splits(workspace: Workspace, samples: pandas.DataFrame) -> dict[str, str]:
    """Sample id to the split that :func:`split` would give these samples; writes nothing.

    What the last round left is taken as it is where it knows every one of them.
    """
    earlier = read_splits(workspace)
    if set(samples["sample_id"]) <= earlier.keys():
        return earlier
    project, data = load_params(workspace)
    ties = find_ties(samples, read_traits(samples, workspace, data.split), data.split)
    classes = _classes_of_samples(workspace)
    assigned = assign_splits(
        samples,
        name_groups(samples, ties),
        data.split,
        seed=project.seed,
        earlier=earlier,
        strata=classes if data.split.stratify == "shares" else _first_class(classes),
    )
    return dict(zip(samples["sample_id"], assigned, strict=True))


def read_splits(workspace: Workspace) -> dict[str, str]:
    """Sample id to split, as the last round left them; empty before the first."""
    path = workspace.root / "data" / "splits.parquet"
    if not path.exists():
        return {}
    frame = read_table(path, SPLITS)
    return dict(zip(frame["sample_id"], frame["split"], strict=True))


def _classes_of_samples(workspace: Workspace) -> dict[str, tuple[str, ...]]:
    """The classes of each sample that experts annotated, in order.

    Label Studio's annotations are left out on purpose: splits must not depend on when
    somebody annotated.
    """
    path = workspace.raw / "annotations.json"
    rows = coco.load(path)[1] if path.exists() else []
    found: dict[str, set[str]] = {}
    for row in rows:
        if row.class_name:
            found.setdefault(row.sample_id, set()).add(row.class_name)
    return {one: tuple(sorted(names)) for one, names in found.items()}


def _first_class(classes: dict[str, tuple[str, ...]]) -> dict[str, str]:
    return {one: names[0] for one, names in classes.items()}


def _count_classes(
    frame: pandas.DataFrame, classes: dict[str, tuple[str, ...]]
) -> dict[str, dict[str, int]]:
    counted: dict[str, Counter[str]] = {}
    for one, side in zip(frame["sample_id"], frame["split"], strict=True):
        counted.setdefault(side, Counter()).update(classes.get(one, ()))
    return {side: dict(sorted(counts.items())) for side, counts in sorted(counted.items())}


def _count_moved(frame: pandas.DataFrame, earlier: dict[str, str]) -> int:
    return sum(
        earlier[one] not in (now, "excluded")
        for one, now in zip(frame["sample_id"], frame["split"], strict=True)
        if one in earlier
    )
