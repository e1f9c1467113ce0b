"""Pages of the review: one about everybody, and one a person about himself alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from visionloop.core.files import sha256_of_bytes
from visionloop.core.workspace import Workspace
from visionloop.labeling.decisions import Decision
from visionloop.labeling.review.agreement import Agreement, Compared
from visionloop.labeling.review.comparing import Difference
from visionloop.labeling.review.intervals import Estimate
from visionloop.labeling.review.pairs import latest
from visionloop.labeling.review.people import JUDGEMENTS, PersonAgreement
from visionloop.labeling.review.pictures import picture_of_dispute

__all__ = ["page_name", "write_pages"]

TEMPLATES = Path(__file__).parent / "templates"
MOST_PICTURES = 24


@dataclass(frozen=True)
class Shown:
    """A number as a page shows it.

    Attributes
    ----------
    text, behind : str
        Value and interval; what it was counted from.
    is_known : bool
        There are enough samples to say it.
    at, left, width : float
        Value and interval on a line from 0 to 100.
    """

    text: str
    behind: str
    is_known: bool = False
    at: float = 0
    left: float = 0
    width: float = 0


@dataclass(frozen=True)
class Case:
    """A disagreement with its picture and what each said."""

    picture: str
    sample_id: str
    said: list[tuple[str, str]]
    settled: str


def write_pages(
    folder: Path,
    *,
    workspace: Workspace,
    agreement: Agreement,
    people: Sequence[PersonAgreement],
    compared: Sequence[Compared],
    decisions: Sequence[Decision],
    min_pairs: int,
) -> Path:
    """Write ``agreement.html`` and ``annotators/<name>.html``; returns the first.

    A person's page names nobody else.
    """
    from visionloop.data.pages import write_page
    from visionloop.data.raw import read_samples

    names = read_samples(workspace).set_index("sample_id")["file_name"].to_dict()
    paths = {sample_id: workspace.images / str(name) for sample_id, name in names.items()}
    final = _final_of(decisions)

    def show(estimate: Estimate, unit: str = "samples", *, is_share: bool = True) -> Shown:
        return _show(estimate, min_pairs, unit, is_share)

    is_boxes = agreement.iou.value is not None
    common = {"show": show, "is_boxes": is_boxes, "min_pairs": min_pairs}
    for person in people:
        write_page(
            folder / "annotators" / page_name(person.name),
            TEMPLATES / "annotator.html.j2",
            person=person,
            judgement=JUDGEMENTS[person.judgement],
            cases=_cases(person.name, compared, paths, final),
            most=MOST_PICTURES,
            **common,
        )
    return write_page(
        folder / "agreement.html",
        TEMPLATES / "agreement.html.j2",
        agreement=agreement,
        people=[(row.name, f"annotators/{page_name(row.name)}") for row in people],
        cases=_cases("", compared, paths, final),
        most=MOST_PICTURES,
        **common,
    )


def page_name(person: str) -> str:
    """The file of a person's page: nothing in it leads out of the folder, no two are alike."""
    safe = re.sub(r"[^A-Za-z0-9@._-]", "_", person).lstrip(".")
    if safe != person or not safe:
        safe += f"-{sha256_of_bytes(person.encode())[:8]}"
    return f"{safe}.html"


def _show(estimate: Estimate, min_pairs: int, unit: str, is_share: bool) -> Shown:
    if estimate.value is None:
        return Shown("–", "nothing to count")
    behind = f"{estimate.samples} samples"
    if is_share and estimate.total:
        behind = f"{estimate.agreed} of {estimate.total} {unit}"
    if estimate.samples < min_pairs or estimate.low is None or estimate.high is None:
        return Shown("not enough data", behind)
    factor, digits = (100, 0) if is_share else (1, 2)
    value, low, high = (
        f"{factor * number:.{digits}f}" for number in (estimate.value, estimate.low, estimate.high)
    )
    percent = " %" if is_share else ""
    left, right = (100 * min(1.0, max(0.0, end)) for end in (estimate.low, estimate.high))
    at = 100 * min(1.0, max(0.0, estimate.value))
    return Shown(f"{value}{percent} ({low} to {high})", behind, True, at, left, right - left)


def _final_of(decisions: Iterable[Decision]) -> dict[str, Decision]:
    by_sample: dict[str, list[Decision]] = {}
    for row in decisions:
        by_sample.setdefault(row.sample_id, []).append(row)
    final = {sample_id: latest(rows, "adjudicate") for sample_id, rows in by_sample.items()}
    return {sample_id: row for sample_id, row in final.items() if row is not None}


def _cases(
    person: str,
    compared: Sequence[Compared],
    paths: dict[str, Path],
    final: dict[str, Decision],
) -> list[Case]:
    cases: list[Case] = []
    for one in compared:
        if one.comparison.agrees or (person and person not in one.pair.people):
            continue
        if len(cases) == MOST_PICTURES:
            break
        sample_id, is_second = one.pair.sample_id, person == one.pair.people[1]
        said = [_said(row, is_second) for row in one.comparison.differences]
        picture = ""
        if sample_id in paths:
            picture = picture_of_dispute(paths[sample_id], one.comparison, is_second=is_second)
        cases.append(Case(picture, sample_id[:12], said, _settled(final.get(sample_id))))
    return cases


def _said(row: Difference, is_second: bool) -> tuple[str, str]:
    """Own word and the other person's."""
    words = [region.class_name if region else "nothing" for region in (row.first, row.second)]
    if row.kind == "place":
        words = [f"{word}, drawn differently" for word in words]
    return (words[1], words[0]) if is_second else (words[0], words[1])


def _settled(decision: Decision | None) -> str:
    if decision is None:
        return ""
    if not decision.regions:
        return "nothing there"
    if all(region.xyxy is None for region in decision.regions):
        return ", ".join(region.class_name for region in decision.regions)
    count = len(decision.regions)
    return "1 box" if count == 1 else f"{count} boxes"
