"""The verb ``agreement``: how well people agree, as numbers and as pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from visionloop.core.errors import DataError
from visionloop.core.files import write_json
from visionloop.core.workspace import Workspace
from visionloop.labeling.decisions import load_decisions
from visionloop.labeling.params import load_params
from visionloop.labeling.review.agreement import Agreement, Compared, compare_pairs, measure
from visionloop.labeling.review.page import write_pages
from visionloop.labeling.review.people import JUDGEMENTS, PersonAgreement, measure_people

__all__ = ["AgreementReport", "agreement"]


@dataclass(frozen=True)
class AgreementReport:
    """How well people agree.

    Attributes
    ----------
    agreement : Agreement
    people : list of PersonAgreement
    differing : list of str
        Samples on which two people differ.
    path, page : Path
    """

    agreement: Agreement
    people: list[PersonAgreement]
    differing: list[str]
    path: Path
    page: Path


def agreement(*, workspace: Workspace) -> AgreementReport:
    """Write ``reports/labeling/agreement.json``, ``agreement.html`` and a page for each person.

    Works on the last pull's decisions; Label Studio need not run.

    Raises
    ------
    DataError
        If nothing was pulled, or no sample was seen by two people yet.
    """
    project, params = load_params(workspace)
    decisions = load_decisions(workspace)
    compared = compare_pairs(decisions, min_iou=params.review.min_iou)
    if not compared:
        raise DataError(
            "agreement",
            "no sample was annotated by two people independently yet",
            "visionloop label review asks for second opinions; then: visionloop label pull",
        )
    found = measure(compared, project.classes, seed=project.seed)
    people = measure_people(
        compared,
        decisions,
        project.classes,
        min_pairs=params.review.min_pairs,
        min_iou=params.review.min_iou,
        seed=project.seed,
    )
    folder = workspace.reports / "labeling"
    path = write_json(folder / "agreement.json", _content(found, people, compared))
    page = write_pages(
        folder,
        workspace=workspace,
        agreement=found,
        people=people,
        compared=compared,
        decisions=decisions,
        min_pairs=params.review.min_pairs,
    )
    differing = [one.pair.sample_id for one in compared if not one.comparison.agrees]
    return AgreementReport(found, people, differing, path, page)


def _content(
    found: Agreement, people: Sequence[PersonAgreement], compared: Sequence[Compared]
) -> dict[str, Any]:
    return {
        **asdict(found),
        "persons": [{**asdict(row), "judgement": JUDGEMENTS[row.judgement]} for row in people],
        "disagreements": [
            {
                "sample_id": one.pair.sample_id,
                "people": list(one.pair.people),
                "differences": [
                    {
                        "kind": row.kind,
                        "first": row.first.class_name if row.first else None,
                        "second": row.second.class_name if row.second else None,
                        "iou": round(row.iou, 4),
                    }
                    for row in one.comparison.differences
                ],
            }
            for one in compared
            if not one.comparison.agrees
        ],
    }
