"""The scripted annotator's decisions, prices and planted errors."""

from __future__ import annotations

import pytest

from visionloop.core.config import load_project
from visionloop.labeling.answers import answer_boxes, answer_class, regions_of
from visionloop.labeling.mistakes import load_mistakes, plan_mistakes
from visionloop.labeling.regions import Region


def test_class_accepted_changed_or_given() -> None:
    draft = [Region("defective", None, "class", 0.8)]
    same = answer_class(draft, [Region("defective")])
    other = answer_class(draft, [Region("functional")])
    fresh = answer_class([], [Region("functional")])
    assert [dict(one.actions) for one in (same, other, fresh)] == [
        {"accepted": 1},
        {"relabelled": 1},
        {"added": 1},
    ]
    assert [one.seconds for one in (same, other, fresh)] == [3.0, 3.5, 3.5]
    assert other.regions[0].class_name == "functional"
    assert other.origins == {"class": "prediction-changed"}


def test_boxes_verified_adjusted_relabelled_deleted_drawn() -> None:
    drafts = [
        Region("open", (0, 0, 10, 10), "good", 0.9),
        Region("open", (23, 0, 33, 10), "off", 0.9),
        Region("short", (40, 0, 50, 10), "other class", 0.9),
        Region("spur", (90, 90, 99, 99), "wrong", 0.9),
    ]
    wanted = [
        Region("open", (0, 0, 10, 10.5)),
        Region("open", (20, 0, 30, 10)),
        Region("spur", (40, 0, 50, 10)),
        Region("spur", (60, 0, 70, 10)),
    ]
    answer = answer_boxes(drafts, wanted)
    assert dict(answer.actions) == {
        "accepted": 1, "adjusted": 1, "relabelled": 1, "added": 1, "deleted": 1,
    }  # fmt: skip
    assert answer.seconds == pytest.approx(
        2 + 1.6 + (1.6 + 3.5) + (1.6 + 1.5) + (1.6 + 1) + (7 + 1.5)
    )
    by_key = {region.key: region for region in answer.regions}
    assert by_key["good"].xyxy == (0, 0, 10, 10)  # accepted as drawn
    assert by_key["off"].xyxy == (20, 0, 30, 10)
    assert by_key["other class"].class_name == "spur"


def plan(project, workspace, truth, ids, share):
    known = {one: regions_of(truth[one]) for one in ids}
    sizes = dict.fromkeys(project.ids, (60, 40))
    return plan_mistakes(workspace, known, sizes, load_project(workspace.params), share, 3)


def test_planned_errors_stay_the_same_when_the_work_goes_on(project) -> None:
    first = plan(project, project.cells, project.classes, project.ids[:40], 0.1)
    assert len(first.errors) == 4
    again = plan(project, project.cells, project.classes, project.ids[20:40], 0.1)
    assert again.errors == first.errors == load_mistakes(project.cells).errors
    more = plan(project, project.cells, project.classes, project.ids[20:60], 0.1)
    assert len(more.errors) == 6
    for one, mistake in more.errors.items():
        assert mistake.kind == "swapped"
        assert mistake.truth[0].class_name == project.classes[one][0].class_name
        assert mistake.given[0].class_name != mistake.truth[0].class_name
        assert more.distort(one, mistake.truth) == mistake.given


def test_errors_with_boxes(project) -> None:
    planned = plan(project, project.boards, project.boxes, project.ids, 0.5)
    assert len(planned.errors) == 30
    kinds = {mistake.kind for mistake in planned.errors.values()}
    assert kinds == {"missing", "shifted", "swapped"}
    for one, mistake in planned.errors.items():
        assert project.boxes[one]
        change = len(mistake.truth) - len(mistake.given)
        assert change == (1 if mistake.kind == "missing" else 0)
        for region in mistake.given:
            x1, y1, x2, y2 = region.xyxy
            assert 0 <= x1 < x2 <= 60
            assert 0 <= y1 < y2 <= 40


def test_second_look_repairs_most(project) -> None:
    planned = plan(project, project.cells, project.classes, project.ids, 1.0)
    assert len(planned.kept(0.0, 3).errors) == 0
    assert len(planned.kept(1.0, 3).errors) == 60
    assert 0 < len(planned.kept(0.2, 3).errors) < 30
