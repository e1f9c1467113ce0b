"""Where two people differ: told in a sentence, and drawn for whoever settles it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from visionloop.labeling.decisions import Decision
from visionloop.labeling.regions import Region
from visionloop.labeling.review.comparing import Comparison, average, compare_answers
from visionloop.labeling.review.pairs import Pair, find_pair, latest
from visionloop.labeling.review.plan import draw

__all__ = ["draft_of_dispute", "find_dispute", "tell_dispute"]


def find_dispute(decisions: Sequence[Decision], *, min_iou: float) -> Pair | None:
    """Two independent answers to one sample that differ, if nobody has settled that yet.

    A second look at a doubtful annotation settles it, too, where it came later than the
    second opinion or says the same.

    Parameters
    ----------
    decisions : sequence of Decision
        All of one sample.
    min_iou : float
    """
    pair = find_pair(decisions)
    if pair is None or latest(decisions, "adjudicate") is not None:
        return None
    standing = latest(decisions, "second") or pair.first
    if standing.look == "second" and standing.decided_at > pair.second.decided_at:
        return None
    found = compare_answers(standing.regions, pair.second.regions, min_iou=min_iou)
    return None if found.agrees else replace(pair, first=standing)


def tell_dispute(comparison: Comparison) -> str:
    """One sentence without names, shown above the picture."""
    if all(row.xyxy is None for row in _regions(comparison)):
        said = " / ".join(_said(comparison))
        return f"Two people disagree: {said}. Your answer is final."
    count: Counter[str] = Counter()
    for row in comparison.differences:
        names = sorted({region.class_name for region in (row.first, row.second) if region})
        text = " or ".join(f"'{name}'" for name in names)
        if row.kind == "alone":
            text += " seen by one of them"
        elif row.kind == "place":
            text += " drawn differently"
        count[text] += 1
    parts = ", ".join(f"{text} ({number} x)" for text, number in sorted(count.items()))
    return (
        f"Two people disagree: {parts}. Where they differ both answers are drawn: keep what is "
        "right. Your answer is final."
    )


def draft_of_dispute(pair: Pair, *, min_iou: float, seed: int) -> list[Region]:
    """Both answers as one draft: once where they agree, twice where they differ.

    A class of the whole image has no draft, which would speak for one of the two. Whose box
    comes first is drawn by lot.
    """
    found = compare_answers(pair.first.regions, pair.second.regions, min_iou=min_iou)
    is_swapped = draw(f"order {pair.sample_id}", seed) < 0.5
    agreed = [one for one, _, _ in found.same]
    regions = [
        replace(region, key=f"both{number}", confidence=None)
        for number, region in enumerate(average(agreed, found))
    ]
    for number, row in enumerate(found.differences):
        sides = [row.second, row.first] if is_swapped else [row.first, row.second]
        regions += [
            replace(region, key=f"{'ab'[side]}{number}", confidence=None)
            for side, region in enumerate(sides)
            if region is not None
        ]
    return [region for region in regions if region.xyxy is not None]


def _regions(comparison: Comparison) -> Iterable[Region]:
    for one, two, _ in comparison.same:
        yield from (one, two)
    for row in comparison.differences:
        yield from (region for region in (row.first, row.second) if region is not None)


def _said(comparison: Comparison) -> list[str]:
    """The classes in question, in alphabetical order: it must not tell who said which."""
    return sorted(
        {
            region.class_name if region else "nothing"
            for row in comparison.differences
            for region in (row.first, row.second)
        }
    )
