"""The simulated annotator with a person's habits: on its own, and in a real Label Studio."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from visionloop.core.geometry import match_boxes
from visionloop.labeling.annotator import review
from visionloop.labeling.answers import answer_boxes, regions_of
from visionloop.labeling.decisions import load_decisions
from visionloop.labeling.habits import FAULTLESS, HUMAN, Habits
from visionloop.labeling.meter import meter
from visionloop.labeling.prices import Prices
from visionloop.labeling.project import setup
from visionloop.labeling.pull import pull
from visionloop.labeling.push import push
from visionloop.labeling.regions import Region

TRUE = [Region("open", (40.0 * number, 10.0, 40.0 * number + 30, 40.0)) for number in range(5)]
DRAFT = [
    Region("open", (0.0, 10.0, 30.0, 40.0), "good", 0.9),
    Region("open", (40.0, 10.0, 63.0, 40.0), "loose", 0.9),  # IoU .77
    Region("short", (80.0, 10.0, 110.0, 40.0), "wrong class", 0.9),
    Region("open", (300.0, 10.0, 330.0, 40.0), "nothing there", 0.9),
]


def count(way: str, drafts: list[Region], habits: Habits, runs: int = 4000) -> Counter[str]:
    """How often each mistake stays, in so many pictures."""
    random, stays = np.random.default_rng(5), Counter[str]()
    for _ in range(runs):
        answer = answer_boxes(drafts, TRUE, habits=habits, way=way, random=random)
        by_key = {region.key: region for region in answer.regions}
        stays["missed"] += "new4" not in by_key
        stays["spurious"] += "nothing there" in by_key
        stays["class"] += "wrong class" in by_key and by_key["wrong class"].class_name == "short"
        stays["loose"] += "loose" in by_key and by_key["loose"].xyxy == DRAFT[1].xyxy
    return stays


def test_people_check_less_beside_a_draft_and_least_at_a_glance() -> None:
    steady = Habits(slip=HUMAN.slip, loose=HUMAN.loose)
    alone = count("draw", [], steady)["missed"] / 4000
    verified, glanced = (count(way, DRAFT, steady) for way in ("verify", "glance"))
    assert alone == pytest.approx(0.03, abs=0.01)
    for kind in ("missed", "spurious", "class"):
        assert verified[kind] / 4000 == pytest.approx(0.09, abs=0.02)
        assert glanced[kind] / 4000 == pytest.approx(0.18, abs=0.025)
    assert verified["loose"] / 4000 == pytest.approx(0.20, abs=0.025)
    assert glanced["loose"] / 4000 == pytest.approx(0.40, abs=0.03)


def test_a_second_person_finds_most_of_what_the_first_did_not_but_not_all() -> None:
    first, second = HUMAN.slip_in("glance"), HUMAN.slip_in("glance", is_second=True)
    assert second == pytest.approx(0.3 + 0.7 * first)
    random, stays = np.random.default_rng(3), 0
    for _ in range(4000):
        once = answer_boxes(DRAFT, TRUE, habits=HUMAN, way="glance", random=random)
        again = answer_boxes(
            once.regions, TRUE, habits=HUMAN, way="glance", is_second=True, random=random
        )
        boxes = _boxes(again.regions)
        stays += not any(row[1] == 4 for row in match_boxes(boxes, _boxes(TRUE), min_iou=0.5))
    assert stays / 4000 == pytest.approx(first * second, abs=0.015)


def test_a_glance_is_paid_once_and_a_look_at_each_box_is_paid_for_each() -> None:
    right = [Region("open", region.xyxy, f"box{number}") for number, region in enumerate(TRUE)]
    prices = Prices()
    verified = answer_boxes(right, TRUE, way="verify")
    glanced = answer_boxes(right, TRUE, way="glance")
    drawn = answer_boxes([], TRUE, way="glance")  # nothing is there to be accepted
    assert verified.seconds == pytest.approx(prices.glance + 5 * prices.verify)
    assert glanced.seconds == pytest.approx(prices.glance + prices.accept)
    assert drawn.seconds == pytest.approx(prices.glance + 5 * (prices.draw + prices.pick))


def test_prices_scale_alone_or_together() -> None:
    doubled = answer_boxes(DRAFT, TRUE, prices=Prices().scaled(2)).seconds
    assert doubled == pytest.approx(2 * answer_boxes(DRAFT, TRUE).seconds)
    dearer = Prices().scaled(2, "draw")
    assert (dearer.draw, dearer.verify) == (14.0, 1.6)
    assert answer_boxes(DRAFT, TRUE, prices=dearer).seconds == pytest.approx(
        answer_boxes(DRAFT, TRUE).seconds + 2 * 7.0
    )


def test_hands_draw_to_an_overlap_of_nine_tenths() -> None:
    random = np.random.default_rng(2)
    box = (100.0, 50.0, 140.0, 70.0)
    drawn = np.array([HUMAN.draw(box, random) for _ in range(500)], np.float32)
    overlaps = [
        match_boxes(one[None], np.array([box], np.float32), min_iou=0.0)[0][2] for one in drawn
    ]
    assert 0.87 < np.mean(overlaps) < 0.94
    assert FAULTLESS.draw(box, random) == box


def test_a_person_works_through_label_studio_and_the_meter_sees_what_it_cost(neighbour) -> None:
    space, ids = neighbour.boards, neighbour.ids[:24]
    setup(workspace=space)
    neighbour.select(space, ids)
    push(workspace=space)
    truth = {one: neighbour.boxes[one] for one in ids}
    careless = Habits(slip=0.15, loose=0.2, wobble=0.03)
    prices = Prices().scaled(2)
    done = review(workspace=space, truth=truth, error_share=0, prices=prices, habits=careless)
    pull(workspace=space)
    decisions = load_decisions(space)
    assert done.tasks == len(decisions) == 24
    assert sum(row.lead_time for row in decisions) == pytest.approx(done.seconds, abs=0.2)
    assert min(row.lead_time for row in decisions) >= prices.glance
    wrong = 0
    for row in decisions:
        known, said = regions_of(truth[row.sample_id]), row.regions
        pairs = match_boxes(_boxes(said), _boxes(known), min_iou=0.5)
        right = sum(said[one].class_name == known[other].class_name for one, other, _ in pairs)
        wrong += len(known) + len(said) - 2 * right
    assert wrong > 0
    report = meter(workspace=space)
    assert report.first.seconds == pytest.approx(done.seconds, abs=0.3)
    # Every one of these pictures had a draft, so no saving can be stated.
    assert not report.saving.is_known


def _boxes(regions: list[Region]) -> np.ndarray:
    return np.array([region.xyxy for region in regions], np.float32).reshape(-1, 4)
