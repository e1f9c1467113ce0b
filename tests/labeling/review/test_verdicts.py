"""Which answer counts: laws that hold for whatever people did, and the cases one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionloop.labeling.decisions import LOOKS, Decision
from visionloop.labeling.regions import Region
from visionloop.labeling.verdicts import settle

BOX = (10.0, 10.0, 30.0, 30.0)
NEAR = (12.0, 10.0, 32.0, 32.0)


def decision(number, look, person, *regions, skipped=False) -> Decision:
    moment = f"2026-01-01T00:00:{number:02d}Z"
    return Decision(
        number, number, "s", look, person, moment, moment, 2.0,
        regions=list(regions), actions=["added"] * len(regions), is_skipped=skipped,
    )  # fmt: skip


@st.composite
def histories(draw):
    rows = []
    for number in range(1, draw(st.integers(0, 8)) + 1):
        look, person = draw(st.sampled_from(LOOKS)), draw(st.sampled_from("abc"))
        name, box = draw(st.sampled_from("xy")), draw(st.sampled_from([BOX, NEAR]))
        skipped = draw(st.booleans())
        regions = [] if skipped else [Region(name, box, f"k{number}")]
        rows.append(decision(number, look, person, *regions, skipped=skipped))
    return rows


@given(histories(), st.randoms())
def test_the_order_in_which_answers_are_read_does_not_matter(rows, random) -> None:
    shuffled = random.sample(rows, len(rows))
    assert settle(rows) == settle(shuffled)


@given(histories())
def test_a_verdict_is_the_last_answer_of_the_highest_look_or_a_consensus(rows) -> None:
    verdict = settle(rows)
    said = [row for row in rows if not row.is_skipped]
    if not said:
        assert verdict is None
        return
    assert set(verdict.people) == {row.annotator for row in said}
    assert verdict.lead_time == pytest.approx(2.0 * len(said))
    assert len(verdict.actions) == len(verdict.regions)
    last = {look: [row for row in said if row.look == look][-1:] for look in LOOKS}
    for look in ("adjudicate", "second"):
        if last[look]:
            assert (verdict.source, verdict.regions) == (look, last[look][0].regions)
            return
    if verdict.source == "consensus":
        first = last["first"][0]
        others = [r for r in said if r.look == "review" and r.annotator != first.annotator]
        assert [r.class_name for r in others[-1].regions] == [r.class_name for r in first.regions]
        assert verdict.regions[0].key == first.regions[0].key
        return
    assert verdict.regions == (last["first"] or last["review"])[0].regions


@given(histories(), st.sampled_from(LOOKS))
def test_skipping_changes_nothing(rows, look) -> None:
    assert settle([*rows, decision(50, look, "a", skipped=True)]) == settle(rows)


@given(histories())
def test_adjudication_is_final_until_the_next_one(rows) -> None:
    last = decision(40, "adjudicate", "c", Region("x", BOX, "final"))
    later = [replace(row, decided_at="2026-02-01T00:00:00Z") for row in rows]
    others = [row for row in later if row.look != "adjudicate"]
    assert settle([*others, last]).regions == last.regions
    newer = replace(last, annotation=41, decided_at="2026-03-01T00:00:00Z", regions=[])
    assert settle([*later, last, replace(newer, actions=[])]).regions == []


def test_two_who_agree_are_both_named_and_their_boxes_averaged() -> None:
    rows = [
        decision(1, "first", "a", Region("x", BOX, "k")),
        decision(2, "review", "b", Region("x", NEAR)),
    ]
    verdict = settle(rows)
    assert verdict.annotator == "consensus of a, b"
    assert verdict.regions == [Region("x", (11.0, 10.0, 31.0, 31.0), "k")]
    assert not verdict.is_replaced
    assert settle(rows, min_iou=0.9).annotator == "a"  # these boxes overlap by .81


def test_where_two_differ_the_first_stands_until_a_third_settles_it() -> None:
    rows = [
        decision(1, "first", "a", Region("x", BOX)),
        decision(2, "review", "b", Region("y", BOX)),
    ]
    assert (settle(rows).source, settle(rows).annotator) == ("first", "a")
    verdict = settle([*rows, decision(3, "adjudicate", "c", Region("y", BOX))])
    assert verdict.annotator == "c, settling a, b"
    assert verdict.is_replaced


def test_nobody_confirms_himself() -> None:
    rows = [decision(1, "first", "a", Region("x")), decision(2, "review", "a", Region("x"))]
    assert (settle(rows).source, settle(rows).annotator) == ("first", "a")


def test_two_who_say_that_nothing_is_there_agree() -> None:
    nothing = [decision(1, "first", "a"), decision(2, "review", "b")]
    verdict = settle(nothing)
    assert (verdict.source, verdict.regions) == ("consensus", [])
