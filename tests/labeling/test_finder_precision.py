"""Doubts drawn in, answers judged, and fewer findings of kinds that people rarely confirm."""

from __future__ import annotations

from dataclasses import replace

import pytest

from visionloop.core.files import read_json
from visionloop.labeling.decisions import Decision, open_decisions
from visionloop.labeling.doubts import Asked, Doubt, draw, load_asked, save_asked, write_notes
from visionloop.labeling.finder_precision import (
    WINDOW,
    FindingVerdict,
    choose,
    judge,
    measure,
    update_finder,
    verdicts_of,
)
from visionloop.labeling.regions import Region
from visionloop.labeling.tasks import build_task

OPEN = Region("open", (10, 10, 30, 30), "now0")
SHORT = Region("short", (60, 10, 90, 30), "now1")
BEFORE = [OPEN, SHORT]
AWAY = (10.0, 60.0, 30.0, 80.0)
DOUBTS = {
    "missing": Doubt("missing", 0.9, "Nothing is annotated.", "spur", AWAY),
    "spurious": Doubt("spurious", 0.8, "Little sign of it.", "", OPEN.xyxy),
    "shifted": Doubt("shifted", 0.7, "It is elsewhere.", "", OPEN.xyxy, (16, 16, 36, 36)),
    "swapped": Doubt("swapped", 0.6, "The model says 'spur'.", "spur", SHORT.xyxy),
}


@pytest.mark.parametrize(
    ("kind", "key", "drawn"),
    [
        ("missing", "missing0", Region("spur", AWAY, "missing0")),
        ("spurious", "now0", OPEN),
        ("shifted", "now0", replace(OPEN, xyxy=(16, 16, 36, 36))),
        ("swapped", "now1", replace(SHORT, class_name="spur")),
    ],
)
def test_each_kind_of_doubt_is_drawn_in_and_noted_on_its_region(kind, key, drawn) -> None:
    asked = Asked("f", BEFORE, [DOUBTS[kind]])
    draft = draw(asked, 1, "model@x")
    assert {region.key: region for region in draft.regions}[key] == drawn
    assert len(draft.regions) == 2 + (kind == "missing")
    sample = {"sample_id": "a", "file_name": "a.png", "width": 100, "height": 100}
    task = build_task(
        {**sample, "camera": "", "captured_at": ""},
        look="second", reason="", rank=1, draft=draft, findings="f",
    )  # fmt: skip
    write_notes(task, asked)
    noted = {row["id"]: row["meta"]["text"] for row in task["predictions"][0]["result"]
             if "meta" in row}  # fmt: skip
    assert noted == {key: [f"Suspected: {kind}. {DOUBTS[kind].reason}"]}


def test_a_shift_without_a_better_place_leaves_the_box_where_it_is() -> None:
    doubt = replace(DOUBTS["shifted"], suggested_xyxy=None)
    assert draw(Asked("f", BEFORE, [doubt]), 1, "model@x").regions == BEFORE


@pytest.mark.parametrize("kind", sorted(DOUBTS))
def test_an_answer_that_changes_nothing_confirms_nothing(kind) -> None:
    assert judge(DOUBTS[kind], BEFORE, BEFORE) == ()
    redrawn = [Region("open", (11, 10, 31, 30), "x"), Region("short", (60, 11, 90, 31), "y")]
    assert judge(DOUBTS[kind], BEFORE, redrawn) == ()  # drawn a bit differently by another hand


@pytest.mark.parametrize("kind", sorted(DOUBTS))
def test_leaving_a_suggestion_as_it_is_drawn_confirms_it(kind) -> None:
    """But for a spurious box, which only a person's deletion confirms."""
    drawn = draw(Asked("f", BEFORE, [DOUBTS[kind]]), 1, "model@x").regions
    assert judge(DOUBTS[kind], BEFORE, drawn) == (() if kind == "spurious" else (kind,))


@pytest.mark.parametrize(
    ("after", "found"),
    [
        ([SHORT], ("spurious",)),
        ([replace(OPEN, xyxy=(20, 10, 40, 30)), SHORT], ("shifted",)),
        ([replace(OPEN, class_name="spur"), SHORT], ("swapped",)),
        ([Region("open", (24, 10, 44, 30), "drawn anew"), SHORT], ("shifted",)),
        ([Region("spur", (24, 10, 44, 30), "drawn anew"), SHORT], ("shifted", "swapped")),
        ([Region("open", (70, 70, 90, 90), "elsewhere"), SHORT], ("spurious",)),
        ([], ("spurious",)),
    ],
)
def test_the_answer_tells_what_was_wrong_with_a_box(after, found) -> None:
    for kind in ("spurious", "shifted"):
        assert judge(DOUBTS[kind], BEFORE, after) == found


def test_a_missing_box_is_confirmed_by_a_new_box_there_and_by_no_other() -> None:
    near, far = Region("spur", (12, 62, 31, 82), "new"), Region("spur", (50, 60, 70, 80), "new")
    assert judge(DOUBTS["missing"], BEFORE, [*BEFORE, near]) == ("missing",)
    assert judge(DOUBTS["missing"], BEFORE, [*BEFORE, far]) == ()
    over = replace(DOUBTS["missing"], xyxy=(12.0, 12.0, 32.0, 32.0))
    assert judge(over, BEFORE, BEFORE) == ()  # the box that was there is no new one


def test_the_class_of_an_image_is_judged_too() -> None:
    doubt = Doubt("label_issue", 0.9, "", "defective")
    before = [Region("functional", None, "class")]
    assert judge(doubt, before, [Region("defective", None, "class")]) == ("label_issue",)
    assert judge(doubt, before, before) == ()


def decision(number, sample_id, regions, *, findings="f", look="second", skipped=False) -> Decision:
    return Decision(
        annotation=number, task=number, sample_id=sample_id, look=look, annotator="ada",
        created_at="2026-01-01T00:00:00Z", decided_at=f"2026-01-01T00:00:{number:02d}Z",
        lead_time=1.0, findings=findings, is_skipped=skipped, regions=regions,
    )  # fmt: skip


def test_only_the_last_answer_to_what_was_asked_is_a_verdict() -> None:
    asked = {one: Asked("f", BEFORE, [DOUBTS["spurious"]]) for one in "abcd"}
    decisions = [
        decision(4, "a", [SHORT]),
        decision(2, "a", BEFORE),
        decision(5, "b", [], skipped=True),
        decision(6, "c", [SHORT], findings="another list"),
        decision(7, "d", [SHORT], look="first"),
        decision(8, "e", [SHORT]),
    ]
    (verdict,) = verdicts_of(decisions, asked)
    assert (verdict.sample_id, verdict.found) == ("a", ("spurious",))


def record(kind: str, *outcomes: bool) -> list[FindingVerdict]:
    return [
        FindingVerdict(str(number), kind, 0.5, (kind,) * is_right, "")
        for number, is_right in enumerate(outcomes)
    ]


def test_nothing_is_concluded_from_few_verdicts() -> None:
    few = measure(record("spurious", *[False] * 9), 0.3)["spurious"]
    assert (few.share, few.sent) == (None, 1.0)
    assert "not enough data" in str(few)
    enough = measure(record("spurious", *[False] * 10), 0.3)["spurious"]
    assert enough.share == 0.0 and enough.low == 0.0
    assert enough.high == pytest.approx(0.2775, abs=1e-3)  # Wilson's interval of 0 of 10
    assert enough.sent == pytest.approx(enough.high / 0.3)


def test_fewer_are_sent_of_a_poor_kind_but_always_some() -> None:
    verdicts = record("spurious", *[False] * 90) + record("swapped", *[True, False] * 20)
    precision = measure(verdicts, 0.3)
    assert precision["spurious"].sent == pytest.approx(0.1366, abs=1e-3)
    assert precision["swapped"].sent == 1.0  # half of them confirmed: more than wanted
    assert measure(record("spurious", *[False] * 90), 1.0)["spurious"].sent == 0.1
    doubts = {
        str(number): [replace(DOUBTS[kind], severity=1 - number / 100)]
        for number, kind in enumerate(["spurious", "swapped"] * 40)
    }
    chosen = choose(doubts, precision)
    kinds = [rows[0].kind for rows in chosen.values()]
    assert kinds.count("swapped") == 40
    assert kinds.count("spurious") == 6  # 13.7 % of 40, rounded up
    gravest = [one for one in chosen if chosen[one][0].kind == "spurious"]
    assert gravest == ["0", "2", "4", "6", "8", "10"]
    alone = {"a": [DOUBTS["spurious"]]}
    assert choose(alone, precision) == alone


def test_a_finder_that_got_better_is_trusted_again() -> None:
    old, new = record("missing", *[False] * 200), record("missing", *[True] * WINDOW)
    assert measure(old, 0.3)["missing"].sent < 0.2
    assert measure([*old, *new], 0.3)["missing"].sent == 1.0


def test_what_was_asked_and_the_record_are_kept(project) -> None:
    space = project.boards
    questions = {
        f"s{number}": Asked("f", BEFORE, [DOUBTS["spurious"], DOUBTS["shifted"]])
        for number in range(12)
    }
    save_asked(space, questions)
    save_asked(space, {"another": Asked("g", [Region("open", None, "class")], [])})
    assert load_asked(space) == {
        **questions, "another": Asked("g", [Region("open", None, "class")], []),
    }  # fmt: skip
    with open_decisions(space) as store:
        answers = [[SHORT] if number == 0 else BEFORE for number in range(12)]
        store.put(decision(n + 1, f"s{n}", regions) for n, regions in enumerate(answers))
    waiting = {str(n): [replace(DOUBTS["spurious"], severity=n / 100)] for n in range(100)}
    found = update_finder(space, 0.9, waiting)
    row = read_json(space.studio_state / "finder.json")["kinds"]["spurious"]
    assert (row["verdicts"], row["confirmed"], row["named"]) == (12, 1, 1)
    assert row["threshold"] == found["spurious"].threshold
    assert row["threshold"] == pytest.approx(1 - row["sent"], abs=0.011)
    assert found["shifted"].named == 0  # the box was removed, not moved
