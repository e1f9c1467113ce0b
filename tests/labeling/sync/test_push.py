"""Push against a real Label Studio behind a proxy that fails; hostile names; the control share."""

from __future__ import annotations

import os
from collections import Counter

import httpx
import pandas
import pytest

from visionloop.core.config import load_project
from visionloop.core.errors import DataError, UnreachableError
from visionloop.core.tables import SAMPLES, read_table, write_table
from visionloop.labeling import feed, server
from visionloop.labeling.client import TooLargeError, connect
from visionloop.labeling.ledger import open_ledger
from visionloop.labeling.project import find_project, find_tab, setup
from visionloop.labeling.pull import pull
from visionloop.labeling.push import push
from visionloop.labeling.state import credentials, save_address, save_token
from visionloop.labeling.tasks import build_task, is_control, list_looks, sync

HOSTILE = [
    'it\'s "quoted" & <b>.png',
    "100%.png",
    "what?.png",
    "a#b.png",
    "..double..dots...png",
    "ümläut 日本 😀.png",
    "plus+space .png",
    "%2e%2e%2fparams.png",
]


def samples_of(studio) -> pandas.DataFrame:
    return read_table(studio.cells.raw / "samples.parquet", SAMPLES)


def write_samples(workspace, frame) -> None:
    write_table(workspace.raw / "samples.parquet", SAMPLES, frame)


def set_param(workspace, old: str, new: str) -> None:
    text = workspace.params.read_text()
    assert old in text
    workspace.params.write_text(text.replace(old, new))


def number(workspace) -> int:
    return find_project(connect(workspace), load_project(workspace.params))["id"]


def counted(workspace) -> Counter:
    return Counter(row.sample_id for row in list_looks(connect(workspace), number(workspace)))


def test_a_request_that_is_too_large_is_halved(desk, faulty) -> None:
    desk.select(desk.cells, desk.ids[:10])
    with faulty(desk.cells) as faults:
        faults.largest = 3000
        assert push(workspace=desk.cells).pushed == 10
    assert counted(desk.cells) == Counter(desk.ids[:10])
    assert max(faults.imports) < 10
    assert push(workspace=desk.cells).pushed == 0


def test_an_export_whose_address_is_too_long_is_halved(desk, faulty, monkeypatch) -> None:
    monkeypatch.setattr(feed, "FEW", 0)
    desk.select(desk.cells, desk.ids[:7])
    push(workspace=desk.cells)
    client, project = connect(desk.cells), number(desk.cells)
    choice = {"id": "x", "from_name": "class", "to_name": "image", "type": "choices"}
    content = {"result": [{**choice, "value": {"choices": ["functional"]}}], "lead_time": 2}
    for task in list(client.tasks(project=project, include="id")):
        client.post(f"/api/tasks/{task['id']}/annotations/", content)
    with faulty(desk.cells) as faults:
        faults.longest = (
            len(f"/api/projects/{project}/export?exportType=JSON&download_all_tasks=true") + 3 * 12
        )
        assert pull(workspace=desk.cells).samples == 7


def test_a_single_task_that_is_too_large_is_told(desk, faulty) -> None:
    desk.select(desk.cells, desk.ids[:2])
    with faulty(desk.cells) as faults:
        faults.largest = 400
        with pytest.raises(TooLargeError, match="413"):
            push(workspace=desk.cells)
    assert not counted(desk.cells)


@pytest.mark.parametrize("failure", [504, 502, "drop"])
def test_an_import_whose_answer_is_lost_is_not_repeated(desk, faulty, failure) -> None:
    desk.select(desk.cells, desk.ids[:20])
    with faulty(desk.cells) as faults:
        faults.after = ["", failure]
        assert push(workspace=desk.cells).pushed == 20
    assert faults.imports == [10, 10]
    assert counted(desk.cells) == Counter(desk.ids[:20])


def test_an_import_that_never_arrived_is_repeated(desk, faulty) -> None:
    desk.select(desk.cells, desk.ids[:10])
    with faulty(desk.cells) as faults:
        faults.before = [504, 0]
        assert push(workspace=desk.cells).pushed == 10
    assert faults.imports == [10]
    assert counted(desk.cells) == Counter(desk.ids[:10])


def test_a_server_that_never_takes_an_import_is_told_after_a_few_tries(desk, faulty) -> None:
    desk.select(desk.cells, desk.ids[:10])
    with faulty(desk.cells) as faults:
        faults.before = [502] * 9
        with pytest.raises(UnreachableError, match="502"):
            push(workspace=desk.cells)
    assert push(workspace=desk.cells).pushed == 10


def test_a_late_double_is_removed(desk) -> None:
    """A server that was still at work on an import that was sent again."""
    desk.select(desk.cells, desk.ids[:3])
    push(workspace=desk.cells)
    client, project = connect(desk.cells), number(desk.cells)
    row = samples_of(desk).set_index("sample_id", drop=False).loc[desk.ids[0]].to_dict()
    double = build_task(row, look="first", reason="again", rank=1, draft=None)
    client.post(f"/api/projects/{project}/import", [double])
    assert push(workspace=desk.cells).pushed == 0
    assert counted(desk.cells) == Counter(desk.ids[:3])


def test_deleted_tasks_are_pushed_again(desk) -> None:
    desk.select(desk.cells, desk.ids[:4])
    push(workspace=desk.cells)
    client = connect(desk.cells)
    gone = list_looks(client, number(desk.cells))[1]
    client.request("DELETE", f"/api/tasks/{gone.task}/")
    report = push(workspace=desk.cells)
    assert (report.pushed, report.already) == (1, 3)
    assert counted(desk.cells) == Counter(desk.ids[:4])


def test_the_ledger_follows_tasks_that_others_made(desk) -> None:
    desk.select(desk.cells, desk.ids[:2])
    push(workspace=desk.cells)
    client, project = connect(desk.cells), number(desk.cells)
    client.post(f"/api/projects/{project}/import", [{"data": {"image": "http://x/own.png"}}])
    with open_ledger(desk.cells) as ledger:
        sync(ledger, client, project)
        assert len(ledger) == 3
        assert len(ledger.of_look("first")) == 2


def test_a_revoked_token_is_renewed(desk) -> None:
    desk.select(desk.cells, desk.ids[:2])
    url = connect(desk.cells).url
    token = credentials(desk.cells).token
    http = httpx.Client(base_url=url)
    bearer = http.post("/api/token/refresh/", json={"refresh": token}).json()["access"]
    headers = {"Authorization": f"Bearer {bearer}"}
    http.post("/api/token/blacklist/", json={"refresh": token}, headers=headers)
    assert http.post("/api/token/refresh/", json={"refresh": token}).status_code == 401
    try:
        assert push(workspace=desk.cells).pushed == 2
    finally:  # the account is everybody's
        save_token(studio_of(desk), credentials(desk.cells).token)
    assert credentials(desk.cells).token != token


def studio_of(desk):
    """The workspace that started Label Studio."""
    return type(desk.cells)(desk.cells.images.resolve().parents[2])


def test_a_key_that_expired_early_is_replaced(desk) -> None:
    client = connect(desk.cells)
    client.get("/api/users/")
    client._access = "expired"
    assert client.get("/api/users/")


def test_hostile_file_names_are_shown_and_lead_nowhere_else(desk) -> None:
    frame = samples_of(desk)
    rows = frame.head(len(HOSTILE)).copy()
    pictures = [(desk.cells.images / name).read_bytes() for name in rows["file_name"]]
    for name, picture in zip(HOSTILE, pictures, strict=True):
        (desk.cells.images / name).write_bytes(picture)
    rows["file_name"] = HOSTILE
    write_samples(desk.cells, rows)
    desk.select(desk.cells, rows["sample_id"].tolist())
    try:
        assert push(workspace=desk.cells).pushed == len(HOSTILE)
        client = connect(desk.cells)
        headers = {"Authorization": f"Bearer {client._fresh_access()}"}
        for task in client.tasks(project=number(desk.cells), include="id,data"):
            place = rows["sample_id"].tolist().index(task["data"]["sample_id"])
            shown = httpx.get(client.url + task["data"]["image"], headers=headers)
            assert shown.content == pictures[place], HOSTILE[place]
    finally:
        for name in HOSTILE:
            (desk.cells.images / name).unlink()


@pytest.mark.parametrize("name", ["../../params.yaml", "a/b.png", "..", ""])
def test_a_file_name_that_leaves_the_folder_is_refused(desk, name) -> None:
    row = {**samples_of(desk).iloc[0].to_dict(), "file_name": name}
    with pytest.raises(DataError, match="does not name a file"):
        build_task(row, look="first", reason="r", rank=1, draft=None)


def test_a_sample_whose_image_is_gone_is_left_out_and_named(desk) -> None:
    frame = samples_of(desk)
    gone = frame["sample_id"].iloc[0]
    frame.loc[0, "file_name"] = "gone.png"
    write_samples(desk.cells, frame)
    desk.select(desk.cells, frame["sample_id"].tolist()[:5])
    report = push(workspace=desk.cells)
    assert (report.pushed, report.gone) == (4, [gone])


def test_an_open_task_whose_image_is_gone_does_not_stop_new_drafts(desk, new_package) -> None:
    desk.select(desk.cells, desk.ids[:5])
    push(workspace=desk.cells)
    frame = samples_of(desk)
    frame.loc[frame["sample_id"] == desk.ids[0], "file_name"] = "gone.png"
    write_samples(desk.cells, frame)
    new_package(desk.cells.package, 2.0)
    assert push(workspace=desk.cells).redrafted == 4
    assert push(workspace=desk.cells).redrafted == 0


def test_other_thresholds_give_open_tasks_other_drafts(neighbour) -> None:
    space = neighbour.boards
    setup(workspace=space)
    neighbour.select(space, neighbour.ids[:6])
    first = push(workspace=space)
    client, project = connect(space), number(space)
    answered, *waiting = client.tasks(project=project, fields="all")
    client.post(f"/api/tasks/{answered['id']}/annotations/", {"result": []})
    set_param(space, "control_share: 0", "control_share: 0, draft_confidence: 0.99")
    second = push(workspace=space)
    assert (first.pushed, second.pushed, second.redrafted) == (6, 0, 5)
    assert first.version.partition(".")[0] == second.version.partition(".")[0]
    assert find_project(client, load_project(space.params))["model_version"] == second.version
    for task in client.tasks(project=project, fields="all"):
        shown = {row["model_version"]: row["result"] for row in task["predictions"]}
        assert len(shown) == 1 + (task["id"] in {row["id"] for row in waiting})
        assert not shown.get(second.version)
    assert any(row["predictions"][0]["result"] for row in waiting)
    assert push(workspace=space).redrafted == 0


def test_the_control_share_is_shown_without_drafts_and_stays_so(desk, new_package) -> None:
    set_param(desk.cells, "control_share: 0", "control_share: 0.4")
    by_hand = {one for one in desk.ids if is_control(one, 0.4)}
    assert 10 < len(by_hand) < 40
    desk.select(desk.cells, desk.ids)
    push(workspace=desk.cells)
    new_package(desk.cells.package, 1.5)
    assert push(workspace=desk.cells).redrafted == len(desk.ids)
    client = connect(desk.cells)
    tasks = list(client.tasks(project=number(desk.cells), fields="all"))
    for task in tasks:  # both packages gave a place in the queue
        is_drawn = task["data"]["sample_id"] not in by_hand
        assert [bool(row["result"]) for row in task["predictions"]] == [is_drawn] * 2
    best = find_tab(client, number(desk.cells), "Next best")["id"]
    queue = [
        task["data"]["sample_id"] in by_hand for task in client.tasks(view=best, include="id,data")
    ]
    assert True in queue[: len(queue) // 2], "control tasks wait at the end"
    sure = find_tab(client, number(desk.cells), "Check drafts")["id"]
    found = {task["data"]["sample_id"] for task in client.tasks(view=sure, include="id,data")}
    assert found
    assert not found & by_hand
    task = next(task for task in tasks if task["data"]["sample_id"] in by_hand)
    choice = {"id": "x", "from_name": "class", "to_name": "image", "type": "choices"}
    content = {"result": [{**choice, "value": {"choices": ["functional"]}}], "lead_time": 2}
    client.post(f"/api/tasks/{task['id']}/annotations/", content)
    pull(workspace=desk.cells)
    from visionloop.labeling.decisions import load_decisions

    assert [(row.is_control, row.draft) for row in load_decisions(desk.cells)] == [(True, None)]


def test_a_server_killed_in_the_middle_of_a_push_loses_and_doubles_nothing(desk, faulty) -> None:
    """The second import is carried out, and the server dies before it answers."""
    home = studio_of(desk)
    running = server.status(home).address
    desk.select(desk.cells, desk.ids[:40])
    with faulty(desk.cells) as faults:
        faults.after = ["", "drop"]
        faults.then = lambda: os.kill(running.pid, 9)
        with pytest.raises(UnreachableError):
            push(workspace=desk.cells)
    assert faults.imports == [10, 10]
    server.start(home)
    save_address(desk.cells, server.wait_ready(home))
    report = push(workspace=desk.cells)
    assert (report.already, report.pushed) == (20, 20)
    assert counted(desk.cells) == Counter(desk.ids[:40])
