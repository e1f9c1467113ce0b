"""Two people, planted errors, a third who settles: through a real Label Studio."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest

from visionloop.core.config import load_project
from visionloop.data.formats import coco
from visionloop.labeling.annotator import review as annotate
from visionloop.labeling.client import connect
from visionloop.labeling.decisions import load_decisions
from visionloop.labeling.project import find_project, setup
from visionloop.labeling.pull import pull
from visionloop.labeling.push import push
from visionloop.labeling.regions import Region
from visionloop.labeling.review.report import agreement
from visionloop.labeling.review.sending import REASON, review
from visionloop.labeling.review.tabs import DISAGREEMENTS, tab_title
from visionloop.labeling.state import credentials
from visionloop.labeling.tasks import list_looks

BEA, CARL = "bea@example.org", "carl@example.org"
SAMPLES = 9


@pytest.fixture(scope="module")
def space(neighbour, accounts):
    """A detection project whose first answers are right; one in two samples is reviewed."""
    space = neighbour.boards
    owner = credentials(space).email
    block = f"review: {{share: 1.0, min_pairs: 5, reviewers: [{owner}, {BEA}, {CARL}]}}"
    text = space.params.read_text().replace("batch: 10", "batch: 5")
    text = text.replace("second_look: 5", f"second_look: 5, {block}")
    space.params.write_text(text)
    setup(workspace=space)
    chosen = [one for one in neighbour.ids if neighbour.boxes[one]][:SAMPLES]
    neighbour.select(space, chosen)
    push(workspace=space)
    annotate(workspace=space, truth=neighbour.boxes, error_share=0)
    pull(workspace=space)
    return space


def truth(neighbour, task, shift=0.0) -> list[Region]:
    return [
        Region(row.class_name, tuple(value + shift for value in row.xyxy), f"r{number}")
        for number, row in enumerate(neighbour.boxes[task["data"]["sample_id"]])
    ]


def tab(name) -> str:
    return tab_title(name, (BEA, CARL))


def first_answer(space, sample_id):
    return next(
        row.regions
        for row in load_decisions(space)
        if (row.sample_id, row.look) == (sample_id, "first")
    )


def sent(space, look) -> Counter:
    project = find_project(connect(space), load_project(space.params))["id"]
    return Counter(row.sample_id for row in list_looks(connect(space), project) if row.look == look)


def pulled(space, sample_id):
    return [row for row in coco.load(space.studio_annotations)[1] if row.sample_id == sample_id]


def test_an_interrupted_review_goes_on_and_asks_everybody_once(space, people) -> None:
    code = "from pathlib import Path; from visionloop.core.workspace import Workspace as W; "
    code += "from visionloop.labeling.review.sending import review as run; "
    code += f"run(workspace=W(Path({str(space.root)!r}), {space.variant!r}))"
    environment = {**os.environ, "VISIONLOOP_FAILPOINT": "labeling.review:kill:1"}
    line = [sys.executable, "-c", code]
    killed = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120)
    assert killed.returncode == -9, killed.stderr
    first = sum(sent(space, "review").values())
    assert 0 < first < SAMPLES
    report = review(workspace=space)
    assert (report.sent, report.again, report.waiting) == (SAMPLES - first, 0, first)
    assert set(sent(space, "review").values()) == {1}
    assert review(workspace=space).sent == 0
    assert push(workspace=space).redrafted == 0


def test_nothing_gives_the_first_answer_or_its_author_away(space, people) -> None:
    owner = credentials(space).email
    offered = {name: people[name].tasks(tab(name)) for name in (BEA, CARL)}
    assert sum(map(len, offered.values())) == SAMPLES
    assert not people[owner].tasks(tab(owner))
    for name, tasks in offered.items():
        assert tasks
        for task in tasks:
            assert task["data"]["reason"] == REASON
            assert task["data"]["reviewer"] == name
            assert (task["predictions"], task["annotations"]) == ([], [])
            assert owner not in json.dumps(task["data"])


def test_planted_errors_are_found_settled_and_pulled_with_their_provenance(
    space, people, neighbour
) -> None:
    owner = credentials(space).email
    everything = [(name, task) for name in (BEA, CARL) for task in people[name].tasks(tab(name))]
    (missed, swapped, moved, skipped, himself), rest = everything[:5], everything[5:]
    planted = {task["data"]["sample_id"] for _, task in (missed, swapped, moved)}
    for name, task in rest:
        people[name].answer(task, truth(neighbour, task, shift=1.0))
    people[missed[0]].answer(missed[1], truth(neighbour, missed[1])[1:])
    wrong = [replace(row, class_name="spur" if row.class_name != "spur" else "open")
             for row in truth(neighbour, swapped[1])]  # fmt: skip
    people[swapped[0]].answer(swapped[1], wrong)
    people[moved[0]].answer(moved[1], truth(neighbour, moved[1], shift=5.0))
    people[skipped[0]].skip(skipped[1])
    people[owner].answer(himself[1], truth(neighbour, himself[1]))
    pull(workspace=space)

    found = agreement(workspace=space)
    assert set(found.differing) == planted
    assert found.agreement.samples == SAMPLES - 2  # nobody confirms himself; skipping says nothing
    assert found.agreement.images.agreed == SAMPLES - 5
    page = found.page.read_text()
    assert all(one[:12] in page for one in planted)

    report = review(workspace=space)
    assert (report.sent, report.again, report.waiting, report.disputes) == (1, 1, 1, 3)
    again = review(workspace=space)
    assert (again.sent, again.waiting, again.disputes) == (0, 2, 0)
    # What was skipped is offered to the third person instead.
    other = CARL if skipped[0] == BEA else BEA
    offered = {name: {task["id"] for task in people[name].tasks(tab(name))} for name in (BEA, CARL)}
    assert skipped[1]["id"] not in offered[skipped[0]]
    assert skipped[1]["id"] in offered[other]
    disputes = {task["data"]["sample_id"]: task for task in people[CARL].tasks(DISAGREEMENTS)}
    assert set(disputes) == planted
    for task in disputes.values():
        assert "Two people disagree" in task["data"]["reason"]
        assert not any(name in json.dumps(task["data"]) for name in people)
    drawn = disputes[swapped[1]["data"]["sample_id"]]["predictions"][-1]["result"]
    names = [row["value"]["rectanglelabels"][0] for row in drawn]
    assert sorted(names) == sorted(
        row.class_name for row in [*truth(neighbour, swapped[1]), *wrong]
    )

    for task in disputes.values():
        people[CARL].answer(task, truth(neighbour, task))
    for name in (BEA, CARL):
        for task in people[name].tasks(tab(name)):
            people[name].answer(task, truth(neighbour, task, shift=1.0))
    back = pull(workspace=space)
    assert back.replaced == 3
    final = pulled(space, swapped[1]["data"]["sample_id"])
    assert {row.annotator for row in final} == {
        f"{CARL}, settling {owner}" + (f", {BEA}" if swapped[0] == BEA else "")
    }
    assert [row.class_name for row in final] == [
        row.class_name for row in truth(neighbour, swapped[1])
    ]
    name, task = rest[0]
    agreed = pulled(space, task["data"]["sample_id"])
    assert {row.annotator for row in agreed} == {f"consensus of {owner}, {name}"}
    first = first_answer(space, task["data"]["sample_id"])
    for row, before, after in zip(agreed, first, truth(neighbour, task, shift=1.0), strict=True):
        middle = [(a + b) / 2 for a, b in zip(before.xyxy, after.xyxy, strict=True)]
        assert row.xyxy == pytest.approx(middle, abs=0.1)
    last = review(workspace=space)
    assert (last.sent, last.waiting, last.disputes) == (0, 0, 0)
    settled = {row.name: row.settled for row in agreement(workspace=space).people}
    assert settled[owner].value == 1.0
    assert all(settled[name].value < 1 for name in {missed[0], swapped[0], moved[0]})
