from __future__ import annotations

import hashlib
from collections import Counter

import pytest

from visionloop.labeling.decisions import Decision
from visionloop.labeling.regions import Region
from visionloop.labeling.review.params import ReviewParams
from visionloop.labeling.review.plan import draw, plan_review


def answers(person, count, class_name="x", start=0) -> list[Decision]:
    rows = []
    for number in range(start, start + count):
        sample = hashlib.sha256(f"{person}{number}".encode()).hexdigest()
        moment = f"2026-01-01T{number // 3600:02d}:{number // 60 % 60:02d}:{number % 60:02d}Z"
        key = int(sample[:12], 16)
        rows.append(
            Decision(
                key, key, sample, "first", person, moment, moment, 1.0, regions=[Region(class_name)]
            )
        )
    return rows


def test_about_a_tenth_of_an_experienced_persons_answers_is_drawn() -> None:
    params = ReviewParams(new_annotator_tasks=0)
    planned = plan_review(answers("a", 4000), params, seed=1)
    assert len(planned) == pytest.approx(400, abs=60)  # three standard deviations
    assert {row.reason for row in planned} == {"one of the 10% of all answers"}


def test_drawing_again_draws_the_same_and_new_answers_add_to_it() -> None:
    rows = answers("a", 1000)
    before = plan_review(rows, ReviewParams(), seed=1)
    assert plan_review(rows[::-1], ReviewParams(), seed=1) == before
    after = plan_review([*rows, *answers("a", 500, start=1000)], ReviewParams(), seed=1)
    assert {row.sample_id for row in before} <= {row.sample_id for row in after}
    other = plan_review(rows, ReviewParams(), seed=2)
    assert {row.sample_id for row in other} != {row.sample_id for row in before}


def test_a_new_person_is_drawn_more_often_until_enough_was_drawn() -> None:
    params = ReviewParams(new_annotator_tasks=50)
    rows = answers("a", 3000)
    planned = {row.sample_id for row in plan_review(rows, params, seed=1)}
    early = sum(row.sample_id in planned for row in rows[:150]) / 150
    late = sum(row.sample_id in planned for row in rows[300:]) / 2700
    assert early == pytest.approx(0.3, abs=0.12)
    assert late == pytest.approx(0.1, abs=0.02)


def test_weak_classes_are_drawn_more_often_and_the_reason_says_so() -> None:
    params = ReviewParams(new_annotator_tasks=0)
    rows = [*answers("a", 2000, "easy"), *answers("b", 2000, "hard")]
    planned = plan_review(rows, params, seed=1, weak={"hard": 0.7})
    classes = {row.sample_id: row.regions[0].class_name for row in rows}
    count = Counter(classes[row.sample_id] for row in planned)
    assert count["easy"] == pytest.approx(200, abs=41)
    assert count["hard"] == pytest.approx(400, abs=54)
    reasons = {row.reason for row in planned if classes[row.sample_id] == "hard"}
    assert "one of the 20% of class 'hard': people agree in 70% only" in reasons


def test_a_larger_share_draws_the_same_and_some_more() -> None:
    rows = answers("a", 1000)
    fewer, more = (
        {row.sample_id for row in plan_review(rows, ReviewParams(share=share), seed=1)}
        for share in (0.3, 0.5)
    )
    assert fewer < more


def test_skipped_and_later_looks_are_not_drawn() -> None:
    rows = answers("a", 50)
    skipped = [Decision(**{**vars(row), "is_skipped": True}) for row in rows[:25]]
    second = [Decision(**{**vars(row), "look": "second"}) for row in rows[25:]]
    assert not plan_review([*skipped, *second], ReviewParams(share=1.0), seed=1)


def test_any_beginning_of_the_plan_is_a_fair_draw() -> None:
    """A run sends only so many; those must not all be of one person."""
    rows = [*answers("a", 500), *answers("b", 500)]
    planned = plan_review(rows, ReviewParams(share=1.0), seed=1)
    assert [row.draw for row in planned] == sorted(row.draw for row in planned)
    people = {row.sample_id: row.annotator for row in rows}
    assert 35 <= sum(people[row.sample_id] == "a" for row in planned[:100]) <= 65


def test_the_random_number_is_the_same_on_every_machine() -> None:
    assert draw("a" * 64, 0) == pytest.approx(0.06108866609242673, abs=1e-15)
