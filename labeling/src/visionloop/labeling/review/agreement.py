"""How well people agree: over all, by class, and person by person.

A *statement* is what one person said of one object: the class of an image, or a box with its
class. It is *confirmed* if the other person said the same independently (for boxes: at one
place). The share of confirmed statements is the F1 score of one person's boxes against the
other's, and for classes of whole images the plain share of equal answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from visionloop.labeling.decisions import Decision
from visionloop.labeling.regions import Region
from visionloop.labeling.review.coefficients import Cells, alpha, kappa, one_against_rest
from visionloop.labeling.review.comparing import MIN_IOU, Comparison, compare_answers
from visionloop.labeling.review.intervals import LEVEL, Estimate, mean, share
from visionloop.labeling.review.pairs import Pair, find_pairs

__all__ = [
    "Agreement",
    "ClassAgreement",
    "Compared",
    "Statement",
    "cells_of",
    "compare_pairs",
    "measure",
    "share_by_sample",
    "share_of",
    "statements_of",
    "weak_classes",
]


@dataclass(frozen=True)
class Compared:
    """Two people's answers to one sample, and what they have in common."""

    pair: Pair
    comparison: Comparison


@dataclass(frozen=True)
class Statement:
    """What a person said of an object, and whether another person said so, too."""

    sample_id: str
    person: str
    other: str
    class_name: str
    is_confirmed: bool


@dataclass(frozen=True)
class ClassAgreement:
    """Agreement on one class.

    Attributes
    ----------
    name : str
    statements : Estimate
        Share of the statements of this class that were confirmed.
    kappa : Estimate
        This class against all others, where both saw an object.
    iou : Estimate
        Mean overlap of confirmed boxes; empty for classes of whole images.
    """

    name: str
    statements: Estimate
    kappa: Estimate
    iou: Estimate


@dataclass(frozen=True)
class Agreement:
    """Agreement of everybody on everything.

    Attributes
    ----------
    samples : int
        Seen by two people independently.
    people : list of str
    images : Estimate
        Share of the samples on which two people agree in everything.
    statements, iou : Estimate
        As of a class.
    kappa, alpha : Estimate
        Cohen's and Krippendorff's coefficients of the classes, where both saw an object.
    classes : list of ClassAgreement
    """

    samples: int
    people: list[str]
    images: Estimate
    statements: Estimate
    iou: Estimate
    kappa: Estimate
    alpha: Estimate
    classes: list[ClassAgreement]


def compare_pairs(decisions: Iterable[Decision], *, min_iou: float = MIN_IOU) -> list[Compared]:
    """Every pair of independent answers, compared; in the order of the sample ids."""
    return [
        Compared(
            pair,
            compare_answers(pair.first.regions, pair.second.regions, min_iou=min_iou),
        )
        for pair in find_pairs(decisions)
    ]


def measure(compared: Sequence[Compared], classes: Sequence[str], *, seed: int = 0) -> Agreement:
    """Measure the agreement.

    Parameters
    ----------
    compared : sequence of Compared
    classes : sequence of str
    seed : int
        Of the resampling behind the intervals.
    """
    statements = [row for one in compared for row in statements_of(one)]
    cells = cells_of(compared, classes)
    return Agreement(
        samples=len(compared),
        people=sorted({name for one in compared for name in one.pair.people}),
        images=share([one.comparison.agrees for one in compared], np.ones(len(compared))),
        statements=share_of(statements),
        iou=_overlap(compared, seed),
        kappa=kappa(cells, len(classes), seed=seed),
        alpha=alpha(cells, len(classes), seed=seed),
        classes=[
            ClassAgreement(
                name=name,
                statements=share_of([row for row in statements if row.class_name == name]),
                kappa=kappa(one_against_rest(cells, number), 2, seed=seed),
                iou=_overlap(compared, seed, name),
            )
            for number, name in enumerate(classes)
        ],
    )


def weak_classes(
    compared: Iterable[Compared], *, below: float, min_samples: int
) -> dict[str, float]:
    """Classes on which people agree too rarely, and how often they do.

    Parameters
    ----------
    compared : iterable of Compared
    below : float
        Smallest share of confirmed statements of a class that is not weak.
    min_samples : int
        Of fewer samples nothing is concluded.
    """
    by_class: dict[str, list[Statement]] = {}
    for one in compared:
        for row in statements_of(one):
            by_class.setdefault(row.class_name, []).append(row)
    shares = {name: share_of(rows) for name, rows in sorted(by_class.items())}
    return {
        name: found.value
        for name, found in shares.items()
        if found.value is not None and found.samples >= min_samples and found.value < below
    }


def statements_of(compared: Compared) -> list[Statement]:
    """All statements of both people."""
    one, two = compared.pair.people
    rows = []

    def add(person: str, other: str, region: Region | None, is_confirmed: bool) -> None:
        if region is not None:
            name = region.class_name
            rows.append(Statement(compared.pair.sample_id, person, other, name, is_confirmed))

    for first, second, _ in compared.comparison.same:
        add(one, two, first, True)
        add(two, one, second, True)
    for difference in compared.comparison.differences:
        add(one, two, difference.first, False)
        add(two, one, difference.second, False)
    return rows


def share_of(statements: Iterable[Statement]) -> Estimate:
    """The share of the statements that were confirmed."""
    return share_by_sample([(row.sample_id, row.is_confirmed) for row in statements])


def share_by_sample(rows: Iterable[tuple[str, bool]], *, level: float = LEVEL) -> Estimate:
    """The share of what is true of (sample id, truth) rows; samples are taken as a whole."""
    counts: dict[str, list[int]] = {}
    for sample_id, is_true in rows:
        count = counts.setdefault(sample_id, [0, 0])
        count[0] += is_true
        count[1] += 1
    table = np.array(list(counts.values())).reshape(-1, 2)
    return share(table[:, 0], table[:, 1], level=level)


def cells_of(compared: Sequence[Compared], classes: Sequence[str], person: str = "") -> Cells:
    """The classes that two people gave to each object that both saw.

    Parameters
    ----------
    compared : sequence of Compared
    classes : sequence of str
    person : str
        Whose class comes first, in what he was part of; empty: whoever answered first, in all.
    """
    number = {name: index for index, name in enumerate(classes)}
    cells = []
    for sample, one in enumerate(compared):
        if person and person not in one.pair.people:
            continue
        both = [(a, b) for a, b, _ in one.comparison.same]
        both += [(row.first, row.second) for row in one.comparison.differences
                 if row.kind == "class" and row.first and row.second]  # fmt: skip
        for first, second in both:
            pair = number[first.class_name], number[second.class_name]
            cells.append((sample, *(pair[::-1] if person == one.pair.people[1] else pair)))
    return cells


def _overlap(compared: Sequence[Compared], seed: int, name: str = "") -> Estimate:
    """Mean overlap of confirmed boxes, of one class or of all."""
    overlaps = [
        [
            iou
            for region, _, iou in one.comparison.same
            if region.xyxy is not None and name in ("", region.class_name)
        ]
        for one in compared
    ]
    return mean([row for row in overlaps if row], seed=seed)
