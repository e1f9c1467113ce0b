"""Three ways of annotating the same boards: by hand, the peer's way, and visionloop's.

The annotator's decisions are those of ``visionloop.labeling.answers``, the thresholds those
of ``visionloop.labeling.thresholds``. What a policy knows of the truth is what the simulated
annotator has said so far.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from label_cost_models import TRAININGS, Boards
from numpy.typing import NDArray

from visionloop.core.entities import Detections
from visionloop.core.geometry import match_boxes
from visionloop.data.datasets.deeppcb import CLASSES
from visionloop.labeling.answers import answer_boxes
from visionloop.labeling.habits import Habits, Way
from visionloop.labeling.prices import Prices
from visionloop.labeling.regions import Region
from visionloop.labeling.thresholds import choose_thresholds

__all__ = ["Course", "Settings", "by_hand", "our_way", "peer_way"]

Answers = Mapping[int, Mapping[int, Detections]]


@dataclass
class Course:
    """What one pass over all boards cost and left.

    Attributes
    ----------
    seconds : float64 array (N,)
        Of each board, with all looks at it.
    regions : list of list of Region
        What was said last.
    ways : Counter
        Boards by way of working, and "second person".
    """

    seconds: NDArray[np.float64]
    regions: list[list[Region]] = field(default_factory=list)
    ways: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Settings:
    """What our way may be told.

    Attributes
    ----------
    glance_below : float
        A draft is accepted at a glance where fewer mistakes an object are expected in it.
    checked : float
        Share of the drafted boards that a second person checks.
    control : float
        Share of the boards shown without a draft, to measure what drawing costs.
    first_confidence : float
        Threshold until the first drafted boards are annotated.
    refresh : int
        Boards between two choices of thresholds.
    """

    glance_below: float = 0.15
    checked: float = 0.04
    control: float = 0.02
    first_confidence: float = 0.3
    refresh: int = 10


def truth_of(boards: Boards) -> list[list[Region]]:
    """The boxes of each board as regions."""
    return [
        [
            Region(CLASSES[number], tuple(map(float, box)))
            for box, number in zip(xyxy, class_id, strict=True)
        ]
        for xyxy, class_id in zip(boards.xyxy, boards.class_id, strict=True)
    ]


def by_hand(truth: Sequence[list[Region]], prices: Prices, habits: Habits, seed: int) -> Course:
    """Every box drawn."""
    random = np.random.default_rng(seed)
    course = Course(np.zeros(len(truth)))
    for image, wanted in enumerate(truth):
        _work(course, image, [], wanted, "draw", prices, habits, random)
    return course


def peer_way(
    truth: Sequence[list[Region]], answers: Answers, prices: Prices, habits: Habits, seed: int
) -> Course:
    """Boxes above 0.5 are shown, every board and box is checked; nothing else is charged."""
    random = np.random.default_rng(seed)
    course = Course(np.zeros(len(truth)))
    for image, wanted in enumerate(truth):
        found = _answer_of(answers, image)
        drafts = [] if found is None else _regions(found, np.full(len(CLASSES), 0.5))
        _work(course, image, drafts, wanted, "verify", prices, habits, random)
    return course


def our_way(
    truth: Sequence[list[Region]],
    answers: Answers,
    prices: Prices,
    habits: Habits,
    seed: int,
    settings: Settings = Settings(),
) -> Course:
    """Thresholds by expected seconds, a glance where it is safe, a second person, controls."""
    random = np.random.default_rng(seed)
    course = Course(np.zeros(len(truth)))
    judge = _Judge(prices, settings)
    for image, wanted in enumerate(truth):
        found = _answer_of(answers, image)
        if found is None or random.random() < settings.control:
            _work(course, image, [], wanted, "draw", prices, habits, random)
            if found is not None:
                judge.learn(found, course.regions[-1])
            continue
        if image in TRAININGS:
            judge.start()
        drafts = _regions(found, judge.thresholds)
        way = judge.way(found, len(drafts))
        _work(course, image, drafts, wanted, way, prices, habits, random)
        if random.random() < settings.checked:
            course.ways["second person"] += 1
            again = answer_boxes(
                course.regions[image],
                wanted,
                prices=prices,
                habits=habits,
                way="verify",
                random=random,
            )
            course.seconds[image] += again.seconds
            course.regions[image] = again.regions
        judge.learn(found, course.regions[image])
    return course


class _Judge:
    """Learns from the answers of people how far the drafts of the newest detector go."""

    def __init__(self, prices: Prices, settings: Settings) -> None:
        self._prices, self._settings = prices, settings
        self.thresholds = np.full(len(CLASSES), settings.first_confidence)
        self._seen: list[tuple[Detections, NDArray[np.float64], NDArray[np.bool_], int]] = []
        self._fitted = False

    def start(self) -> None:
        """A new detector: what was learned about the one before stays until enough is seen."""
        self._seen = []

    def learn(self, found: Detections, regions: Sequence[Region]) -> None:
        """One more board is annotated."""
        boxes = np.array([region.xyxy for region in regions], np.float32).reshape(-1, 4)
        iou, is_class = np.zeros(len(found)), np.zeros(len(found), bool)
        pairs = match_boxes(found.xyxy, boxes, min_iou=0.5)
        for number, target, overlap in pairs:
            iou[number] = overlap
            is_class[number] = CLASSES[found.class_id[number]] == regions[target].class_name
        self._seen.append((found, iou, is_class, len(regions) - len(pairs)))
        if len(self._seen) % self._settings.refresh == 0:
            self._fit()

    def way(self, found: Detections, shown: int) -> Way:
        """At a glance where so few mistakes are expected that overlooking some does no harm."""
        if not self._fitted or not shown:
            return "verify"
        right = self._right.predict(found.confidence)
        is_shown = found.confidence >= self.thresholds[found.class_id]
        mistakes = (1 - right[is_shown]).sum() + right[~is_shown].sum() + self._unseen
        return "glance" if mistakes <= self._settings.glance_below * shown else "verify"

    def _fit(self) -> None:
        from sklearn.isotonic import IsotonicRegression

        confidence = np.concatenate([one[0].confidence for one in self._seen])
        class_id = np.concatenate([one[0].class_id for one in self._seen])
        iou = np.concatenate([one[1] for one in self._seen])
        is_class = np.concatenate([one[2] for one in self._seen])
        # A wrong box is looked at before it is deleted.
        prices = self._prices.by_action()
        prices["delete"] += prices["verify"]
        self.thresholds = choose_thresholds(
            confidence, class_id, iou, len(CLASSES), prices, is_class_right=is_class
        )
        is_right = (is_class & (iou >= 0.7)).astype(float)
        regression = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        self._right = regression.fit(confidence, is_right)
        # Objects that no box, however faint, was near.
        self._unseen = float(np.mean([one[3] for one in self._seen]))
        self._fitted = True


def _work(
    course: Course,
    image: int,
    drafts: list[Region],
    wanted: list[Region],
    way: Way,
    prices: Prices,
    habits: Habits,
    random: np.random.Generator,
) -> None:
    answer = answer_boxes(drafts, wanted, prices=prices, habits=habits, way=way, random=random)
    course.seconds[image] += answer.seconds
    course.regions.append(answer.regions)
    course.ways[way if drafts else "draw"] += 1


def _answer_of(answers: Answers, image: int) -> Detections | None:
    before = [count for count in TRAININGS if count <= image]
    return answers[before[-1]][image] if before else None


def _regions(found: Detections, thresholds: NDArray[np.float64]) -> list[Region]:
    return [
        Region(
            CLASSES[int(found.class_id[number])],
            tuple(map(float, found.xyxy[number])),
            f"box{number}",
            float(found.confidence[number]),
        )
        for number in np.flatnonzero(found.confidence >= thresholds[found.class_id])
    ]
