"""How one person agrees with the others, beside what others would reach in the same place.

Classes differ in how hard they are, and people in which classes and partners they were given.
So nobody is ranked, and nothing is said where the numbers are too small to say it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from visionloop.labeling.decisions import Decision
from visionloop.labeling.regions import Region
from visionloop.labeling.review.agreement import Compared, cells_of, share_by_sample
from visionloop.labeling.review.coefficients import kappa
from visionloop.labeling.review.comparing import MIN_IOU, compare_answers
from visionloop.labeling.review.expected import Expectations, View
from visionloop.labeling.review.intervals import Estimate, share
from visionloop.labeling.review.pairs import latest

__all__ = ["JUDGEMENTS", "PersonAgreement", "measure_people", "views_of"]

JUDGEMENTS = {
    "few": "not enough data",
    "alone": "no comparison: too few people",
    "alike": "no difference that these numbers could show",
    "lower": "agrees less often than others on the same classes",
    "higher": "agrees more often than others on the same classes",
}

Judgement = Literal["few", "alone", "alike", "lower", "higher"]


@dataclass(frozen=True)
class PersonAgreement:
    """One person's agreement with the others.

    Attributes
    ----------
    name : str
    images : Estimate
        Share of the samples on which this and another person agree in everything.
    objects : Estimate
        Share of the objects that either of two people saw on which they agree; an image with
        a class is one object.
    expected : Estimate
        What others would reach with the same partners on the same classes.
    judgement : key of ``JUDGEMENTS``
    kappa : Estimate
        Cohen's, the own classes against those of the others.
    settled : Estimate
        Where somebody settled a dispute that this person was part of: share of the objects of
        the own or the final answer that are in both.
    confusions : list of (str, str, int)
        The own word, the other person's, how often; the most frequent first.
    """

    name: str
    images: Estimate
    objects: Estimate
    expected: Estimate
    judgement: Judgement
    kappa: Estimate
    settled: Estimate
    confusions: list[tuple[str, str, int]] = field(default_factory=list)


def measure_people(
    compared: Sequence[Compared],
    decisions: Iterable[Decision],
    classes: Sequence[str],
    *,
    min_pairs: int,
    min_iou: float = MIN_IOU,
    seed: int = 0,
) -> list[PersonAgreement]:
    """Each person's agreement, in the order of the names.

    The chance that somebody out of all of them is told apart wrongly is 5 %, however many
    they are (Bonferroni).

    Parameters
    ----------
    compared : sequence of Compared
    decisions : iterable of Decision
        All of them: the adjudicated ones tell who was right.
    classes : sequence of str
    min_pairs : int
        Fewer samples say "not enough data".
    min_iou : float
    seed : int
    """
    views = [row for one in compared for row in views_of(one)]
    final = _final(decisions)
    names = sorted({name for one in compared for name in one.pair.people})
    level = 1 - 0.05 / max(1, len(names))
    model = Expectations(views, seed)
    people = []
    for name in names:
        mine = [one for one in compared if name in one.pair.people]
        own = [(row.sample_id, row.agrees) for row in views if row.person == name]
        people.append(
            PersonAgreement(
                name=name,
                images=share([one.comparison.agrees for one in mine], np.ones(len(mine))),
                objects=share_by_sample(own),
                expected=model.of(name),
                judgement=_judge(
                    share_by_sample(own, level=level), model.of(name, level=level), min_pairs
                ),
                kappa=kappa(cells_of(mine, classes, name), len(classes), seed=seed),
                settled=_settled(name, mine, final, min_iou),
                confusions=_confusions(name, mine),
            )
        )
    return people


def views_of(compared: Compared) -> list[View]:
    """Each object as each of the two people saw it."""
    one, two = compared.pair.people
    both: list[tuple[Region | None, Region | None, bool]] = [
        (first, second, True) for first, second, _ in compared.comparison.same
    ]
    both += [(row.first, row.second, False) for row in compared.comparison.differences]
    views = []
    for first, second, agrees in both:
        for person, other, mine, theirs in ((one, two, first, second), (two, one, second, first)):
            region = theirs or mine
            assert region is not None
            sample_id, name = compared.pair.sample_id, region.class_name
            views.append(View(sample_id, person, other, name, agrees))
    return views


def _judge(mine: Estimate, expected: Estimate, min_pairs: int) -> Judgement:
    """Whether the difference is more than chance (Newcombe's interval of a difference)."""
    if expected.value is None or expected.low is None or expected.high is None:
        return "alone"
    if mine.value is None or mine.low is None or mine.high is None:
        return "few"
    if min(mine.samples, expected.samples) < min_pairs:
        return "few"
    difference = mine.value - expected.value
    if difference + np.hypot(mine.high - mine.value, expected.value - expected.low) < 0:
        return "lower"
    is_higher = difference - np.hypot(mine.value - mine.low, expected.high - expected.value) > 0
    return "higher" if is_higher else "alike"


def _final(decisions: Iterable[Decision]) -> dict[str, Decision]:
    """Sample id to the adjudicated answer."""
    by_sample: dict[str, list[Decision]] = {}
    for row in decisions:
        if row.look == "adjudicate":
            by_sample.setdefault(row.sample_id, []).append(row)
    last = {sample_id: latest(rows, "adjudicate") for sample_id, rows in by_sample.items()}
    return {sample_id: row for sample_id, row in last.items() if row is not None}


def _settled(
    name: str, mine: Sequence[Compared], final: dict[str, Decision], min_iou: float
) -> Estimate:
    right, total = [], []
    for one in mine:
        if one.comparison.agrees or one.pair.sample_id not in final:
            continue
        answer = one.pair.first if one.pair.first.annotator == name else one.pair.second
        truth = final[one.pair.sample_id].regions
        found = compare_answers(answer.regions, truth, min_iou=min_iou)
        objects = len(found.same) + len(found.differences)
        right.append(len(found.same) if objects else 1)  # rightly said that nothing is there
        total.append(max(1, objects))
    return share(right, total)


def _confusions(name: str, mine: Sequence[Compared]) -> list[tuple[str, str, int]]:
    count: Counter[tuple[str, str]] = Counter()
    for one in mine:
        is_second = one.pair.people[1] == name
        for row in one.comparison.differences:
            said = [region.class_name if region else "" for region in (row.first, row.second)]
            count[(said[is_second], said[not is_second])] += 1
    return [(own, other, number) for (own, other), number in count.most_common(8)]
