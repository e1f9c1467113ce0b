"""Costs of groups of decisions, and drafts beside drawing by hand."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from visionloop.labeling.metering.times import Timed
from visionloop.labeling.review.intervals import Estimate, resample

__all__ = ["FEWEST", "LookCost", "Saving", "compare_with_hand", "cost_of", "group_costs"]

FEWEST = 20
"""Samples on either side below which nothing is said about a saving."""

DRAWS = 2000

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class LookCost:
    """The cost of a group of decisions.

    Attributes
    ----------
    images, objects : int
        Tasks answered; annotations in them (a class of the whole image counts as one).
    seconds : float
        Sum of the working times.
    seconds_per_image, seconds_per_object : float
        0 where there is nothing to divide by.
    accepted_share : float
        Share of the drafts' regions that were accepted as they were, 0 without drafts.
    actions : dict of str to int
        With ``deleted`` beside the actions of annotations.
    per_image, per_object : Estimate
        The same seconds with an interval, over pictures whose time was measured.
    cut, unmeasured : int
        Answers whose time was cut as too long to be work; answers without a time.
    """

    images: int
    objects: int
    seconds: float
    seconds_per_image: float
    seconds_per_object: float
    accepted_share: float
    actions: dict[str, int]
    per_image: Estimate = field(default_factory=Estimate)
    per_object: Estimate = field(default_factory=Estimate)
    cut: int = 0
    unmeasured: int = 0


@dataclass(frozen=True)
class Saving:
    """First looks with a draft beside those of the control share, drawn by hand.

    Attributes
    ----------
    drafted, control : int
        Pictures on either side.
    by_hand : Estimate
        Seconds an image by hand.
    share : Estimate
        Cost of a picture with a draft as a share of one by hand; value None means that
        there is not enough data.
    share_per_object : Estimate
        The same for an object, which does not depend on how full the pictures are.
    share_with_checks : Estimate
        The same as ``share`` with all later looks at the drafted pictures charged.
    """

    drafted: int
    control: int
    by_hand: Estimate
    share: Estimate
    share_per_object: Estimate
    share_with_checks: Estimate

    @property
    def is_known(self) -> bool:
        """There are enough pictures on both sides."""
        return self.share.value is not None


def cost_of(rows: Sequence[Timed]) -> LookCost:
    """The cost of these decisions."""
    actions = Counter(action for row in rows for action in row.decision.actions)
    actions["deleted"] = sum(row.decision.deleted for row in rows)
    proposed = actions.total() - actions["added"]
    measured = [row for row in rows if row.is_measured]
    seconds = np.array([row.seconds for row in measured])
    objects = np.array([len(row.decision.actions) for row in measured], float)
    total = float(seconds.sum())
    return LookCost(
        images=len(rows),
        objects=sum(len(row.decision.actions) for row in rows),
        seconds=round(total, 1),
        seconds_per_image=_ratio(total, len(measured)),
        seconds_per_object=_ratio(total, float(objects.sum())),
        accepted_share=_ratio(actions["accepted"], proposed),
        actions={name: count for name, count in sorted(actions.items()) if count},
        per_image=_estimate(seconds, np.ones(len(seconds))),
        per_object=_estimate(seconds, objects),
        cut=sum(row.is_cut for row in rows),
        unmeasured=len(rows) - len(measured),
    )


def group_costs(rows: Sequence[Timed], name_of: Callable[[Timed], str]) -> dict[str, LookCost]:
    """The cost of each group, in the order in which the groups begin."""
    groups: dict[str, list[Timed]] = {}
    for row in rows:
        groups.setdefault(name_of(row), []).append(row)
    return {name: cost_of(members) for name, members in groups.items()}


def compare_with_hand(rows: Sequence[Timed], *, seed: int = 0) -> Saving:
    """Cost with drafts as a share of the cost by hand, with bootstrap intervals.

    Only the control share tells what drawing by hand costs: it was drawn at random from
    the same pictures. Pictures annotated before there was a model were not.

    Parameters
    ----------
    rows : sequence of Timed
        All looks.
    seed : int
    """
    first = [row for row in rows if row.decision.look == "first" and row.is_measured]
    control = [row for row in first if row.decision.is_control and not row.decision.had_draft]
    drafted = [row for row in first if row.decision.had_draft]
    later: dict[str, float] = defaultdict(float)
    for row in rows:
        if row.decision.look != "first":
            later[row.decision.sample_id] += row.seconds
    ours, hand = _seconds(drafted), _seconds(control)
    charged = ours + np.array([later[row.decision.sample_id] for row in drafted], float)
    sides = _objects(drafted), _objects(control)
    ones = np.ones(len(ours)), np.ones(len(hand))
    return Saving(
        drafted=len(drafted),
        control=len(control),
        by_hand=_estimate(hand, ones[1]),
        share=_share(ours, ones[0], hand, ones[1], seed),
        share_per_object=_share(ours, sides[0], hand, sides[1], seed),
        share_with_checks=_share(charged, ones[0], hand, ones[1], seed),
    )


def _seconds(rows: Sequence[Timed]) -> Numbers:
    return np.array([row.seconds for row in rows], np.float64)


def _objects(rows: Sequence[Timed]) -> Numbers:
    return np.array([len(row.decision.actions) for row in rows], np.float64)


def _estimate(seconds: Numbers, counts: Numbers) -> Estimate:
    """Seconds for one of what is counted, resampled by picture."""
    if not counts.sum():
        return Estimate(samples=len(seconds))
    value = float(seconds.sum() / counts.sum())
    with np.errstate(invalid="ignore", divide="ignore"):
        low, high = resample(lambda drawn: (drawn @ seconds) / (drawn @ counts), len(seconds))
    if not np.isfinite(low):
        return Estimate(value, samples=len(seconds))
    return Estimate(value, low, high, samples=len(seconds))


def _share(
    ours: Numbers, our_counts: Numbers, hand: Numbers, hand_counts: Numbers, seed: int
) -> Estimate:
    """A ratio of two means; each side is resampled on its own."""
    samples = min(len(ours), len(hand))
    if samples < FEWEST or not our_counts.sum() or not hand_counts.sum() or not hand.sum():
        return Estimate(samples=samples)
    random = np.random.default_rng(seed)
    drawn = [
        random.multinomial(len(side), np.full(len(side), 1 / len(side)), size=DRAWS)
        for side in (ours, hand)
    ]
    with np.errstate(invalid="ignore", divide="ignore"):
        values = (drawn[0] @ ours) / (drawn[0] @ our_counts)
        values /= (drawn[1] @ hand) / (drawn[1] @ hand_counts)
    low, high = np.quantile(values[np.isfinite(values)], [0.025, 0.975])
    value = (ours.sum() / our_counts.sum()) / (hand.sum() / hand_counts.sum())
    return Estimate(float(value), float(low), float(high), samples=samples)


def _ratio(amount: float, count: float) -> float:
    return round(float(amount / count), 4) if count else 0.0
