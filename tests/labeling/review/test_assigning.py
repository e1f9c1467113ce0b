from __future__ import annotations

from collections import Counter

from visionloop.labeling.decisions import Decision
from visionloop.labeling.review.assigning import Assigner

PEOPLE = ["ana", "ben", "cy", "dee"]


def answered(sample: str, person: str, *, skipped: bool = False) -> list[Decision]:
    moment = "2026-01-01T00:00:00Z"
    return [Decision(1, 1, sample, "first", person, moment, moment, 1.0, is_skipped=skipped)]


def test_nobody_is_asked_about_a_sample_twice() -> None:
    assigner = Assigner(PEOPLE, 0)
    for number in range(200):
        person = PEOPLE[number % 4]
        assert assigner.assign(f"s{number}", answered(f"s{number}", person)) != person
    rows = answered("s", "ana") + answered("s", "ben", skipped=True) + answered("s", "cy")
    assert assigner.assign("s", rows) == "dee"
    assert assigner.assign("s", [*rows, *answered("s", "dee")]) == ""


def test_everybody_gets_about_as_many_and_the_name_does_not_tell_who_was_first() -> None:
    """Also where one person gave most of the first answers."""
    assigner, by_first = Assigner(PEOPLE, 0), {}
    for number in range(600):
        first = PEOPLE[0] if number % 3 else PEOPLE[1 + number % 2]
        chosen = assigner.assign(f"s{number}", answered(f"s{number}", first))
        by_first.setdefault(chosen, Counter())[first] += 1
    assert max(assigner.load.values()) - min(assigner.load.values()) <= 2
    for name in ("cy", "dee"):
        assert len(by_first[name]) >= 2


def test_assigning_again_asks_the_same_people() -> None:
    runs = []
    for _ in range(2):
        assigner = Assigner(PEOPLE, 3)
        runs.append([assigner.assign(f"s{n}", answered(f"s{n}", "ana")) for n in range(50)])
    assert runs[0] == runs[1]
    assert len(set(runs[0])) == 3
