"""What the scripted annotator does with a draft, once it knows what it wants to say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from visionloop.core.entities import Annotation
from visionloop.core.geometry import match_boxes
from visionloop.labeling.regions import Region

__all__ = ["PRICES", "Answer", "answer_boxes", "answer_class", "regions_of"]

PRICES = {
    "glance": 2.0,
    "draw": 7.0,
    "class": 1.5,
    "adjust": 3.5,
    "delete": 1.0,
    "verify": 1.6,
    "accept": 1.0,
}
"""Seconds. Draw is extreme clicking (Papadopoulos et al., ICCV 2017); verify and draw as
simulated by Konyushkova et al., CVPR 2018."""

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


def answer_class(drafts: Sequence[Region], wanted: Sequence[Region]) -> Answer:
    """Accept the class of the draft, or pick another."""
    answer = Answer()
    class_name = wanted[0].class_name
    if not drafts:
        answer.add(Region(class_name, None, "class"), "added", "manual", PRICES["class"])
    elif drafts[0].class_name == class_name:
        answer.add(drafts[0], "accepted", "prediction", PRICES["accept"])
    else:
        changed = Region(class_name, None, drafts[0].key)
        answer.add(changed, "relabelled", "prediction-changed", PRICES["class"])
    return answer


def answer_boxes(drafts: Sequence[Region], wanted: Sequence[Region]) -> Answer:
    """Verify, adjust, relabel or delete each box of the draft; draw what is missing."""
    answer = Answer()
    pairs = match_boxes(_boxes(drafts), _boxes(wanted), min_iou=0.5)
    for number, target, iou in pairs:
        _keep(answer, drafts[number], wanted[target], iou)
    gone = len(drafts) - len(pairs)
    if gone:
        answer.actions["deleted"] += gone
        answer.seconds += gone * PRICES["delete"]
    paired = {target for _, target, _ in pairs}
    for number, region in enumerate(wanted):
        if number not in paired:
            drawn = replace(region, key=f"new{number}")
            answer.add(drawn, "added", "manual", PRICES["draw"] + PRICES["class"])
    return answer


def _keep(answer: Answer, draft: Region, wanted: Region, iou: float) -> None:
    is_good, is_class = iou >= GOOD_IOU, draft.class_name == wanted.class_name
    xyxy = draft.xyxy if is_good else wanted.xyxy
    kept = replace(draft, xyxy=xyxy, class_name=wanted.class_name)
    seconds = PRICES["verify"]
    seconds += 0 if is_good else PRICES["adjust"]
    seconds += 0 if is_class else PRICES["class"]
    if is_good and is_class:
        answer.add(kept, "accepted", "prediction", seconds)
    else:
        action = "adjusted" if is_class else "relabelled"
        answer.add(kept, action, "prediction-changed", seconds)


def _boxes(regions: Sequence[Region]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.array([region.xyxy for region in regions], np.float32).reshape(-1, 4)
