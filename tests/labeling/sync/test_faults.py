"""What may go wrong with Label Studio beside imports: drafts, pulls, second looks, hints."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pandas
import pytest

from visionloop.core.config import load_project
from visionloop.core.errors import UnreachableError
from visionloop.core.tables import FINDINGS, write_table
from visionloop.data.formats import coco
from visionloop.labeling import feed, server
from visionloop.labeling.backend import hints
from visionloop.labeling.client import StudioClient, connect
from visionloop.labeling.decisions import load_decisions
from visionloop.labeling.processes import free_port
from visionloop.labeling.project import find_project
from visionloop.labeling.pull import pull
from visionloop.labeling.push import push
from visionloop.labeling.review.sending import review
from visionloop.labeling.second_look import issues
from visionloop.labeling.state import save_address
from visionloop.labeling.tasks import list_looks


@pytest.fixture
def pushed(desk):
    """Ten tasks with drafts."""
    desk.select(desk.cells, desk.ids[:10])
    push(workspace=desk.cells)
    return desk


def client_of(desk) -> tuple[StudioClient, int]:
    client = connect(desk.cells)
    return client, find_project(client, load_project(desk.cells.params))["id"]


def answer(desk, tasks) -> None:
    client, _ = client_of(desk)
    choice = {"id": "x", "from_name": "class", "to_name": "image", "type": "choices"}
    content = {"result": [{**choice, "value": {"choices": ["functional"]}}], "lead_time": 2.0}
    for task in tasks:
        client.post(f"/api/tasks/{task['id']}/annotations/", content)


def tasks_of(desk) -> list[dict]:
    client, project = client_of(desk)
    return list(client.tasks(project=project, fields="all"))


def seconds_for(desk, task) -> float:
    """How long whoever answers waits."""
    begun = time.monotonic()
    answer(desk, [task])
    return time.monotonic() - begun


def versions(desk) -> list[Counter]:
    """How many drafts each task has of each version."""
    return [Counter(row["model_version"] for row in task["predictions"]) for task in tasks_of(desk)]


def renew(desk, new_package) -> None:
    """Another package, so that every open task wants another draft."""
    new_package(desk.cells.package, 2.0)


def test_new_drafts_that_are_too_large_for_one_request_are_halved(
    pushed, faulty, new_package
) -> None:
    renew(pushed, new_package)
    with faulty(pushed.cells) as faults:
        faults.on, faults.largest = "/import/predictions", 1500
        assert push(workspace=pushed.cells).redrafted == 10
    assert len(faults.imports) > 2
    assert all(sorted(row.values()) == [1, 1] for row in versions(pushed))


@pytest.mark.parametrize("failure", [504, "drop"])
def test_new_drafts_whose_answer_is_lost_are_not_doubled(
    pushed, faulty, new_package, failure
) -> None:
    renew(pushed, new_package)
    with faulty(pushed.cells) as faults:
        faults.on, faults.after = "/import/predictions", [failure]
        assert push(workspace=pushed.cells).redrafted == 10
    assert len(faults.imports) == 1
    assert all(sorted(row.values()) == [1, 1] for row in versions(pushed))


def test_second_looks_whose_answer_is_lost_are_not_doubled(pushed, faulty) -> None:
    answer(pushed, tasks_of(pushed))
    pull(workspace=pushed.cells)
    doubtful = pushed.ids[:4]
    rows = [{"sample_id": one, "kind": "label_issue", "reason": "looks like a defect",
             "severity": 1.0 - number / 10, "suggestion": "defective", "xyxy": None}
            for number, one in enumerate(doubtful)]  # fmt: skip
    path = pushed.cells.root / "data" / "findings.parquet"
    write_table(path, FINDINGS, pandas.DataFrame(rows))
    with faulty(pushed.cells) as faults:
        faults.before, faults.after = [504, 0, 0], ["drop"]
        assert issues(workspace=pushed.cells).sent == 4
    assert len(faults.imports) == 1
    client, project = client_of(pushed)
    looks = [row.sample_id for row in list_looks(client, project) if row.look == "second"]
    assert Counter(looks) == Counter(doubtful)
    assert issues(workspace=pushed.cells).sent == 0


def test_second_opinions_whose_answer_is_lost_are_not_doubled(pushed, faulty) -> None:
    answer(pushed, tasks_of(pushed))
    pull(workspace=pushed.cells)
    text = pushed.cells.params.read_text()
    block = "control_share: 0, review: {share: 1.0, min_pairs: 5}"
    pushed.cells.params.write_text(text.replace("control_share: 0", block))
    with faulty(pushed.cells) as faults:
        faults.before, faults.after = [504, 0, 0], ["drop"]
        assert review(workspace=pushed.cells).sent == 10
    assert faults.imports == [10]
    client, project = client_of(pushed)
    looks = [row.sample_id for row in list_looks(client, project) if row.look == "review"]
    assert Counter(looks) == Counter(pushed.ids[:10])
    assert review(workspace=pushed.cells).sent == 0


def test_a_pull_outlives_gateways_that_fail_on_its_way(pushed, faulty, monkeypatch) -> None:
    monkeypatch.setattr(feed, "FEW", 0)
    answer(pushed, tasks_of(pushed))
    with faulty(pushed.cells) as faults:
        faults.on, faults.before, faults.after = "/export", [502, 504, 503, 0], ["drop"]
        assert pull(workspace=pushed.cells).samples == 10
    assert faults.imports == [10, 10]  # the first was carried out, and its answer was lost


@contextmanager
def receiver(status: int) -> Iterator[tuple[str, list[str]]]:
    """A webhook's receiver that answers with a status; its address and what it was told."""
    told: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.server_address[1]}/hook", told
    finally:
        listening.shutdown()
        listening.server_close()


@pytest.mark.parametrize("status", [500, None])
def test_a_receiver_that_fails_or_is_gone_costs_the_annotator_nothing(pushed, status) -> None:
    """The answers are told to nobody, and the next pull has them all."""
    client, project = client_of(pushed)
    first, second, *others = tasks_of(pushed)[:5]
    usual = seconds_for(pushed, first)
    with receiver(status or 200) as (url, told):
        where = url if status else f"http://127.0.0.1:{free_port()}/hook"
        hook = {"project": project, "url": where, "send_for_all_actions": True, "is_active": True}
        client.post("/api/webhooks/", hook)
        assert seconds_for(pushed, second) < 3 * usual + 1
        answer(pushed, others)
    assert len(told) >= 4 if status else not told
    assert pull(workspace=pushed.cells).samples == 5


def test_label_studio_killed_in_the_middle_of_a_pull_and_read_again_without_a_hint(
    pushed, faulty, monkeypatch
) -> None:
    """The second page is made, and the server dies before it is sent; nobody says it is back."""
    monkeypatch.setattr(feed, "FEW", 0)
    monkeypatch.setattr(feed, "EXPORT_PAGE", 4)
    monkeypatch.setattr(hints, "GATHER_SECONDS", 0.1)
    home = type(pushed.cells)(pushed.cells.images.resolve().parents[2])
    running = server.status(home).address
    answer(pushed, tasks_of(pushed))
    with faulty(pushed.cells) as faults:
        faults.on, faults.after = "/export", ["", "drop"]
        faults.then = lambda: os.kill(running.pid, 9)
        with pytest.raises(UnreachableError):
            pull(workspace=pushed.cells)
    assert not pushed.cells.studio_annotations.exists()
    assert len(load_decisions(pushed.cells)) == 4
    puller = hints.Puller(pushed.cells, minutes=0.05, on_pulled=lambda: None)
    puller.start()
    try:
        wait_for(lambda: "does not answer" in puller.problem)
        server.start(home)
        save_address(pushed.cells, server.wait_ready(home))
        wait_for(pushed.cells.studio_annotations.exists)
    finally:
        puller.stop()
    said = coco.load(pushed.cells.studio_annotations)[1]
    assert Counter(row.sample_id for row in said) == Counter(pushed.ids[:10])


def wait_for(is_so, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.1)
