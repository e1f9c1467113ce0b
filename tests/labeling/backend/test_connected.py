"""Label Studio and the backend together: both are real, each in processes of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from statistics import median

import pytest

from visionloop.core.config import load_project
from visionloop.data.formats import coco
from visionloop.labeling import server
from visionloop.labeling.backend.automatic import NOTE, train_if_wanted
from visionloop.labeling.backend.connect import ACTIONS, connect_backend
from visionloop.labeling.backend.jobs import JobQueue
from visionloop.labeling.backend.keys import SECRET_HEADER, backend_keys, running_backend
from visionloop.labeling.backend.serve import connect_running, start_backend, stop_backend
from visionloop.labeling.client import connect
from visionloop.labeling.decisions import open_decisions
from visionloop.labeling.project import find_project, setup
from visionloop.labeling.pull import pull
from visionloop.labeling.push import push
from visionloop.labeling.tasks import OPEN

TASKS = 18


@pytest.fixture(scope="module")
def connected(neighbour, train_by):
    """A classification project with tasks and drafts, and its connected backend."""
    space = neighbour.cells
    train_by(space, "visionloop --help")
    server.start(space)  # another module may have stopped it
    server.wait_ready(space)
    setup(workspace=space)
    neighbour.select(space, neighbour.ids[:TASKS])
    assert push(workspace=space).pushed == TASKS
    start_backend(space, port=0)
    connect_running(space)
    yield neighbour
    stop_backend(space)


@pytest.fixture
def client(connected):
    return connect(connected.cells)


@pytest.fixture
def number(connected, client) -> int:
    return find_project(client, load_project(connected.cells.params))["id"]


def open_tasks(client, number) -> list[dict]:
    """Those that are shown with drafts."""
    tasks = client.tasks(project=number, fields="all", query=OPEN)
    return [task for task in tasks if task["data"].get("control") != "yes"]


def ours(client, number) -> dict:
    (only,) = client.get("/api/ml/", project=number)
    return only


def submit(client, task, name="functional") -> float:
    """Answer a task as the editor does; how long the annotator waited."""
    entry = {"id": "class", "from_name": "class", "to_name": "image", "type": "choices"}
    entry["value"] = {"choices": [name]}
    begun = time.monotonic()
    client.post(f"/api/tasks/{task['id']}/annotations/", {"result": [entry], "lead_time": 2.0})
    return time.monotonic() - begun


def description(client, number) -> str:
    return client.get(f"/api/projects/{number}/")["description"] or ""


def pulled(space) -> set[str]:
    """Samples of which the last pull brought a verdict."""
    if not space.studio_annotations.exists():
        return set()
    return {row.sample_id for row in coco.load(space.studio_annotations)[1]}


def sample_of(task) -> str:
    return task["data"]["sample_id"]


def test_connecting_again_changes_nothing(connected, client, number) -> None:
    url = running_backend(connected.cells).url
    before = ours(client, number)
    assert before["readable_state"] == "Connected"
    assert before["is_interactive"] and before["auth_method"] == "BASIC_AUTH"
    assert connect_backend(client, number, url, connected.cells) == before["id"]
    assert ours(client, number)["id"] == before["id"]
    hooks = [row for row in client.get("/api/webhooks/", project=number) if row["project"]]
    (hook,) = (row for row in hooks if row["project"] == number)
    assert hook["headers"] == {SECRET_HEADER: backend_keys(connected.cells).secret}
    assert hook["send_payload"] is False
    assert sorted(hook["actions"]) == sorted(ACTIONS)


def test_a_draft_is_made_while_a_person_works(connected, client, number) -> None:
    task = open_tasks(client, number)[0]
    model = ours(client, number)
    path = f"/api/ml/{model['id']}/interactive-annotating"
    answer = client.post(path, {"task": task["id"], "context": {}})
    stored = task["predictions"][0]
    assert answer["data"]["result"] == stored["result"]
    assert answer["data"]["model_version"] == stored["model_version"]


def test_drafts_are_fetched_for_ticked_tasks_but_not_for_control_tasks(
    connected, client, number
) -> None:
    """The data manager's action "Retrieve predictions", which sends tasks in bulk."""
    tasks = list(client.tasks(project=number, fields="all", query=OPEN))
    control = [task for task in tasks if task["data"].get("control") == "yes"]
    lost = [task for task in tasks if task["predictions"] and task not in control][:3]
    for task in lost:
        client.request("DELETE", f"/api/predictions/{task['predictions'][0]['id']}/")
    ticked = [task["id"] for task in (*lost, *control)]
    body = {"selectedItems": {"all": False, "included": ticked}}
    client.post("/api/dm/actions", body, id="retrieve_tasks_predictions", project=number)
    found = {task["id"]: task for task in client.tasks(project=number, fields="all", query=OPEN)}
    for task in lost:
        (again,) = found[task["id"]]["predictions"]
        assert again["result"] == task["predictions"][0]["result"]
    for task in control:
        assert not any(row["result"] for row in found[task["id"]]["predictions"])


def test_an_answer_is_pulled_without_anybody_asking(connected, client, number, wait_until) -> None:
    task = open_tasks(client, number)[0]
    submit(client, task)
    wait_until(lambda: sample_of(task) in pulled(connected.cells))


def test_start_training_is_answered_at_once_and_its_end_is_seen_in_the_project(
    connected, client, number, wait_until
) -> None:
    client.patch(f"/api/projects/{number}/", {"description": "Cells of plant 2."})
    begun = time.monotonic()
    client.post(f"/api/ml/{ours(client, number)['id']}/train", {})
    assert time.monotonic() - begun < 1
    queue = JobQueue(connected.cells)
    (job,) = (row for row in queue.list() if row.kind == "training")
    assert job.asked_by == "Label Studio"
    wait_until(lambda: queue.get(job.id).is_over)
    assert queue.get(job.id).state == "done", queue.get(job.id).reason
    text = wait_until(lambda: (told := description(client, number)) and "done" in told and told)
    assert text.startswith("Cells of plant 2.\nTraining: done 20")
    assert running_backend(connected.cells).url in text


@pytest.mark.slow
def test_a_failed_training_says_why_in_the_project(
    connected, client, number, train_by, wait_until
) -> None:
    train_by(connected.cells, "visionloop label pull --workspace no")
    client.post(f"/api/ml/{ours(client, number)['id']}/train", {})
    text = wait_until(lambda: (told := description(client, number)) and "failed" in told and told)
    assert "there is no such file" in text


@pytest.mark.slow
def test_enough_answers_start_a_training(connected, client, number, set_param, wait_until) -> None:
    queue = JobQueue(connected.cells)
    with open_decisions(connected.cells) as store:
        store.set_note(NOTE, str(len(store)))
    before = len(queue.list())
    set_param(connected.cells, train_after=2)
    first, second = open_tasks(client, number)[:2]
    submit(client, first)
    wait_until(lambda: sample_of(first) in pulled(connected.cells))
    assert len(queue.list()) == before
    submit(client, second)
    job = wait_until(lambda: len(queue.list()) > before and queue.list(1)[0])
    assert (job.kind, job.asked_by) == ("training", "2 new answers")
    assert not train_if_wanted(connected.cells, queue)  # counted anew
    set_param(connected.cells, train_after=0)
    wait_until(lambda: queue.get(job.id).is_over)


def test_a_new_model_renews_the_drafts_and_the_order_by_itself(
    connected, client, number, new_package, wait_until
) -> None:
    before = open_tasks(client, number)
    version = before[0]["predictions"][-1]["model_version"]
    new_package(connected.cells.package, 0.7)
    wait_until(
        lambda: (
            find_project(client, load_project(connected.cells.params))["model_version"] != version
        )
    )
    after = {task["id"]: task for task in open_tasks(client, number)}
    assert set(after) == {task["id"] for task in before}
    for task in after.values():
        assert task["predictions"][-1]["model_version"] != version
    job = JobQueue(connected.cells).list(1)[0]
    assert (job.kind, job.asked_by) == ("drafts", "a new release")


def test_forged_doubled_and_reordered_hints_change_nothing(
    connected, client, number, wait_until
) -> None:
    import httpx

    pull(workspace=connected.cells)
    known = pulled(connected.cells)
    url = running_backend(connected.cells).url
    keys = backend_keys(connected.cells)
    with httpx.Client(base_url=url, trust_env=False, timeout=10) as http:
        for count in range(40):
            body = {"action": "ANNOTATION_CREATED", "annotation": {"id": 10**6 - count}}
            secret = keys.secret if count % 2 else "guessed"
            answer = http.post("/webhook", json=body, headers={SECRET_HEADER: secret})
            assert answer.status_code == (200 if count % 2 else 401)
    task = open_tasks(client, number)[0]
    submit(client, task)  # a true one among them
    wait_until(lambda: sample_of(task) in pulled(connected.cells))
    assert pulled(connected.cells) == known | {sample_of(task)}


def test_a_backend_that_hangs_costs_the_annotator_less_than_a_second(
    connected, client, number
) -> None:
    usual = median(submit(client, task) for task in open_tasks(client, number)[:3])
    address = running_backend(connected.cells)
    os.kill(address.pid, signal.SIGSTOP)
    try:
        hanging = [submit(client, task) for task in open_tasks(client, number)[:3]]
    finally:
        os.kill(address.pid, signal.SIGCONT)
    assert median(hanging) - usual < 0.8, (usual, hanging)


def test_without_the_backend_people_go_on_and_nothing_they_say_is_lost(
    connected, client, number, wait_until
) -> None:
    space = connected.cells
    before = ours(client, number)
    os.kill(running_backend(space).pid, signal.SIGKILL)
    task, another = open_tasks(client, number)[:2]
    opened = client.get(f"/api/tasks/{task['id']}/", project=number)
    assert opened["predictions"]  # drafts that were made before stay
    told = client.post(
        f"/api/ml/{before['id']}/interactive-annotating", {"task": task["id"], "context": {}}
    )
    assert told["errors"] and not told.get("data")
    assert submit(client, task) < 5
    assert ours(client, number)["readable_state"] != "Connected"
    start_backend(space, port=0)  # another port
    connect_running(space)
    after = ours(client, number)
    assert (after["id"], after["readable_state"]) == (before["id"], "Connected")
    assert after["url"] != before["url"]
    wait_until(lambda: sample_of(task) in pulled(space))  # the hint was lost, the answer was not
    submit(client, another)
    wait_until(lambda: sample_of(another) in pulled(space))  # the webhook knows the new port


def test_a_task_whose_image_is_gone_gets_no_draft_and_others_do(
    connected, client, number, tmp_path
) -> None:
    gone, other = open_tasks(client, number)[:2]
    image = connected.cells.images / f"{gone['data']['sample_id']}.png"
    shutil.move(image, tmp_path / "kept.png")
    try:
        path = f"/api/ml/{ours(client, number)['id']}/interactive-annotating"
        nothing = client.post(path, {"task": gone["id"], "context": {}})
        assert not nothing["data"]
        drawn = client.post(path, {"task": other["id"], "context": {}})
        assert drawn["data"]["result"]
    finally:
        shutil.move(tmp_path / "kept.png", image)
    log = (connected.cells.studio_state / "backend.log").read_text()
    assert re.search(rf"no draft for task {gone['id']}: .*its image is gone", log)


def test_no_secret_in_the_log_of_the_backend(connected) -> None:
    keys = backend_keys(connected.cells)
    for path in connected.cells.studio_state.rglob("*.log"):
        content = path.read_text(errors="replace")
        assert keys.secret not in content and keys.password not in content, path
