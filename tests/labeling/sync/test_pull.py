"""Pull against a real Label Studio: only what changed, what is gone, kills, several people."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter

import pytest

from visionloop.core import failpoints
from visionloop.core.config import load_project
from visionloop.core.errors import DataError
from visionloop.data.formats import coco
from visionloop.labeling import feed
from visionloop.labeling.client import StudioClient, connect
from visionloop.labeling.decisions import load_decisions, open_decisions
from visionloop.labeling.project import find_project, setup
from visionloop.labeling.pull import pull
from visionloop.labeling.push import push
from visionloop.labeling.queries import earlier


@pytest.fixture
def desk(neighbour, request):
    """An empty project each: its model has the name of the test."""
    space = neighbour.cells
    text = space.params.read_text()
    before = load_project(space.params).model
    space.params.write_text(text.replace(before, f"pull-{abs(hash(request.node.name))}"))
    setup(workspace=space)
    neighbour.select(space, neighbour.ids[:8])
    push(workspace=space)
    return neighbour


def client_of(desk) -> tuple[StudioClient, int]:
    client = connect(desk.cells)
    return client, find_project(client, load_project(desk.cells.params))["id"]


def tasks_of(desk) -> dict[str, int]:
    client, project = client_of(desk)
    rows = client.tasks(project=project, include="id,data")
    return {row["data"]["sample_id"]: row["id"] for row in rows if row["data"].get("sample_id")}


def content(name: str, **more) -> dict:
    choice = {"id": "x", "from_name": "class", "to_name": "image", "type": "choices"}
    return {"result": [{**choice, "value": {"choices": [name]}}], "lead_time": 2.0, **more}


def answer(desk, ids, name: str = "functional") -> list[int]:
    client, _ = client_of(desk)
    tasks = tasks_of(desk)
    made = [client.post(f"/api/tasks/{tasks[one]}/annotations/", content(name)) for one in ids]
    return [row["id"] for row in made]


def said(desk) -> dict[str, str]:
    rows = coco.load(desk.cells.studio_annotations)[1]
    return {row.sample_id: row.class_name for row in rows}


def test_only_what_changed_is_read_again(desk, monkeypatch) -> None:
    monkeypatch.setattr(feed, "OVERLAP", 0.0)
    answer(desk, desk.ids[:5])
    assert pull(workspace=desk.cells).read == 5
    before = desk.cells.studio_annotations.read_bytes()
    assert pull(workspace=desk.cells).read == 0
    assert desk.cells.studio_annotations.read_bytes() == before
    written = desk.cells.studio_annotations.stat().st_ino
    assert pull(workspace=desk.cells).samples == 5
    assert desk.cells.studio_annotations.stat().st_ino == written
    desk.cells.studio_annotations.unlink()
    assert pull(workspace=desk.cells).actions == {"added": 5}
    assert desk.cells.studio_annotations.read_bytes() == before
    answer(desk, desk.ids[5:6])
    report = pull(workspace=desk.cells)
    assert (report.read, report.samples) == (1, 6)


def test_an_answer_that_appears_late_with_an_early_time_is_read(desk) -> None:
    """A slow request carries the time at which it began, and the pull before it saw later ones."""
    answer(desk, desk.ids[:2])
    pull(workspace=desk.cells)
    answer(desk, desk.ids[2:3])
    with open_decisions(desk.cells) as store:
        position = json.loads(store.note("position"))
        later = earlier(position["since"], -30.0)
        store.set_note("position", json.dumps({**position, "since": later}))
    report = pull(workspace=desk.cells)
    assert (report.read, report.samples) == (1, 3)
    assert pull(workspace=desk.cells).read == 0


def test_many_answers_come_by_export_and_say_the_same(desk, monkeypatch) -> None:
    client, project = client_of(desk)
    pull(workspace=desk.cells)  # what follows is no first sweep
    tasks = list(client.tasks(project=project, fields="all"))
    for task in tasks[:5]:
        draft = task["predictions"][0]
        said_so = content("functional", parent_prediction=draft["id"])
        client.post(f"/api/tasks/{task['id']}/annotations/", said_so)
    client.post(f"/api/tasks/{tasks[5]['id']}/annotations/", content("x", was_cancelled=True))
    pull(workspace=desk.cells)
    listed = load_decisions(desk.cells)
    (desk.cells.studio_state / "decisions.sqlite").unlink()
    monkeypatch.setattr(feed, "FEW", 0)
    monkeypatch.setattr(feed, "EXPORT_PAGE", 4)
    assert pull(workspace=desk.cells).read == 6
    assert load_decisions(desk.cells) == listed
    assert {row.draft for row in listed if not row.is_skipped} == {
        task["predictions"][0]["id"] for task in tasks[:5]
    }


def test_what_was_pushed_since_is_read_unlisted_and_older_changes_with_it(
    desk, monkeypatch
) -> None:
    """Also after a kill between two pages of it."""
    monkeypatch.setattr(feed, "OVERLAP", 0.0)
    numbers = answer(desk, desk.ids[:8])
    pull(workspace=desk.cells)
    desk.select(desk.cells, desk.ids[:20])
    push(workspace=desk.cells)
    answer(desk, desk.ids[8:18], "defective")
    client, _ = client_of(desk)
    client.patch(f"/api/annotations/{numbers[0]}/", content("defective"))
    client.request("DELETE", f"/api/annotations/{numbers[1]}/")
    listed: list[int] = []
    sweep = StudioClient.sweep

    def watched(self, *arguments, **named):
        for page in sweep(self, *arguments, **named):
            listed.extend(task["id"] for task in page)
            yield page

    monkeypatch.setattr(StudioClient, "sweep", watched)
    monkeypatch.setattr(feed, "FEW", 3)
    monkeypatch.setattr(feed, "EXPORT_PAGE", 4)
    monkeypatch.setattr(failpoints, "_passages", Counter())
    monkeypatch.setenv("VISIONLOOP_FAILPOINT", "labeling.pull:interrupt:2")
    with pytest.raises(KeyboardInterrupt):
        pull(workspace=desk.cells)
    monkeypatch.delenv("VISIONLOOP_FAILPOINT")
    assert len(load_decisions(desk.cells)) == 8 + 8
    assert not listed
    pull(workspace=desk.cells)
    wanted = dict.fromkeys(desk.ids[2:8], "functional") | dict.fromkeys(desk.ids[8:18], "defective")
    assert said(desk) == wanted | {desk.ids[0]: "defective"}
    answer(desk, desk.ids[18:20])
    assert pull(workspace=desk.cells).read == 2


def test_edited_and_deleted_answers_and_deleted_tasks_are_reflected(desk) -> None:
    client, _ = client_of(desk)
    numbers = answer(desk, desk.ids[:5])
    pull(workspace=desk.cells)
    client.patch(f"/api/annotations/{numbers[0]}/", content("defective"))
    client.request("DELETE", f"/api/annotations/{numbers[1]}/")
    client.request("DELETE", f"/api/tasks/{tasks_of(desk)[desk.ids[2]]}/")
    pull(workspace=desk.cells)
    a, _, _, d, e = desk.ids[:5]
    assert said(desk) == {a: "defective", d: "functional", e: "functional"}
    assert len(load_decisions(desk.cells)) == 3


def test_a_deletion_that_leaves_no_trace_is_found(desk, monkeypatch) -> None:
    """All tasks' answers removed at once, as the data manager does; no time changes."""
    monkeypatch.setattr(feed, "OVERLAP", 0.0)
    client, project = client_of(desk)
    answer(desk, desk.ids[:3])
    pull(workspace=desk.cells)
    view = client.post("/api/dm/views/", {"project": project, "data": {"title": "all"}})
    tasks = tasks_of(desk)
    chosen = {"all": False, "included": [tasks[one] for one in desk.ids[:2]]}
    client.post("/api/dm/actions", {"selectedItems": chosen, "project": project},
                id="delete_tasks_annotations", tabID=view["id"], project=project)  # fmt: skip
    pull(workspace=desk.cells)
    assert set(said(desk)) == {desk.ids[2]}


def test_peoples_own_uploads_are_left_alone_and_cost_no_list(desk) -> None:
    client, project = client_of(desk)
    own = {"data": {"image": "http://x/own.png"}, "annotations": [{"result": []}]}
    client.post(f"/api/projects/{project}/import", [own])
    answer(desk, desk.ids[:2])
    assert pull(workspace=desk.cells).samples == 2
    with open_decisions(desk.cells) as store:
        source = feed.Feed(client, project, store)
        assert source.position.unread == 1
        list(source.changed())
        assert list(source.lost()) == []


def test_every_answer_of_a_task_is_kept_and_the_last_one_counts(desk) -> None:
    answer(desk, desk.ids[:1], "functional")
    answer(desk, desk.ids[:1], "defective")
    pull(workspace=desk.cells)
    rows = load_decisions(desk.cells)
    assert [row.regions[0].class_name for row in rows] == ["functional", "defective"]
    assert rows[0].created_at <= rows[0].decided_at <= rows[1].decided_at
    assert said(desk) == {desk.ids[0]: "defective"}


def test_the_draft_its_version_and_the_action_are_kept(desk) -> None:
    client, project = client_of(desk)
    shown = {
        row["id"]: row["predictions"][0] for row in client.tasks(project=project, fields="all")
    }
    tasks = tasks_of(desk)
    for one, name in zip(desk.ids[:2], ("functional", "defective"), strict=True):
        parent = shown[tasks[one]]
        drafted = parent["result"][0]["value"]["choices"][0]
        mine = drafted if name == "functional" else "defective"
        client.post(f"/api/tasks/{tasks[one]}/annotations/",
                    content(mine, parent_prediction=parent["id"]))  # fmt: skip
    pull(workspace=desk.cells)
    for row in load_decisions(desk.cells):
        assert row.draft == shown[row.task]["id"]
        assert row.draft_version == shown[row.task]["model_version"]
    assert load_decisions(desk.cells)[0].actions == ["accepted"]


def test_a_skipped_task_is_kept_as_skipped_and_says_nothing(desk) -> None:
    client, _ = client_of(desk)
    task = tasks_of(desk)[desk.ids[0]]
    client.post(f"/api/tasks/{task}/annotations/", content("functional", was_cancelled=True))
    report = pull(workspace=desk.cells)
    assert (report.samples, report.skipped) == (0, 1)
    (row,) = load_decisions(desk.cells)
    assert (row.is_skipped, row.regions, row.actions) == (True, [], [])


def test_one_answer_that_is_not_understood_is_named_and_the_file_stays(desk) -> None:
    answer(desk, desk.ids[:3])
    pull(workspace=desk.cells)
    before = desk.cells.studio_annotations.read_bytes()
    answer(desk, desk.ids[3:4], "cat")
    answer(desk, desk.ids[4:5], "functional")
    task = tasks_of(desk)[desk.ids[3]]
    for _ in range(2):  # it is not forgotten either
        with pytest.raises(DataError, match=f"task {task}: class 'cat'"):
            pull(workspace=desk.cells)
        assert desk.cells.studio_annotations.read_bytes() == before
    client, _ = client_of(desk)
    client.request("DELETE", f"/api/tasks/{task}/")
    assert pull(workspace=desk.cells).samples == 4


def test_a_killed_pull_goes_on(desk) -> None:
    answer(desk, desk.ids[:4])
    line = [sys.executable, "-m", "visionloop.labeling", "pull", "-w", str(desk.cells.root)]
    environment = {**os.environ, "VISIONLOOP_FAILPOINT": "labeling.pull:kill:1"}
    killed = subprocess.run(line, env=environment, capture_output=True, timeout=120)
    assert killed.returncode == -9
    assert not desk.cells.studio_annotations.exists() or set(said(desk)) != set(desk.ids[:4])
    assert pull(workspace=desk.cells).samples == 4
    assert set(said(desk)) == set(desk.ids[:4])
