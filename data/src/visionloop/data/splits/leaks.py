"""Leaks: groups with samples on both sides of a split, and proof that there are none.

The verb ``leaks`` judges a split that somebody else made (the data set's official one) or the
one of ``visionloop data split``. A sample outside training leaks if its group also has samples
in training; each is told with the training sample it is tied to, and why.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from visionloop.core.errors import DataError
from visionloop.core.files import write_json
from visionloop.core.workspace import Workspace
from visionloop.data.params import load_params
from visionloop.data.raw import read_samples
from visionloop.data.splits.groups import Tie, find_ties, name_groups, read_traits
from visionloop.data.splits.near_duplicates import join_groups
from visionloop.data.splits.split import read_splits

if TYPE_CHECKING:
    import pandas

__all__ = ["Leak", "LeakReport", "derive_column", "find_leaks", "leaks", "parse_group"]

HELD_BACK = ("val", "test")


@dataclass(frozen=True)
class Leak:
    """A sample that is held back, and a training sample of its group.

    Attributes
    ----------
    sample_id, side : str
        ``side`` is val or test.
    train_sample_id : str
    reason : str
        What ties them; "over others" if only further samples connect the two.
    """

    sample_id: str
    side: str
    train_sample_id: str
    reason: str


@dataclass(frozen=True)
class LeakReport:
    """What crosses a split.

    Attributes
    ----------
    judged : str
        Which split: "official" or "current".
    counts : dict of side to samples
    groups, largest_group, crossing_groups : int
    ties : dict of reason to pairs
    leaking : dict of side to samples whose group is also in training
    shares : dict of side to their share of that side
    leaks : tuple of Leak
    """

    judged: str
    counts: dict[str, int]
    groups: int
    largest_group: int
    crossing_groups: int
    ties: dict[str, int]
    leaking: dict[str, int]
    shares: dict[str, float]
    leaks: tuple[Leak, ...]

    @property
    def is_tight(self) -> bool:
        """No group is on both sides."""
        return not self.crossing_groups


def leaks(
    *, workspace: Workspace, judged: str = "current", derived: tuple[str, str, str] | None = None
) -> LeakReport:
    """Write ``reports/leaks/leaks.json`` and ``index.html``.

    Parameters
    ----------
    workspace : Workspace
    judged : str
        "current" (``data/splits.parquet``) or "official" (the column ``official_split``; what
        is not test there is training).
    derived : (str, str, str), optional
        A group column made for this report: its name, the column it comes from, and a regular
        expression whose first group is the value.

    Raises
    ------
    DataError
        If there is no such split, a column is missing, or the expression fits nothing.
    """
    from visionloop.data.splits.leak_page import write_leak_page

    _, data = load_params(workspace)
    samples = read_samples(workspace)
    params = data.split
    if derived is not None:
        name, source, pattern = derived
        samples = derive_column(samples, name, source=source, pattern=pattern)
        columns = list(dict.fromkeys([*params.group_columns, name]))
        params = params.model_copy(update={"group_columns": columns})
    sides = _sides(workspace, samples, judged)
    ties = find_ties(samples, read_traits(samples, workspace, params), params)
    report = find_leaks(samples, sides, ties, judged=judged)
    folder = workspace.reports / "leaks"
    write_json(folder / "leaks.json", {"is_tight": report.is_tight, **asdict(report)})
    write_leak_page(folder / "index.html", report, workspace, samples, sides)
    return report


def derive_column(
    samples: pandas.DataFrame, name: str, *, source: str, pattern: str
) -> pandas.DataFrame:
    r"""The table with one more column: the first group of a regular expression.

    Boards are the first five digits of a file's name:
    ``derive_column(samples, "board", source="original_name", pattern=r"(\d{5})\d{3}")``.

    Raises
    ------
    DataError
        If the source column is missing, or the expression is wrong or fits nothing.
    """
    import re

    if source not in samples.columns:
        raise DataError("group column", f"the samples have no column '{source}' to derive it from")
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError("group column", f"'{pattern}' is no regular expression: {error}") from None
    if compiled.groups < 1:
        raise DataError("group column", f"'{pattern}' has no group in brackets")
    values = samples[source].astype(str).str.extract(compiled, expand=True)[0]
    if values.isna().all():
        raise DataError("group column", f"'{pattern}' fits no value of '{source}'")
    return samples.assign(**{name: values})


def parse_group(text: str) -> tuple[str, str, str]:
    """``name=column:expression`` as given on the command line.

    Raises
    ------
    DataError
        If it has another shape.
    """
    name, _, rest = text.partition("=")
    source, _, pattern = rest.partition(":")
    if not (name and source and pattern):
        raise DataError(f"--group {text}", "is not name=column:expression")
    return name, source, pattern


def _sides(workspace: Workspace, samples: pandas.DataFrame, judged: str) -> list[str]:
    if judged == "official":
        if "official_split" not in samples or not (samples["official_split"] == "test").any():
            raise DataError("official split", "the data set reserves no sample for test")
        return [
            value if value in ("train", "val", "test") else "train"
            for value in samples["official_split"]
        ]
    splits = read_splits(workspace)
    if not splits:
        raise DataError("leaks", "there is no split yet", "run: visionloop data split")
    return [splits.get(one, "") for one in samples["sample_id"]]


def find_leaks(
    samples: pandas.DataFrame, sides: Sequence[str], ties: Sequence[Tie], *, judged: str = ""
) -> LeakReport:
    """Which groups have samples in training and also in val or test.

    Parameters
    ----------
    samples : DataFrame
    sides : sequence of str
        train, val, test; anything else takes no part (but still connects others).
    ties : sequence of Tie
    judged : str
        Name of the split, for the report.
    """
    ids = list(samples["sample_id"])
    groups = name_groups(samples, ties)
    of_group: dict[str, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        of_group[group].append(row)
    direct = _direct_partners(ties, sides)
    found: list[Leak] = []
    crossing = 0
    for rows in of_group.values():
        present = {sides[row] for row in rows} & {"train", *HELD_BACK}
        crossing += len(present) > 1
        train = [row for row in rows if sides[row] == "train"]
        for row in rows:
            if train and sides[row] in HELD_BACK:
                partner, reason = direct.get(row) or (train[0], _through(ties, rows))
                found.append(Leak(ids[row], sides[row], ids[partner], reason))
    counts = dict(sorted(Counter(side for side in sides if side).items()))
    leaking = Counter(leak.side for leak in found)
    held = {side: counts[side] for side in HELD_BACK if side in counts}
    return LeakReport(
        judged=judged,
        counts=counts,
        groups=len(of_group),
        largest_group=max(map(len, of_group.values()), default=0),
        crossing_groups=crossing,
        ties=dict(sorted(Counter(tie.reason for tie in ties).items())),
        leaking={side: leaking[side] for side in held},
        shares={side: leaking[side] / count for side, count in held.items()},
        leaks=tuple(sorted(found, key=lambda leak: (leak.side, leak.reason, leak.sample_id))),
    )


def _direct_partners(ties: Sequence[Tie], sides: Sequence[str]) -> dict[int, tuple[int, str]]:
    """Row that is held back to a training row it is tied to, the closest reason first."""
    rank = {"near-duplicate": 0, "same view": 1}
    found: dict[int, tuple[int, str]] = {}
    for tie in sorted(ties, key=lambda one: rank.get(one.reason, 2)):
        for row, other in ((tie.first, tie.second), (tie.second, tie.first)):
            if sides[row] in HELD_BACK and sides[other] == "train":
                found.setdefault(row, (other, tie.reason))
    return found


def _through(ties: Sequence[Tie], rows: Sequence[int]) -> str:
    """The one reason that connects all of a group, else that several do."""
    inside = set(rows)
    reasons = {tie.reason for tie in ties if tie.first in inside}
    for reason in sorted(reasons):
        links = [(tie.first, tie.second) for tie in ties if tie.reason == reason]
        roots = join_groups(max(rows) + 1, [link for link in links if set(link) <= inside])
        if len({int(roots[row]) for row in rows}) == 1:
            return reason
    return "over others"
