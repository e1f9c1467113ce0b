"""The whole of labeling against a real Label Studio; one server, tests in order."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import httpx
import pandas
import pytest

from visionloop.core.config import load_project
from visionloop.core.errors import DataError, UnreachableError
from visionloop.core.files import read_json
from visionloop.core.tables import FINDINGS, write_table
from visionloop.data.formats import coco
from visionloop.labeling import server
from visionloop.labeling.annotator import review
from visionloop.labeling.client import connect
from visionloop.labeling.decisions import load_decisions
from visionloop.labeling.ledger import open_ledger
from visionloop.labeling.meter import meter
from visionloop.labeling.mistakes import load_mistakes
from visionloop.labeling.processes import is_port_free
from visionloop.labeling.project import TABS, find_project, find_tab, setup
from visionloop.labeling.pull import pull
from visionloop.labeling.push import push
from visionloop.labeling.review.tabs import ANYBODY, DISAGREEMENTS
from visionloop.labeling.second_look import issues
from visionloop.labeling.state import credentials
from visionloop.labeling.tasks import list_looks


def project_id(workspace) -> int:
    return find_project(connect(workspace), load_project(workspace.params))["id"]


def task_counts(workspace, look="first") -> Counter:
    rows = list_looks(connect(workspace), project_id(workspace))
    return Counter(row.sample_id for row in rows if row.look == look)


def open_tasks(workspace, tab) -> list[dict]:
    client = connect(workspace)
    view = find_tab(client, project_id(workspace), tab)
    return list(client.tasks(view=view["id"], fields="all"))


def run(workspace, *command, failpoint="") -> subprocess.CompletedProcess:
    environment = {**os.environ, "VISIONLOOP_FAILPOINT": failpoint, "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "visionloop.labeling", *command, "-w", str(workspace.root)]
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120)


def pulled(workspace):
    return coco.load(workspace.studio_annotations)[1]


def test_setup_changes_nothing_the_second_time(studio) -> None:
    first = setup(workspace=studio.cells)
    client = connect(studio.cells)
    views = client.get("/api/dm/views/", project=first.project)
    again = setup(workspace=studio.cells)
    assert (first.created, again.created) == (True, False)
    assert first.project == again.project
    titles = [view["data"]["title"] for view in views]
    assert sorted(titles) == sorted({*TABS, ANYBODY, DISAGREEMENTS})
    assert client.get("/api/dm/views/", project=first.project) == views
    assert len(client.get("/api/storages/localfiles/", project=first.project)) == 1


def test_setup_puts_a_changed_tab_and_interface_right(studio) -> None:
    client, number = connect(studio.cells), project_id(studio.cells)
    view = find_tab(client, number, "Next best")
    spoilt = {**view["data"], "ordering": ["tasks:id"]}
    client.patch(f"/api/dm/views/{view['id']}/", {"project": number, "data": spoilt})
    client.patch(f"/api/projects/{number}/", {"sampling": "Sequential sampling"})
    setup(workspace=studio.cells)
    assert find_tab(client, number, "Next best")["data"]["ordering"] == ["tasks:predictions_score"]
    assert client.get(f"/api/projects/{number}/")["sampling"] == "Uncertainty sampling"


@pytest.mark.parametrize(("action", "code"), [("interrupt", 130), ("kill", -9)])
def test_interrupted_push_goes_on_and_doubles_nothing(studio, action, code) -> None:
    """Stopped right after an import, before anything was recorded; 15 tasks each time."""
    ids = studio.ids[:15] if action == "interrupt" else studio.ids[:30]
    studio.select(studio.cells, ids)
    stopped = run(studio.cells, "push", failpoint=f"labeling.push:{action}:1")
    assert stopped.returncode == code, stopped.stderr
    before = task_counts(studio.cells)
    assert len(before) == len(ids) - 5
    again = run(studio.cells, "push")
    assert again.returncode == 0, again.stderr
    assert "pushed 5 samples" in again.stdout
    assert task_counts(studio.cells) == Counter(ids)
    assert push(workspace=studio.cells).pushed == 0
    with open_ledger(studio.cells) as ledger:
        assert set(ledger.of_look("first")) == set(ids)


def test_the_least_certain_comes_first_with_its_draft(studio) -> None:
    tasks = open_tasks(studio.cells, "Next best")
    scores = [task["predictions_score"] for task in tasks]
    assert len(tasks) == 30
    assert scores == sorted(scores)
    client, number = connect(studio.cells), project_id(studio.cells)
    view = find_tab(client, number, "Next best")["data"]
    shown = client.post("/api/dm/actions/", view, id="next_task", project=number)
    assert shown["id"] == tasks[0]["id"]
    assert len(shown["predictions"]) == 1
    middle = min(studio.ids[:30], key=lambda one: abs(studio.levels[one] - 127.5))
    assert tasks[0]["data"]["sample_id"] == middle
    sure = open_tasks(studio.cells, "Check drafts")
    assert 0 < len(sure) < 30
    assert min(task["predictions_score"] for task in sure) >= 0.9


def test_pictures_are_served_to_the_signed_in_only_and_nothing_else_is(studio) -> None:
    client = connect(studio.cells)
    path = open_tasks(studio.cells, "Next best")[0]["data"]["image"]
    headers = {"Authorization": f"Bearer {client._fresh_access()}"}
    picture = httpx.get(client.url + path, headers=headers)
    assert picture.status_code == 200
    assert picture.content.startswith(b"\x89PNG")
    assert httpx.get(client.url + path).status_code == 401
    address = f"{client.url}/data/local-files/"
    for outside in ("annotations.json", "images/../../params.yaml", "../../params.yaml"):
        assert httpx.get(address, params={"d": outside}, headers=headers).status_code >= 400


def test_a_new_package_renews_the_drafts_of_open_tasks(studio, new_package) -> None:
    before = open_tasks(studio.cells, "Next best")
    new_package(studio.cells.package, 1.0)
    report = push(workspace=studio.cells)
    assert (report.pushed, report.redrafted) == (0, 30)
    after = open_tasks(studio.cells, "Next best")
    shown = find_project(connect(studio.cells), load_project(studio.cells.params))["model_version"]
    assert shown == report.version
    assert max(task["predictions_score"] for task in after) < max(
        task["predictions_score"] for task in before
    )
    assert push(workspace=studio.cells).redrafted == 0


def test_scripted_annotator_and_pull(studio) -> None:
    first = review(workspace=studio.cells, truth=studio.classes, error_share=0.2, limit=10)
    rest = review(workspace=studio.cells, truth=studio.classes, error_share=0.2)
    assert (first.tasks, rest.tasks) == (10, 20)
    mistakes = load_mistakes(studio.cells).errors
    assert first.mistakes + rest.mistakes == len(mistakes) == 6
    report = pull(workspace=studio.cells)
    assert report.samples == report.annotations == 30
    assert report.actions == dict(sorted((Counter(first.actions) + Counter(rest.actions)).items()))
    for row in pulled(studio.cells):
        is_right = row.class_name == studio.classes[row.sample_id][0].class_name
        assert is_right == (row.sample_id not in mistakes)
        assert row.source == "studio"
        assert row.annotator == credentials(studio.cells).email
        assert row.lead_time in (3.0, 3.5)
    assert not open_tasks(studio.cells, "Next best")
    assert len(open_tasks(studio.cells, "Done")) == 30


def test_pull_gives_the_same_bytes_again(studio) -> None:
    before = studio.cells.studio_annotations.read_bytes()
    pull(workspace=studio.cells)
    assert studio.cells.studio_annotations.read_bytes() == before


def test_meter_counts_what_was_paid(studio) -> None:
    report = meter(workspace=studio.cells)
    assert report.first.images == report.first.objects == 30
    assert report.first.seconds == pytest.approx(
        sum(row.lead_time for row in load_decisions(studio.cells)), abs=0.1
    )
    assert 3.0 <= report.first.seconds_per_image <= 3.5
    accepted = report.first.actions["accepted"] / 30
    assert report.first.accepted_share == pytest.approx(accepted, abs=1e-4)
    assert read_json(report.path)["first"]["images"] == 30


def write_findings(studio, ids) -> None:
    said = {row.sample_id: row.class_name for row in pulled(studio.cells)}
    rows = [
        {
            "sample_id": one,
            "kind": "label_issue",
            "reason": f"Annotated '{said[one]}', but images like it are not.",
            "severity": 1.0 / number,
            "suggestion": studio.classes[one][0].class_name,
            "xyxy": None,
        }
        for number, one in enumerate(ids, start=1)
    ]
    other = {**rows[0], "kind": "near_duplicate", "severity": 9.0}
    frame = pandas.DataFrame([other, *rows])
    write_table(studio.cells.root / "data" / "findings.parquet", FINDINGS, frame)


def test_second_look_asks_once_and_replaces_the_first(studio) -> None:
    mistakes = load_mistakes(studio.cells).errors
    doubtful = [*sorted(mistakes), *[one for one in studio.ids[:30] if one not in mistakes]]
    write_findings(studio, doubtful)
    report = issues(workspace=studio.cells)
    assert (report.sent, report.already) == (5, 0)  # labeling.second_look
    assert issues(workspace=studio.cells).sent == 0
    tasks = open_tasks(studio.cells, "Second look")
    assert [task["data"]["sample_id"] for task in tasks] == doubtful[:5]
    assert "Annotated" in tasks[0]["data"]["reason"]
    shown = tasks[0]["predictions"][-1]["result"][0]["value"]["choices"]
    assert shown == [studio.classes[doubtful[0]][0].class_name]
    done = review(workspace=studio.cells, truth=studio.classes, error_share=0, kind="second_look")
    assert (done.tasks, done.repaired, done.mistakes) == (5, 5, 0)
    assert done.actions == {"accepted": 5}
    back = pull(workspace=studio.cells)
    assert (back.samples, back.replaced) == (30, 5)
    wrong = {
        row.sample_id
        for row in pulled(studio.cells)
        if row.class_name != studio.classes[row.sample_id][0].class_name
    }
    assert wrong == {doubtful[5]}


def test_settled_findings_stay_settled_and_new_ones_are_asked(studio) -> None:
    assert issues(workspace=studio.cells).sent == 0
    looked_at = list(task_counts(studio.cells, "second"))
    others = [one for one in studio.ids[:30] if one not in looked_at]
    write_findings(studio, [*looked_at, *others])
    assert issues(workspace=studio.cells, limit=2).sent == 2
    waiting = [task["data"]["sample_id"] for task in open_tasks(studio.cells, "Second look")]
    assert waiting == others[:2]


def test_kill_9_loses_nothing(studio) -> None:
    before = task_counts(studio.cells)
    annotations = studio.cells.studio_annotations.read_bytes()
    studio.select(studio.cells, studio.ids[:40])
    known = server.status(studio.cells).address
    os.kill(known.pid, 9)
    begun = time.monotonic()
    with pytest.raises(UnreachableError):
        push(workspace=studio.cells)
    assert time.monotonic() - begun < 15
    with pytest.raises(UnreachableError):
        pull(workspace=studio.cells)
    assert studio.cells.studio_annotations.read_bytes() == annotations
    server.start(studio.cells)
    server.wait_ready(studio.cells)
    assert task_counts(studio.cells) == before
    pull(workspace=studio.cells)
    assert studio.cells.studio_annotations.read_bytes() == annotations
    assert push(workspace=studio.cells).pushed == 10
    assert task_counts(studio.cells) == Counter(studio.ids[:40])


def test_a_task_of_a_strange_class_is_named_and_nothing_is_written(studio) -> None:
    annotations = studio.cells.studio_annotations.read_bytes()
    client, task = connect(studio.cells), open_tasks(studio.cells, "Next best")[0]
    strange = {"id": "x", "from_name": "class", "to_name": "image", "type": "choices"}
    strange["value"] = {"choices": ["cat"]}
    content = {"result": [strange], "lead_time": 1}
    made = client.post(f"/api/tasks/{task['id']}/annotations/", content)
    with pytest.raises(DataError, match="class 'cat' is not in"):
        pull(workspace=studio.cells)
    assert studio.cells.studio_annotations.read_bytes() == annotations
    client.request("DELETE", f"/api/annotations/{made['id']}/")


def test_skipped_tasks_say_nothing(studio) -> None:
    client, task = connect(studio.cells), open_tasks(studio.cells, "Next best")[0]
    content = {"result": [], "was_cancelled": True, "lead_time": 1}
    client.post(f"/api/tasks/{task['id']}/annotations/", content)
    assert task["data"]["sample_id"] not in {row.sample_id for row in pulled(studio.cells)}
    pull(workspace=studio.cells)
    assert task["data"]["sample_id"] not in {row.sample_id for row in pulled(studio.cells)}


def test_boxes_there_and_back(studio) -> None:
    """A detection project in the same Label Studio: drafts, a review with errors, pixels."""
    space = studio.boards
    # One workspace is one project in life; here two share a server to save its start.
    (space.studio_state / "planted_errors.json").unlink()
    setup(workspace=space)
    studio.select(space, studio.ids)
    assert push(workspace=space).pushed == 60
    report = review(workspace=space, truth=studio.boxes, error_share=0)
    assert report.mistakes == 0
    assert {"accepted", "added", "deleted", "relabelled"} <= set(report.actions)
    back = pull(workspace=space)
    assert back.samples == 60
    rows = {}
    for row in pulled(space):
        rows.setdefault(row.sample_id, []).append(row)
    for one in studio.ids:
        if not studio.boxes[one]:
            assert [(row.class_name, row.xyxy) for row in rows[one]] == [("", None)]
            continue
        wanted = sorted((row.xyxy, row.class_name) for row in studio.boxes[one])
        got = sorted((row.xyxy, row.class_name) for row in rows[one])
        for (want, want_name), (have, have_name) in zip(wanted, got, strict=True):
            assert have_name == want_name
            assert have == pytest.approx(want, abs=1.0)  # accepted drafts stay as drawn
        seconds = sum(row.lead_time for row in rows[one])
        assert seconds == pytest.approx(_lead_time(space, one), abs=0.01)
    actions = Counter(meter(workspace=space).first.actions)
    # A relabelled box may be seen as an adjusted one at the same place: the class tells.
    assert actions == Counter(report.actions) + Counter(accepted=_empty_confirmed(space))


def _lead_time(workspace, sample_id) -> float:
    return next(row.lead_time for row in load_decisions(workspace) if row.sample_id == sample_id)


def _empty_confirmed(workspace) -> int:
    """Images where the draft and the person agree that nothing is there."""
    empty = {row.sample_id for row in pulled(workspace) if not row.class_name}
    return sum(row.sample_id in empty and not row.deleted for row in load_decisions(workspace))


def test_no_secret_in_logs_or_open_files(studio) -> None:
    account = credentials(studio.cells)
    assert account.token
    for path in studio.cells.studio_state.iterdir():
        if path.is_file() and path.name != "credentials.json":
            content = path.read_bytes()
            assert account.password.encode() not in content, path
            assert account.token.encode() not in content, path
    address = server.status(studio.cells).address
    command_line = Path(f"/proc/{address.pid}/cmdline").read_bytes()
    assert account.password.encode() not in command_line


def test_stop_ends_the_process_and_a_start_goes_on(studio) -> None:
    address = server.status(studio.cells).address
    assert server.stop(studio.cells) is True
    assert server.status(studio.cells).address is None
    assert not Path(f"/proc/{address.pid}/stat").exists()
    assert is_port_free(address.port)
    server.start(studio.cells)  # the tests of other files go on with it
    server.wait_ready(studio.cells)
    assert task_counts(studio.cells)
