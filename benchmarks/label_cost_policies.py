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
from visionloop.labeling.habits import HUMAN, Habits, Way
from visionloop.labeling.prices import Prices
from visionloop.labeling.regions import Region
from visionloop.labeling.thresholds import choose_thresholds

__all__ = [
    "Answers",
    "Course",
    "Settings",
    "by_hand",
    "our_way",
    "peer_way",
    "regions_above",
    "truth_of",
]

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
        Boards by way of working.
    """

    seconds: NDArray[np.float64]
    regions: list[list[Region]]
    ways: Counter[str] = field(default_factory=Counter)

    @classmethod
    def begin(cls, count: int) -> Course:
        """Nothing done yet."""
        return cls(np.zeros(count), [[] for _ in range(count)])


@dataclass(frozen=True)
class Settings:
    """What our way may be told.

    Attributes
    ----------
    safe : float
        Mistakes expected to stay, as a share of those that drawing by hand leaves.
    risk : float
        Seconds that a wrong box costs beside its deletion: it asks for more looks.
    checked : float
        Share of the boards seen by one person that a second one checks box by box.
    control : float
        Share of the boards shown without a draft, to measure what drawing costs.
    first_confidence : float
        Threshold until the first drafted boards are annotated.
    refresh : int
        Boards between two choices of thresholds.
    """

    safe: float = 0.9
    risk: float = 2.0
    checked: float = 0.03
    control: float = 0.02
    first_confidence: float = 0.3
    refresh: int = 10


PLANS: tuple[tuple[Way, ...], ...] = (
    ("glance",),
    ("glance", "glance"),
    ("verify",),
    ("verify", "glance"),
    ("verify", "verify"),
)
"""Looks at a board by different people, one after another."""


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
    course = Course.begin(len(truth))
    for image, wanted in enumerate(truth):
        _work(course, image, [], wanted, ("draw",), prices, habits, random)
    return course


def peer_way(
    truth: Sequence[list[Region]], answers: Answers, prices: Prices, habits: Habits, seed: int
) -> Course:
    """Boxes above 0.5 are shown, every board and box is checked; nothing else is charged."""
    random = np.random.default_rng(seed)
    course = Course.begin(len(truth))
    for image, wanted in enumerate(truth):
        found = _answer_of(answers, image)
        drafts = [] if found is None else regions_above(found, np.full(len(CLASSES), 0.5))
        _work(course, image, drafts, wanted, ("verify",), prices, habits, random)
    return course


def our_way(
    truth: Sequence[list[Region]],
    answers: Answers,
    prices: Prices,
    habits: Habits,
    seed: int,
    settings: Settings,
) -> Course:
    """Thresholds by expected seconds; as many looks as keep mistakes below those by hand."""
    random = np.random.default_rng(seed)
    course = Course.begin(len(truth))
    judge = _Judge(prices, settings)
    for image, wanted in enumerate(truth):
        found = _answer_of(answers, image)
        if image in TRAININGS:
            judge.start()
        if found is None or random.random() < settings.control:
            _work(course, image, [], wanted, ("draw",), prices, habits, random)
        else:
            drafts = regions_above(found, judge.thresholds)
            plan = judge.plan(found, len(drafts))
            if len(plan) == 1 and random.random() < settings.checked:
                plan = (*plan, "verify")
            _work(course, image, drafts, wanted, plan, prices, habits, random)
        if found is not None:
            judge.learn(found, course.regions[image])
    return course


class _Judge:
    """Learns from the answers of people how far the drafts of the newest detector go."""

    def __init__(self, prices: Prices, settings: Settings) -> None:
        self._prices, self._settings = prices, settings
        self.thresholds = np.full(len(CLASSES), settings.first_confidence)
        self._seen: list[tuple[Detections, NDArray[np.float64], NDArray[np.bool_], int]] = []
        self._fitted = False
        self._account = 0.0

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

    def plan(self, found: Detections, shown: int) -> tuple[Way, ...]:
        """The cheapest looks after which no more mistakes stay than by hand."""
        if not self._fitted or not shown:
            return ("verify", "verify")
        is_object = self._object.predict(found.confidence)
        is_right = self._right.predict(found.confidence)
        is_shown = found.confidence >= self.thresholds[found.class_id]
        # A wrong class is a miss and a box too many.
        mistakes = (1 - is_object[is_shown]).sum() + 2 * (is_object - is_right)[is_shown].sum()
        mistakes += is_object[~is_shown].sum() + self._unseen
        objects = is_object.sum() + self._unseen
        self._account += self._settings.safe * HUMAN.slip * objects
        prices = self._prices
        cost = {"glance": prices.glance + prices.accept}
        cost["verify"] = prices.glance + shown * prices.verify
        plans = sorted(PLANS, key=lambda plan: sum(cost[way] for way in plan))
        stays = {plan: mistakes * _staying(plan) for plan in plans}
        chosen = next((plan for plan in plans if stays[plan] <= self._account), plans[-1])
        self._account -= stays[chosen]
        return chosen

    def _fit(self) -> None:
        from sklearn.isotonic import IsotonicRegression

        confidence = np.concatenate([one[0].confidence for one in self._seen])
        class_id = np.concatenate([one[0].class_id for one in self._seen])
        iou = np.concatenate([one[1] for one in self._seen])
        is_class = np.concatenate([one[2] for one in self._seen])
        # A wrong box is looked at before it is deleted, and it may stay.
        prices = self._prices.by_action()
        prices["delete"] += prices["verify"] + self._settings.risk
        self.thresholds = choose_thresholds(
            confidence, class_id, iou, len(CLASSES), prices, is_class_right=is_class
        )
        is_object = iou >= 0.5
        self._object, self._right = (
            IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(confidence, good)
            for good in (is_object.astype(float), (is_object & is_class).astype(float))
        )
        # Objects that no box, however faint, was near.
        self._unseen = float(np.mean([one[3] for one in self._seen]))
        self._fitted = True


def _staying(plan: tuple[Way, ...]) -> float:
    """Share of the mistakes in a draft that nobody of these people notices."""
    chances = [HUMAN.slip_in(way, is_second=number > 0) for number, way in enumerate(plan)]
    return float(np.prod(chances))


def _work(
    course: Course,
    image: int,
    drafts: list[Region],
    wanted: list[Region],
    plan: tuple[Way, ...],
    prices: Prices,
    habits: Habits,
    random: np.random.Generator,
) -> None:
    """The looks of a plan, each at what the one before has left."""
    shown = drafts
    for number, way in enumerate(plan):
        answer = answer_boxes(
            shown,
            wanted,
            prices=prices,
            habits=habits,
            way=way,
            is_second=number > 0,
            random=random,
        )
        course.seconds[image] += answer.seconds
        shown = answer.regions
    course.regions[image] = shown
    course.ways[" + ".join(plan) if drafts else "draw"] += 1


def _answer_of(answers: Answers, image: int) -> Detections | None:
    before = [count for count in TRAININGS if count <= image]
    return answers[before[-1]][image] if before else None


def regions_above(found: Detections, thresholds: NDArray[np.float64]) -> list[Region]:
    """The boxes at least as confident as the threshold of their class."""
    return [
        Region(
            CLASSES[int(found.class_id[number])],
            tuple(map(float, found.xyxy[number])),
            f"box{number}",
            float(found.confidence[number]),
        )
        for number in np.flatnonzero(found.confidence >= thresholds[found.class_id])
    ]
