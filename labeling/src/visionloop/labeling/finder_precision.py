"""How often the finder of doubtful annotations is right, kind by kind, and what follows from it.

A second look's answer is compared with the annotation that was doubted. A finding is *confirmed*
if the person changed what it doubts, and *named* if in the way that it suspected. Where a kind is
rarely confirmed, fewer findings of it go out, the gravest first:

    share sent = min(1, upper end of the 95 % interval of the confirmed share / wanted share)

and never less than a tenth or than one finding, so that a finder that got better is noticed. The
upper end, because fewer are sent only once it is certain that the kind is poor; below ten
verdicts nothing is concluded. The last hundred verdicts of a kind count: the finder changes with
the model. All of this is ``studio/finder.json``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from visionloop.core.files import read_json, write_json
from visionloop.core.geometry import box_iou, match_boxes
from visionloop.core.workspace import Workspace
from visionloop.labeling.decisions import Decision, open_decisions
from visionloop.labeling.doubts import Asked, Doubt, find_box, load_asked
from visionloop.labeling.regions import Region
from visionloop.labeling.review.intervals import wilson
from visionloop.labeling.state import state_folder

__all__ = [
    "EXPLORED",
    "MIN_VERDICTS",
    "WINDOW",
    "FindingVerdict",
    "KindPrecision",
    "choose",
    "judge",
    "measure",
    "update_finder",
    "verdicts_of",
]

MIN_VERDICTS = 10
WINDOW = 100
EXPLORED = 0.1
SAME_OBJECT = 0.5
"""IoU from which a box before and a box after are one."""
SAME_PLACE = 0.8
"""IoU from which such a box stayed where it was: people who look twice draw a bit differently."""
NEARBY = 0.1
"""IoU from which a box that was drawn anew took the place of one that was removed."""
FOUND = 0.3
"""IoU from which a box that was added is the one that was missing."""


@dataclass(frozen=True)
class FindingVerdict:
    """What a person's answer says of one finding.

    Attributes
    ----------
    sample_id, kind : str
    severity : float
    found : tuple of str
        The kinds of error that the person mended there; empty if nothing was wrong.
    decided_at : str
    """

    sample_id: str
    kind: str
    severity: float
    found: tuple[str, ...]
    decided_at: str

    @property
    def is_confirmed(self) -> bool:
        """Something was wrong there."""
        return bool(self.found)


@dataclass(frozen=True)
class KindPrecision:
    """The record of one kind of findings.

    Attributes
    ----------
    kind : str
    verdicts, confirmed, named : int
        Of the last hundred: all, those where something was wrong, and as suspected.
    share, low, high : float or None
        Confirmed share with its 95 % interval (Wilson); None below ten verdicts.
    sent : float
        Share of this kind's findings that goes out, the gravest first.
    threshold : float or None
        The smallest severity that went out last; None before anything was chosen.
    """

    kind: str
    verdicts: int
    confirmed: int
    named: int
    share: float | None = None
    low: float | None = None
    high: float | None = None
    sent: float = 1.0
    threshold: float | None = None

    def __str__(self) -> str:
        if self.share is None or self.low is None or self.high is None:
            return f"{self.kind}: {self.verdicts} verdicts, not enough data; all are sent"
        return (
            f"{self.kind}: {self.confirmed} of {self.verdicts} confirmed "
            f"({self.low:.0%} to {self.high:.0%}), {self.named} named rightly; "
            + ("all are sent" if self.sent >= 1 else f"the gravest {self.sent:.0%} are sent")
        )


def judge(doubt: Doubt, before: Sequence[Region], after: Sequence[Region]) -> tuple[str, ...]:
    """The kinds of error that a person mended at the place of a doubt; empty if none.

    Parameters
    ----------
    doubt : Doubt
    before, after : sequence of Region
        The annotation that was doubted, and the answer. A region of the answer that has the
        key of one before is the same object; others are matched by overlap.
    """
    if doubt.xyxy is None:
        said, says = _whole_class(before), _whole_class(after)
        return ("label_issue",) if said != says else ()
    partners = _partners(before, after)
    added = [one for number, one in enumerate(after) if number not in partners.values()]
    if doubt.kind == "missing":
        is_there = _overlap(doubt.xyxy, added).max(initial=0) >= FOUND
        return ("missing",) if is_there else ()
    number = find_box(before, doubt.xyxy)
    if number is None:
        return ()
    if number in partners:
        return _changes(before[number], after[partners[number]])
    near = _overlap(doubt.xyxy, added)
    if near.max(initial=0) >= NEARBY:
        return _changes(before[number], added[int(near.argmax())])
    return ("spurious",)


def verdicts_of(decisions: Iterable[Decision], asked: Mapping[str, Asked]) -> list[FindingVerdict]:
    """The verdicts in the second looks, oldest first.

    The last answer to a sample counts. A skipped task says nothing, and neither does an answer
    to another list of findings than the one on record.
    """
    looks = [row for row in decisions if row.look == "second" and not row.is_skipped]
    looks.sort(key=lambda row: (row.decided_at, row.annotation))
    answers = {row.sample_id: row for row in looks}
    return [
        FindingVerdict(
            sample_id=row.sample_id,
            kind=doubt.kind,
            severity=doubt.severity,
            found=judge(doubt, question.before, row.regions),
            decided_at=row.decided_at,
        )
        for row in sorted(answers.values(), key=lambda one: (one.decided_at, one.annotation))
        if (question := asked.get(row.sample_id)) and question.findings == row.findings
        for doubt in question.doubts
    ]


def measure(verdicts: Sequence[FindingVerdict], wanted: float) -> dict[str, KindPrecision]:
    """Each kind's record and the share of its findings that should go out.

    Parameters
    ----------
    verdicts : sequence of FindingVerdict
        Oldest first.
    wanted : float
        Confirmed share from which all findings of a kind are sent, above 0.
    """
    return {
        kind: _record(kind, [row for row in verdicts if row.kind == kind][-WINDOW:], wanted)
        for kind in sorted({row.kind for row in verdicts})
    }


def choose(
    doubts: Mapping[str, Sequence[Doubt]], precision: Mapping[str, KindPrecision]
) -> dict[str, list[Doubt]]:
    """The doubts that go out: of each kind its share, the gravest first, at least one.

    Parameters
    ----------
    doubts : mapping of sample id to doubts
        In the order in which they would be sent; it is kept.
    precision : mapping of kind to KindPrecision
        A kind without a record goes out whole.
    """
    thresholds = _thresholds(doubts, precision)
    kept = {
        one: [row for row in rows if row.severity >= thresholds[row.kind]]
        for one, rows in doubts.items()
    }
    return {one: rows for one, rows in kept.items() if rows}


def update_finder(
    workspace: Workspace, wanted: float, doubts: Mapping[str, Sequence[Doubt]] | None = None
) -> dict[str, KindPrecision]:
    """Measure from the last pull's decisions and write ``studio/finder.json``.

    Parameters
    ----------
    workspace : Workspace
    wanted : float
        See :func:`measure`.
    doubts : mapping of sample id to doubts, optional
        What is about to be sent: sets the severity from which each kind goes out, which
        otherwise stays as it was.
    """
    asked = load_asked(workspace)
    with open_decisions(workspace) as store:
        verdicts = verdicts_of(store, asked) if asked else []
    precision = measure(verdicts, wanted)
    path = state_folder(workspace) / "finder.json"
    thresholds = {} if doubts is None else _thresholds(doubts, precision)
    if doubts is None and path.exists():
        thresholds = {kind: row["threshold"] for kind, row in read_json(path)["kinds"].items()}
    content = {
        kind: asdict(row) | {"threshold": thresholds.get(kind)} for kind, row in precision.items()
    }
    write_json(
        path, {"wanted": wanted, "kinds": content, "verdicts": [asdict(row) for row in verdicts]}
    )
    return {kind: KindPrecision(**row) for kind, row in content.items()}


def _record(kind: str, verdicts: Sequence[FindingVerdict], wanted: float) -> KindPrecision:
    count = len(verdicts)
    confirmed = sum(row.is_confirmed for row in verdicts)
    named = sum(kind in row.found for row in verdicts)
    if count < MIN_VERDICTS:
        return KindPrecision(kind, count, confirmed, named)
    low, high = wilson(confirmed / count, count)
    sent = min(1.0, max(EXPLORED, high / wanted))
    return KindPrecision(kind, count, confirmed, named, confirmed / count, low, high, sent)


def _thresholds(
    doubts: Mapping[str, Sequence[Doubt]], precision: Mapping[str, KindPrecision]
) -> dict[str, float]:
    """Kind to the smallest severity that goes out."""
    by_kind: dict[str, list[float]] = {}
    for rows in doubts.values():
        for row in rows:
            by_kind.setdefault(row.kind, []).append(row.severity)
    found = {}
    for kind, severities in by_kind.items():
        sent = precision[kind].sent if kind in precision else 1.0
        count = max(1, int(np.ceil(sent * len(severities) - 1e-9)))
        found[kind] = sorted(severities, reverse=True)[count - 1]
    return found


def _partners(before: Sequence[Region], after: Sequence[Region]) -> dict[int, int]:
    """Number of a region before to the number of the one that it became."""
    by_key = {region.key: number for number, region in enumerate(after) if region.key}
    partners = {
        number: by_key[region.key] for number, region in enumerate(before) if region.key in by_key
    }
    free = [number for number in range(len(before)) if number not in partners]
    others = [number for number in range(len(after)) if number not in partners.values()]
    pairs = match_boxes(
        _boxes([before[number] for number in free]),
        _boxes([after[number] for number in others]),
        min_iou=SAME_OBJECT,
    )
    return partners | {free[old]: others[new] for old, new, _ in pairs}


def _changes(before: Region, after: Region) -> tuple[str, ...]:
    assert before.xyxy is not None
    changes = []
    if _overlap(before.xyxy, [after]).max(initial=0) < SAME_PLACE:
        changes.append("shifted")
    if before.class_name != after.class_name:
        changes.append("swapped")
    return tuple(changes)


def _overlap(xyxy: tuple[float, ...], regions: Sequence[Region]) -> NDArray[np.float32]:
    return np.asarray(box_iou(np.array([xyxy], np.float32), _boxes(regions))[0], np.float32)


def _boxes(regions: Sequence[Region]) -> NDArray[np.float32]:
    return np.array([one.xyxy or (0, 0, 0, 0) for one in regions], np.float32).reshape(-1, 4)


def _whole_class(regions: Sequence[Region]) -> str:
    return next((region.class_name for region in regions if region.xyxy is None), "")
