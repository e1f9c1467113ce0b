"""The four routes of Label Studio's protocol: who may ask, how much, and what is answered."""

from __future__ import annotations

import logging
import shutil
import socket
import threading
import time
from types import SimpleNamespace

import httpx
import numpy as np
import pytest

from visionloop.core.files import read_json
from visionloop.labeling.backend import predicting
from visionloop.labeling.backend.guard import Guard, read_basic
from visionloop.labeling.backend.keys import SECRET_HEADER, backend_keys
from visionloop.labeling.backend.predicting import Drafting
from visionloop.labeling.drafts import load_drafter
from visionloop.labeling.params import load_params
from visionloop.labeling.state import credentials
from visionloop.labeling.tasks import build_task


@pytest.fixture
def served(project, signed, new_package, serve_backend, wait_until):
    """A classification project with a package; its backend serves."""
    new_package(project.cells.package, 4.0)
    with serve_backend(project.cells) as running:
        wait_until(lambda: running.backend.current.version)
        yield running


def task_of(project, number, **data) -> dict:
    one = project.ids[number]
    row = {"sample_id": one, "file_name": f"{one}.png", "camera": "", "captured_at": ""}
    made = build_task(row, look="first", reason="", rank=1, draft=None)
    made["data"] |= data
    return {"id": number, **made}


def predict(served, tasks) -> list:
    answer = served.ask("POST", "/predict", json={"tasks": tasks, "params": {"context": None}})
    assert answer.status_code == 200, answer.text
    return answer.json()["results"]


def test_strangers_are_refused_on_every_route(served) -> None:
    user, password = served.auth
    wrong = [None, (user, password + "x"), ("x" + user, password), (user, "")]
    for method, path in [
        *(("GET", "/health"), ("POST", "/setup"), ("POST", "/predict"), ("POST", "/webhook")),
        *(("GET", "/"), ("GET", "/jobs"), ("POST", "/jobs"), ("POST", "/jobs/1/cancel")),
    ]:
        for account in wrong:
            answer = served.ask(method, path, auth=account)
            assert answer.status_code == 401, (method, path)
            assert "Basic" in answer.headers["www-authenticate"]
    assert served.ask("GET", "/health").json()["status"] == "UP"
    assert read_basic("Basic ÿ") == read_basic("Bearer abc") == ("", "")


def test_a_person_signs_in_to_the_page_as_in_label_studio(served) -> None:
    account = credentials(served.workspace)
    answer = served.ask("GET", "/", auth=(account.email, account.password))
    assert answer.status_code == 200
    assert "Nothing was trained yet" in answer.text
    assert served.backend.current.version in answer.text


def test_oversized_bodies_and_requests_are_refused(served) -> None:
    large = b"x" * ((16 << 20) + 1)
    assert served.ask("POST", "/predict", content=large).status_code == 413
    chunks = (b"x" * (1 << 20) for _ in range(40))  # without a length said beforehand
    assert served.ask("POST", "/predict", content=chunks).status_code == 413
    many = {"tasks": [{"id": 1, "data": {}}] * 1001}
    assert served.ask("POST", "/predict", json=many).status_code == 413
    for body in (b"", b"[]", b"{", b'{"tasks": 1}', b'{"tasks": [1]}', b"\xff"):
        assert served.ask("POST", "/predict", content=body).status_code == 422
    assert served.ask("GET", "/health").status_code == 200


def test_a_body_that_never_ends_is_given_up(project, signed, serve_backend, monkeypatch) -> None:
    monkeypatch.setitem(Guard.__init__.__kwdefaults__, "body_seconds", 0.3)
    with serve_backend(project.cells) as served:
        port = int(served.url.rpartition(":")[2])
        user, password = served.auth
        basic = httpx.BasicAuth(user, password)._auth_header
        head = f"POST /setup HTTP/1.1\r\nHost: localhost\r\nAuthorization: {basic}\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall((head + "Content-Length: 50\r\n\r\nhalf").encode())
            assert b"408" in connection.recv(100)


def test_another_name_of_this_machine_and_forms_of_other_sites_are_refused(served) -> None:
    rebound = served.ask("GET", "/health", headers={"Host": "evil.example:80"})
    assert rebound.status_code == 400
    foreign = served.ask("POST", "/jobs", headers={"Origin": "http://evil.example"})
    assert foreign.status_code == 403
    assert served.ask("GET", "/jobs").json() == []


def test_setup_does_not_read_the_key_that_it_is_given(served, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    body = {"project": "3.1", "access_token": "a-secret-of-label-studio", "hostname": "http://x"}
    answer = served.ask("POST", "/setup", json=body)
    assert answer.json() == {"model_version": served.backend.current.version}
    assert "a-secret-of-label-studio" not in caplog.text
    for path in served.workspace.studio_state.rglob("*"):
        assert path.is_dir() or b"a-secret-of-label-studio" not in path.read_bytes()


def test_drafts_are_those_of_a_push(served, project) -> None:
    drafter = load_drafter(project.cells, *load_params(project.cells))
    wanted = drafter.draft([project.cells.images / f"{one}.png" for one in project.ids[:12]])
    got = predict(served, [task_of(project, number) for number in range(12)])
    for draft, answer in zip(wanted, got, strict=True):
        assert answer["model_version"] == drafter.version
        assert answer["score"] == pytest.approx(draft.certainty, abs=1e-5)
        assert answer["result"][0]["value"]["choices"] == [draft.regions[0].class_name]


def test_a_task_without_our_metadata_is_found_by_its_picture(served, project) -> None:
    bare = {"id": 1, "data": {"image": task_of(project, 3)["data"]["image"]}}
    assert predict(served, [bare]) == predict(served, [task_of(project, 3)])


def test_one_bad_image_costs_its_own_draft_alone(served, project, caplog) -> None:
    """Gone, damaged, unknown, hostile, not a task at all: the others get theirs."""
    images = project.cells.images
    (images / f"{project.ids[1]}.png").unlink()
    (images / f"{project.ids[2]}.png").write_bytes(b"\x89PNG broken")
    tasks = [task_of(project, number) for number in range(4)]
    tasks += [
        {"id": 90, "data": {"sample_id": "f" * 64}},
        {"id": 91, "data": {"image": "/data/local-files/?d=images/../../../params.yaml"}},
        {"id": 92, "data": {"image": "/data/local-files/?d=/etc/passwd"}},
        {"id": 93, "data": {"image": ["what"], "sample_id": {}}},
        {"id": 94, "data": None},
        {"id": 95},
    ]
    answers = predict(served, tasks)
    assert [bool(answer) for answer in answers] == [True, False, False, True, *[False] * 6]
    assert "task 1: " in caplog.text and "its image is gone" in caplog.text
    assert "task 2: " in caplog.text


def test_a_model_that_crashes_on_one_image_drafts_the_others(project, signed, new_package) -> None:
    new_package(project.cells.package, 4.0)
    drafter = load_drafter(project.cells, *load_params(project.cells))
    right = drafter.draft

    def fails_on_the_second(paths):
        if project.ids[1] in str(paths[0]):
            raise RuntimeError("bad allocation")
        return right(paths)

    drafter.draft = fails_on_the_second
    tasks = [task_of(project, number) for number in range(3)]
    answers = Drafting(project.cells).draft(tasks, drafter)
    assert [answer is None for answer in answers] == [False, True, False]


def test_a_file_name_that_leads_outside_is_not_opened(project, signed, new_package) -> None:
    from visionloop.core.tables import SAMPLES, read_table, write_table

    new_package(project.cells.package, 4.0)
    table = project.cells.raw / "samples.parquet"
    frame = read_table(table, SAMPLES)
    outside = project.cells.root / "outside.png"
    shutil.copy(project.cells.images / frame["file_name"][0], outside)
    frame.loc[0, "file_name"] = "../../../outside.png"
    write_table(table, SAMPLES, frame)
    drafter = load_drafter(project.cells, *load_params(project.cells))
    task = {"id": 1, "data": {"sample_id": frame["sample_id"][0]}}
    assert Drafting(project.cells).draft([task], drafter) == [None]


def test_some_looks_are_shown_without_a_draft(served, project) -> None:
    tasks = [task_of(project, 0), task_of(project, 0, control="yes")]
    tasks += [task_of(project, 0, look=look) for look in ("second", "review", "adjudicate")]
    assert [bool(answer) for answer in predict(served, tasks)] == [True, *[False] * 4]


def test_a_request_that_takes_too_long_answers_what_it_has(project, monkeypatch) -> None:
    monkeypatch.setattr(predicting, "REQUEST_SECONDS", 0.25)

    def slow(paths):
        time.sleep(0.1)
        raise ValueError("never mind")

    answers = Drafting(project.cells).draft(
        [task_of(project, number) for number in range(50)], SimpleNamespace(draft=slow)
    )
    assert answers == [None] * 50


def test_without_a_model_tasks_come_without_drafts(project, signed, serve_backend) -> None:
    with serve_backend(project.cells) as served:
        assert served.ask("POST", "/setup", json={}).json() == {"model_version": ""}
        assert predict(served, [task_of(project, 0)]) == [[]]


def test_a_new_package_takes_over_while_requests_go_on(
    served, project, new_package, wait_until
) -> None:
    """No request fails or mixes two models, and the last ones are answered by the new one."""
    before = served.backend.current.version
    tasks = [task_of(project, number) for number in range(20)]
    answers, problems, is_over = [], [], threading.Event()

    def ask_on() -> None:
        while not is_over.is_set():
            try:
                answers.append({row["model_version"] for row in predict(served, tasks)})
            except Exception as error:
                problems.append(error)

    threads = [threading.Thread(target=ask_on) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(answers) > 5)
    new_package(project.cells.package, 1.5)
    wait_until(lambda: served.backend.current.version != before)
    after = served.backend.current.version
    wait_until(lambda: answers[-1] == {after})
    is_over.set()
    for thread in threads:
        thread.join()
    assert not problems
    assert all(len(versions) == 1 for versions in answers)
    assert {before, after} == set().union(*answers)


def test_a_package_that_must_not_be_loaded_leaves_the_old_one_at_work(
    served, project, wait_until
) -> None:
    before = served.backend.current.version
    manifest = project.cells.package / "manifest.json"
    manifest.write_text(manifest.read_text().replace("tiny", "tinier"))
    problem = wait_until(lambda: served.backend.current.problem)
    assert "changed after signing" in problem
    assert served.backend.current.version == before
    assert predict(served, [task_of(project, 0)])[0]["model_version"] == before
    assert "changed after signing" in served.ask("GET", "/").text


def test_hints_are_answered_at_once_and_only_with_the_secret(served, wait_until) -> None:
    wait_until(lambda: served.backend.puller.pulls == 1)  # the one at the start
    secret = backend_keys(served.workspace).secret
    for given in ("", "x", secret[:-1], secret + "x"):
        forged = served.ask("POST", "/webhook", auth=None, headers={SECRET_HEADER: given})
        assert forged.status_code == 401
    for path in ("/predict", "/setup", "/jobs"):
        assert (
            served.ask("POST", path, auth=None, headers={SECRET_HEADER: secret}).status_code == 401
        )
    times = []
    for _ in range(30):
        begun = time.monotonic()
        body = {"action": "START_TRAINING"}
        told = served.ask("POST", "/webhook", auth=None, headers={SECRET_HEADER: secret}, json=body)
        assert (told.status_code, told.json()) == (200, {})
        times.append(time.monotonic() - begun)
    assert np.median(times) < 0.2
    wait_until(lambda: served.backend.puller.pulls >= 2)
    assert served.ask("GET", "/jobs").json() == []  # a secret starts no training
    assert served.backend.puller.pulls < 10  # thirty hints, few pulls


def test_keys_are_readable_by_their_owner_alone(served) -> None:
    for name in ("backend-keys.json", "jobs.sqlite"):
        assert (served.workspace.studio_state / name).stat().st_mode & 0o077 == 0
    stored = read_json(served.workspace.studio_state / "backend-keys.json")
    assert stored["password"] not in repr(backend_keys(served.workspace))
