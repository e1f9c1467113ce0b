"""How a simulated annotator errs: overlooks, is satisfied, and trusts what is already drawn.

People who are shown a draft check less than people who look for themselves (automation
bias), and least where they accept a whole picture at a glance. So every chance to err is
multiplied by ``beside_drafts`` or ``at_a_glance``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from visionloop.labeling.shapes import XYXY

__all__ = ["FAULTLESS", "HUMAN", "Habits", "Way"]

Way = Literal["draw", "verify", "glance"]
"""How a picture is worked on: without a draft; each drafted box looked at; accepted as a
whole, and only what strikes the eye put right."""

LOOSE_IOU = 0.7
"""A drafted box below it looks wrong; up to ``answers.GOOD_IOU`` it may pass."""


@dataclass(frozen=True)
class Habits:
    """Chances to err.

    Attributes
    ----------
    slip : float
        To overlook an object, a wrong class or a box that is not one, without any draft.
    loose : float
        To accept a drafted box of IoU 0.7 to 0.8 as it is, when each box is looked at.
    beside_drafts, at_a_glance : float
        How many times as often each happens in the other two ways of working.
    alike : float
        Of what one person did not notice, the share that nobody else notices either.
    wobble : float
        Standard deviation of a side that is drawn by hand, as a share of the box's length.
    """

    slip: float = 0.0
    loose: float = 0.0
    beside_drafts: float = 3.0
    at_a_glance: float = 6.0
    alike: float = 0.0
    wobble: float = 0.0

    def slip_in(self, way: Way, *, is_second: bool = False) -> float:
        """Chance of not noticing one mistake of the draft, or one object without a box.

        Parameters
        ----------
        way : Way
        is_second : bool
            Another person has looked at the picture and did not notice it.
        """
        factor = {"draw": 1.0, "verify": self.beside_drafts, "glance": self.at_a_glance}[way]
        return self._after(min(1.0, self.slip * factor), is_second)

    def pass_in(self, way: Way, iou: float, *, is_second: bool = False) -> float:
        """Chance of accepting the place of a drafted box that is not good."""
        if iou < LOOSE_IOU:
            return self.slip_in(way, is_second=is_second)
        factor = self.at_a_glance / self.beside_drafts if way == "glance" else 1.0
        return self._after(min(1.0, self.loose * factor), is_second)

    def _after(self, chance: float, is_second: bool) -> float:
        return self.alike + (1 - self.alike) * chance if is_second else chance

    def draw(self, xyxy: XYXY, random: np.random.Generator) -> XYXY:
        """A box as the hand draws it."""
        if not self.wobble:
            return xyxy
        x1, y1, x2, y2 = xyxy
        lengths = np.array([x2 - x1, y2 - y1, x2 - x1, y2 - y1])
        moved = np.array(xyxy) + random.normal(0, self.wobble, 4) * lengths
        left, right = sorted((float(moved[0]), float(moved[2])))
        top, bottom = sorted((float(moved[1]), float(moved[3])))
        return max(0.0, left), max(0.0, top), right, bottom


FAULTLESS = Habits()
"""Says what it knows; its errors are planned elsewhere (``mistakes.py``)."""

HUMAN = Habits(slip=0.03, loose=0.2, alike=0.3, wobble=0.03)
"""Overlooks 3 % of the objects. Hands draw to an IoU of about .9."""
