"""Doubtful boxes go to a real Label Studio and come back as verdicts on the finder."""

from __future__ import annotations

import pandas
import pytest

from visionloop.core.config import load_project
from visionloop.core.files import read_json
from visionloop.core.tables import FINDINGS, write_table
from visionloop.labeling.annotator import review
from visionloop.labeling.client import connect
from visionloop.labeling.decisions import load_decisions
from visionloop.labeling.mistakes import load_mistakes
from visionloop.labeling.project import find_project, find_tab, setup
from visionloop.labeling.pull import pull
from visionloop.labeling.push import push
from visionloop.labeling.second_look import issues


def finding(sample_id, kind, severity, xyxy, suggestion="", better=None) -> dict:
    return {
        "sample_id": sample_id,
        "kind": kind,
        "reason": f"It seems {kind}.",
        "severity": severity,
        "suggestion": suggestion,
        "xyxy": None if xyxy is None else list(xyxy),
        "suggested_xyxy": None if better is None else list(better),
    }


def right_finding(sample_id, mistake) -> dict:
    """What a good finder says of a planted error."""
    lacking = [row for row in mistake.truth if row not in mistake.given]
    wrong = [row for row in mistake.given if row not in mistake.truth]
    place = (wrong or lacking)[0].xyxy
    better = lacking[0].xyxy if mistake.kind == "shifted" else None
    return finding(sample_id, mistake.kind, 0.9, place, lacking[0].class_name, better)


@pytest.fixture(scope="module")
def annotated(neighbour):
    """Boards annotated in Label Studio, every third one wrongly."""
    space = neighbour.boards
    setup(workspace=space)
    neighbour.select(space, neighbour.ids[:40])
    push(workspace=space)
    review(workspace=space, truth=neighbour.boxes, error_share=0.3)
    pull(workspace=space)
    return neighbour


def second_looks(space) -> list[dict]:
    client = connect(space)
    number = find_project(client, load_project(space.params))["id"]
    view = find_tab(client, number, "Second look")
    return list(client.tasks(view=view["id"], fields="all"))


def test_verdicts_of_people_make_the_finders_record_and_thin_a_poor_kind_out(annotated) -> None:
    space = annotated.boards
    mistakes = load_mistakes(space).errors
    given = {row.sample_id: row.regions for row in load_decisions(space)}
    right = [right_finding(one, mistakes[one]) for one in sorted(mistakes)]
    calm = [one for one in annotated.ids[:40] if given[one] and one not in mistakes]
    wrong = [
        finding(one, "spurious", 0.8 - number / 100, given[one][0].xyxy)
        for number, one in enumerate(calm)
    ]
    frame = pandas.DataFrame([*right, *wrong[:12]])
    write_table(space.root / "data" / "findings.parquet", FINDINGS, frame)
    report = issues(workspace=space, limit=100)
    assert report.sent == len(right) + 12 and report.held_back == 0 and not report.precision

    drawn = {task["data"]["sample_id"]: task for task in second_looks(space)}
    for one in mistakes:
        noted = {
            text: entry
            for entry in drawn[one]["predictions"][-1]["result"]
            for text in entry.get("meta", {}).get("text", [])
        }
        (text,) = noted
        assert text.startswith(f"Suspected: {mistakes[one].kind}.")

    review(workspace=space, truth=annotated.boxes, error_share=0, kind="second_look")
    pull(workspace=space)
    told = read_json(space.studio_state / "finder.json")["verdicts"]
    assert {row["sample_id"] for row in told} == {*mistakes, *calm[:12]}
    assert all(bool(row["found"]) == (row["sample_id"] in mistakes) for row in told)
    frame = pandas.DataFrame(wrong)
    write_table(space.root / "data" / "findings.parquet", FINDINGS, frame)
    report = issues(workspace=space, limit=100)
    record = {row.kind: row for row in report.precision}
    assert record["spurious"].verdicts == 12 and record["spurious"].confirmed == 0
    for kind in ("missing", "shifted", "swapped"):
        count = sum(mistake.kind == kind for mistake in mistakes.values())
        assert count > 0
        assert (record[kind].verdicts, record[kind].confirmed, record[kind].named) == (count,) * 3
    waiting = len(wrong) - 12
    assert 0 < report.sent < waiting
    assert report.held_back == waiting - report.sent
    sent = {task["data"]["sample_id"] for task in second_looks(space)}
    assert sent == set(calm[12 : 12 + report.sent])  # the gravest of them
    assert issues(workspace=space, limit=100).sent == 0
    kept = read_json(space.studio_state / "finder.json")["kinds"]["spurious"]
    assert kept["threshold"] == pytest.approx(0.8 - (12 + report.sent - 1) / 100)
