"""How one person agrees with the others, compared with what the same classes would let expect.

Classes differ in how hard they are, and people differ in which classes they were given. So
nobody is ranked: a person's agreement is set beside that of all others on the same classes,
and nothing is said where the numbers are too small to say it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from visionloop.labeling.decisions import Decision
from visionloop.labeling.review.agreement import (
    Compared,
    Statement,
    cells_of,
    share_of,
    statements_of,
)
from visionloop.labeling.review.coefficients import kappa
from visionloop.labeling.review.comparing import MIN_IOU, compare_answers
from visionloop.labeling.review.intervals import Estimate, share
from visionloop.labeling.review.pairs import latest

__all__ = ["JUDGEMENTS", "PersonAgreement", "measure_people"]

JUDGEMENTS = {
    "few": "not enough data",
    "alone": "no comparison: fewer than three people",
    "alike": "no difference that these numbers could show",
    "lower": "agrees less often than others do on the same classes",
    "higher": "agrees more often than others do on the same classes",
}

Judgement = Literal["few", "alone", "alike", "lower", "higher"]


@dataclass(frozen=True)
class PersonAgreement:
    """One person's agreement with the others.

    Attributes
    ----------
    name : str
    images : Estimate
        Share of the samples on which he and another person agree in everything.
    statements : Estimate
        Share of the statements, his and the other person's, that were confirmed.
    compared : Estimate
        The same, only on classes that others gave as well.
    expected : Estimate
        What others reach on these classes, in the same mixture.
    judgement : key of ``JUDGEMENTS``
    kappa : Estimate
        Cohen's, his classes against those of the others.
    settled : Estimate
        Where somebody settled a dispute that he was part of: share of the statements, his and
        the final ones, that agree.
    confusions : list of (str, str, int)
        What he said, what the other person said, how often; the most frequent first.
    """

    name: str
    images: Estimate
    statements: Estimate
    compared: Estimate
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
    statements = [row for one in compared for row in statements_of(one)]
    final = _final(decisions)
    names = sorted({name for one in compared for name in one.pair.people})
    level = 1 - 0.05 / max(1, len(names))
    people = []
    for name in names:
        mine = [one for one in compared if name in one.pair.people]
        own = [row for row in statements if name in (row.person, row.other)]
        others = [row for row in statements if name not in (row.person, row.other)]
        on_both, expected = _expect(own, others)
        people.append(
            PersonAgreement(
                name=name,
                images=share([one.comparison.agrees for one in mine], np.ones(len(mine))),
                statements=share_of(own),
                compared=on_both,
                expected=expected,
                judgement=_judge(own, others, len(names), min_pairs, level),
                kappa=kappa(cells_of(mine, classes, name), len(classes), seed=seed),
                settled=_settled(name, mine, final, min_iou),
                confusions=_confusions(name, mine),
            )
        )
    return people


def _expect(
    own: Sequence[Statement], others: Sequence[Statement], *, level: float = 0.95
) -> tuple[Estimate, Estimate]:
    """A person's share on classes that others gave, too, and theirs in the same mixture."""
    by_class: dict[str, list[Statement]] = {}
    for row in others:
        by_class.setdefault(row.class_name, []).append(row)
    known = [row for row in own if row.class_name in by_class]
    if not known:
        return Estimate(), Estimate()
    parts = Counter(row.class_name for row in known)
    shares = {name: share_of(by_class[name], level=level) for name in parts}
    weights = {name: count / len(known) for name, count in parts.items()}
    value = sum(weight * _value(shares[name].value) for name, weight in weights.items())
    below, above = (
        np.sqrt(
            sum(
                (weight * (_value(bound) - _value(shares[name].value))) ** 2
                for name, weight in weights.items()
                for bound in [shares[name].low if side == "low" else shares[name].high]
            )
        )
        for side in ("low", "high")
    )
    samples = len({row.sample_id for name in parts for row in by_class[name]})
    expected = Estimate(value, max(0.0, value - below), min(1.0, value + above), samples)
    return share_of(known, level=level), expected


def _judge(
    own: Sequence[Statement],
    others: Sequence[Statement],
    people: int,
    min_pairs: int,
    level: float,
) -> Judgement:
    """Whether the difference is more than chance (Newcombe's interval of a difference)."""
    if people < 3:
        return "alone"
    mine, theirs = _expect(own, others, level=level)
    if min(mine.samples, theirs.samples) < min_pairs:
        return "few"
    a, b = (_value(row.value) for row in (mine, theirs))
    difference = a - b
    below = np.hypot(a - _value(mine.low), _value(theirs.high) - b)
    above = np.hypot(_value(mine.high) - a, b - _value(theirs.low))
    if difference + above < 0:
        return "lower"
    return "higher" if difference - below > 0 else "alike"


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
        same = compare_answers(answer.regions, truth, min_iou=min_iou).same
        right.append(2 * len(same))
        total.append(len(answer.regions) + len(truth))
    return share(right, total)


def _confusions(name: str, mine: Sequence[Compared]) -> list[tuple[str, str, int]]:
    count: Counter[tuple[str, str]] = Counter()
    for one in mine:
        is_second = one.pair.people[1] == name
        for row in one.comparison.differences:
            said = [region.class_name if region else "" for region in (row.first, row.second)]
            count[(said[is_second], said[not is_second])] += 1
    return [(own, other, number) for (own, other), number in count.most_common(8)]


def _value(number: float | None) -> float:
    assert number is not None
    return number
