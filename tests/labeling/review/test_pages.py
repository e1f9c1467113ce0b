"""What a dispute is told like, and what a page about a person says and does not say."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from visionloop.core.errors import DataError
from visionloop.core.files import read_json
from visionloop.labeling.decisions import Decision, open_decisions
from visionloop.labeling.regions import Region
from visionloop.labeling.review.comparing import compare_answers
from visionloop.labeling.review.disputes import draft_of_dispute, find_dispute, tell_dispute
from visionloop.labeling.review.page import page_name
from visionloop.labeling.review.pairs import Pair
from visionloop.labeling.review.report import agreement
from visionloop.labeling.review.tabs import tab_title

A, B = (5.0, 5.0, 20.0, 20.0), (30.0, 10.0, 50.0, 30.0)


def decide(number, sample, look, person, *regions) -> Decision:
    moment = f"2026-01-01T00:{number // 60:02d}:{number % 60:02d}Z"
    return Decision(
        number, number, sample, look, person, moment, moment, 1.0,
        regions=list(regions), actions=["added"] * len(regions),
    )  # fmt: skip


def test_the_sentence_names_classes_and_no_people() -> None:
    assert tell_dispute(compare_answers([Region("spur")], [Region("open")])) == (
        "Two people disagree: open / spur. Your answer is final."
    )
    text = tell_dispute(
        compare_answers([Region("open", A), Region("spur", B)], [Region("short", A)])
    )
    assert "'open' or 'short' (1 x), 'spur' seen by one of them (1 x)" in text


def test_the_draft_has_what_is_agreed_once_and_what_differs_twice() -> None:
    first = decide(1, "s", "first", "a", Region("open", A, "k"), Region("spur", B, "m", 0.3))
    second = decide(2, "s", "review", "b", Region("open", A, "k"), Region("short", B, "k2"))
    regions = draft_of_dispute(Pair("s", first, second), min_iou=0.5, seed=0)
    assert regions[0].class_name == "open"
    assert sorted(row.class_name for row in regions) == ["open", "short", "spur"]
    assert len({row.key for row in regions}) == 3  # Label Studio tells regions apart by it
    assert {row.confidence for row in regions} == {None}
    classes = Pair(
        "s", replace(first, regions=[Region("open")]), replace(second, regions=[Region("spur")])
    )
    assert draft_of_dispute(classes, min_iou=0.5, seed=0) == []


def test_whose_box_comes_first_is_drawn_by_lot() -> None:
    firsts = set()
    for number in range(20):
        first = decide(1, f"s{number}", "first", "a", Region("open", A))
        second = decide(2, f"s{number}", "review", "b", Region("short", A))
        regions = draft_of_dispute(Pair(f"s{number}", first, second), min_iou=0.5, seed=0)
        firsts.add(regions[0].class_name)
    assert firsts == {"open", "short"}


def test_what_was_settled_is_no_dispute() -> None:
    first, other = (
        decide(1, "s", "first", "a", Region("x")),
        decide(3, "s", "review", "b", Region("y")),
    )
    assert find_dispute([first, other], min_iou=0.5) == Pair("s", first, other)
    assert (
        find_dispute([first, other, decide(4, "s", "adjudicate", "c", Region("x"))], min_iou=0.5)
        is None
    )
    early, late = (
        decide(2, "s", "second", "c", Region("x")),
        decide(5, "s", "second", "c", Region("x")),
    )
    assert find_dispute([first, other, late], min_iou=0.5) is None
    assert find_dispute([first, early, other], min_iou=0.5) == Pair("s", early, other)
    same = replace(early, regions=[Region("y")])
    assert find_dispute([first, same, other], min_iou=0.5) is None


def test_a_page_names_its_person_only_and_shows_pictures(project) -> None:
    rows, number = [], 0
    people = ("ana@example.org", "<b>ben</b>/../x", "cyril@example.org")
    for index, sample in enumerate(project.ids[:30]):
        first, second = people[index % 3], people[(index + 1) % 3]
        said = Region("open", A), Region("short" if index < 4 else "open", A)
        for look, person, region in (("first", first, said[0]), ("review", second, said[1])):
            number += 1
            rows.append(decide(number, sample, look, person, region))
    with open_decisions(project.boards) as store:
        store.put(rows)
    report = agreement(workspace=project.boards)
    assert set(report.differing) == set(project.ids[:4])
    content = read_json(report.path)
    assert (content["samples"], content["images"]["agreed"]) == (30, 26)
    assert len(content["disagreements"]) == 4
    folder = report.page.parent / "annotators"
    pages = {person: (folder / page_name(person)).read_text() for person in people}
    assert len(list(folder.iterdir())) == 3
    for person, page in pages.items():
        others = [name for name in people if name != person]
        assert not any(name in page for name in others)
        assert "data:image/jpeg;base64," in page
        assert "rank" not in page
    assert (
        "not enough data" in pages["cyril@example.org"]
    )  # 20 samples, of which few differ in class
    assert "<b>ben</b>" not in pages[people[1]]
    assert "&lt;b&gt;ben" in pages[people[1]]
    assert json.loads(report.path.read_text())["persons"][0]["name"] == min(people)


def test_without_second_opinions_the_next_step_is_named(project) -> None:
    with open_decisions(project.boards) as store:
        store.put([decide(1, project.ids[0], "first", "a", Region("open", A))])
    with pytest.raises(DataError, match="visionloop label review asks"):
        agreement(workspace=project.boards)


@pytest.mark.parametrize("name", ["../../etc/x", "a/b", "..", "", "ä b", "CON\n"])
def test_no_name_leads_out_of_the_folder(name, tmp_path) -> None:
    made = tmp_path / page_name(name)
    assert made.resolve().parent == tmp_path.resolve()
    assert made.suffix == ".html"
    assert page_name("ä") != page_name("ö")


def test_tabs_name_people_shortly_where_that_tells_them_apart() -> None:
    people = ["bea@a.org", "bea@b.org", "carl@a.org"]
    titles = [tab_title(one, people) for one in [*people, ""]]
    assert titles == [
        "bea@a.org: second opinion", "bea@b.org: second opinion", "carl: second opinion",
        "Second opinion",
    ]  # fmt: skip
