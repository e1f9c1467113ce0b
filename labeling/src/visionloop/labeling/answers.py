"""What the simulated annotator does with a draft, once it knows what it wants to say.

The same decisions are taken in Label Studio (``annotator.py``) and in benchmarks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from visionloop.core.entities import Annotation
from visionloop.core.geometry import match_boxes
from visionloop.labeling.habits import FAULTLESS, Habits, Way
from visionloop.labeling.prices import Prices
from visionloop.labeling.regions import Region
from visionloop.labeling.shapes import XYXY

__all__ = ["GOOD_IOU", "PRICES", "Answer", "answer_boxes", "answer_class", "regions_of"]

PRICES = Prices().by_action()
"""Seconds by action; see ``prices.Prices``."""

GOOD_IOU = 0.8
"""A draft that overlaps what the annotator sees this well is accepted as drawn."""


@dataclass
class Answer:
    """An annotation in the making.

    Attributes
    ----------
    regions : list of Region
    origins : dict of str to str
        Region key to "prediction", "prediction-changed" or "manual".
    actions : Counter
        Decisions: accepted, adjusted, relabelled, added, deleted.
    seconds : float
        Priced time.
    """

    regions: list[Region] = field(default_factory=list)
    origins: dict[str, str] = field(default_factory=dict)
    actions: Counter[str] = field(default_factory=Counter)
    seconds: float = PRICES["glance"]

    def add(self, region: Region, action: str, origin: str, seconds: float) -> None:
        """Put a region into the annotation, with what it cost."""
        self.regions.append(region)
        self.origins[region.key] = origin
        self.actions[action] += 1
        self.seconds += seconds


def regions_of(annotations: Sequence[Annotation]) -> list[Region]:
    """Annotations as regions; "nothing there" gives none."""
    return [Region(row.class_name, row.xyxy) for row in annotations if row.class_name]


def answer_class(
    drafts: Sequence[Region],
    wanted: Sequence[Region],
    *,
    prices: Prices | None = None,
    habits: Habits = FAULTLESS,
    random: np.random.Generator | None = None,
) -> Answer:
    """Accept the class of the draft, or pick another; a wrong one may pass."""
    prices = prices or Prices()
    random = random or np.random.default_rng(0)
    answer = Answer(seconds=prices.glance)
    class_name = wanted[0].class_name
    if not drafts:
        answer.add(Region(class_name, None, "class"), "added", "manual", prices.pick)
    elif drafts[0].class_name == class_name or random.random() < habits.slip_in("glance"):
        answer.add(drafts[0], "accepted", "prediction", prices.accept)
    else:
        changed = Region(class_name, None, drafts[0].key)
        answer.add(changed, "relabelled", "prediction-changed", prices.pick)
    return answer


def answer_boxes(
    drafts: Sequence[Region],
    wanted: Sequence[Region],
    *,
    prices: Prices | None = None,
    habits: Habits = FAULTLESS,
    way: Way = "verify",
    is_second: bool = False,
    random: np.random.Generator | None = None,
) -> Answer:
    """Accept, adjust, relabel or delete each box of the draft; draw what is missing.

    Parameters
    ----------
    drafts : sequence of Region
        What is shown. With none of them everything is drawn by hand, whatever the way.
    wanted : sequence of Region
        What is true, as far as the annotator could know.
    prices : Prices or None
    habits : Habits
    way : "verify", "glance" or "draw"
    is_second : bool
        The drafts are another person's answer, which this one checks.
    random : numpy Generator or None
        Decides what the annotator does not notice.
    """
    prices = prices or Prices()
    random = random or np.random.default_rng(0)
    way = way if drafts else "draw"
    desk = _Desk(prices, habits, way, is_second, random)
    answer = Answer(seconds=prices.glance + (prices.accept if way == "glance" else 0))
    pairs = match_boxes(_boxes(drafts), _boxes(wanted), min_iou=0.5)
    for number, target, iou in pairs:
        desk.keep(answer, drafts[number], wanted[target], iou)
    paired = {number for number, _, _ in pairs}
    for number, region in enumerate(drafts):
        if number not in paired:
            desk.delete(answer, region)
    found = {target for _, target, _ in pairs}
    for number, region in enumerate(wanted):
        if number not in found:
            desk.draw(answer, replace(region, key=f"new{number}"))
    return answer


@dataclass(frozen=True)
class _Desk:
    """One picture under the hands of one annotator."""

    prices: Prices
    habits: Habits
    way: Way
    is_second: bool
    random: np.random.Generator

    def keep(self, answer: Answer, draft: Region, wanted: Region, iou: float) -> None:
        """A drafted box on an object: put right what is seen to be wrong."""
        passes = self.habits.pass_in(self.way, iou, is_second=self.is_second)
        is_good = iou >= GOOD_IOU or self._is(passes)
        is_class = draft.class_name == wanted.class_name or self._slips()
        seconds = self._looking()
        kept = draft
        if not is_good:
            kept = replace(kept, xyxy=self._drawn(wanted))
            seconds += self.prices.adjust
        if not is_class:
            kept = replace(kept, class_name=wanted.class_name)
            seconds += self.prices.pick
        if is_good and is_class:
            answer.add(kept, "accepted", "prediction", seconds)
        else:
            action = "adjusted" if is_class else "relabelled"
            answer.add(kept, action, "prediction-changed", seconds)

    def delete(self, answer: Answer, draft: Region) -> None:
        """A drafted box where nothing is."""
        if self._slips():
            answer.add(draft, "accepted", "prediction", self._looking())
        else:
            answer.actions["deleted"] += 1
            answer.seconds += self._looking() + self.prices.delete

    def draw(self, answer: Answer, wanted: Region) -> None:
        """An object without a box."""
        if not self._slips():
            drawn = replace(wanted, xyxy=self._drawn(wanted))
            answer.add(drawn, "added", "manual", self.prices.draw + self.prices.pick)

    def _looking(self) -> float:
        return 0.0 if self.way == "glance" else self.prices.verify

    def _slips(self) -> bool:
        return self._is(self.habits.slip_in(self.way, is_second=self.is_second))

    def _is(self, chance: float) -> bool:
        return bool(self.random.random() < chance)

    def _drawn(self, wanted: Region) -> XYXY | None:
        return None if wanted.xyxy is None else self.habits.draw(wanted.xyxy, self.random)


def _boxes(regions: Sequence[Region]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.array([region.xyxy for region in regions], np.float32).reshape(-1, 4)
