"""The queue of jobs: one at a time, told apart, cancelled, and put right after kills."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from visionloop.core.errors import ConfigError
from visionloop.labeling.backend import jobs
from visionloop.labeling.backend.jobs import JobQueue
from visionloop.labeling.backend.notice import sentence_of, with_notice
from visionloop.labeling.backend.progress import read_fraction
from visionloop.labeling.backend.supervisor import Supervisor
from visionloop.labeling.backend.worker import log_of
from visionloop.labeling.params import load_params
from visionloop.labeling.processes import start_time

PARAMS = Path(__file__).parents[3] / "params.yaml"
QUICK = "visionloop --help"
SLOW = "visionloop label select --workspace slow"
WRONG = "visionloop label select --workspace nowhere"
REFUSED = "visionloop data calibrate one --pictures data/raw/images --workspace full"
"""Ends with 3, as a gate does: no picture shows a board."""


@pytest.fixture
def space(project, signed, new_package):
    """A project with a package, and a folder "slow" whose params.yaml is a pipe: a command
    that reads it hangs until somebody writes."""
    new_package(project.cells.package, 4.0)
    (project.cells.root / "slow").mkdir()
    os.mkfifo(project.cells.root / "slow" / "params.yaml")
    return project.cells


@pytest.fixture
def supervise(space, wait_until):
    """Start supervisors over the same queue, as backends that follow one another do."""
    started = []

    def start() -> Supervisor:
        supervisor = Supervisor(space, JobQueue(space), lambda _: None)
        supervisor.start()
        started.append(supervisor)
        return supervisor

    yield start
    for supervisor in started:
        supervisor.stop()
    job = JobQueue(space).list(1)
    assert not job or not start_time(job[0].child)


def is_hanging(queue, number):
    """The job, once its command waits at the pipe."""
    job = queue.get(number)
    return job if job.command == SLOW and job.child and start_time(job.child) else None


def test_one_after_another_and_what_waits_is_not_doubled(project) -> None:
    queue = JobQueue(project.cells)
    first = queue.add("training", asked_by="a")
    assert queue.add("training", asked_by="b") == first
    drafts = queue.add("drafts", asked_by="a release")
    assert queue.take_next().id == first.id
    assert queue.take_next() is None
    second = queue.add("training", asked_by="c")
    assert second.id not in (first.id, drafts.id)
    queue.end(first.id, "done")
    assert queue.take_next().id == drafts.id
    assert [job.state for job in queue.list()] == ["queued", "running", "done"]
    with pytest.raises(KeyError):
        queue.cancel(99)


def test_what_has_ended_stays_as_it_ended(project) -> None:
    queue = JobQueue(project.cells)
    job = queue.add("training", asked_by="a")
    queue.take_next()
    queue.cancel(job.id)
    queue.update(job.id, fraction=0.5, step=3)
    queue.end(job.id, "done")
    queue.requeue(job.id, "killed", attempts=1)
    assert queue.get(job.id).state == "cancelled"
    assert queue.cancel(job.id).state == "cancelled"


def test_many_askers_at_once_make_one_job(project) -> None:
    queue = JobQueue(project.cells)
    threads = [
        threading.Thread(target=lambda: queue.add("training", asked_by="x")) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(queue.list()) == 1


def test_old_jobs_are_forgotten(project, monkeypatch) -> None:
    monkeypatch.setattr(jobs, "KEPT", 4)
    queue = JobQueue(project.cells)
    for _ in range(7):
        job = queue.add("training", asked_by="x")
        queue.cancel(job.id)
    assert len(queue.list(1000)) <= 5
    assert queue.list(1)[0].id == 7


def test_a_training_runs_its_commands_and_keeps_their_output(
    space, supervise, wait_until, train_by
) -> None:
    train_by(space, QUICK, QUICK)
    queue = JobQueue(space)
    number = queue.add("training", asked_by="me").id
    queue.add("drafts", asked_by="the release that it made")
    supervise().wake()
    job = wait_until(lambda: queue.get(number) if queue.get(number).is_over else None)
    assert (job.state, job.reason, job.step, job.steps) == ("done", "", 3, 3)
    assert [one.id for one in queue.list()] == [number]  # it renewed the drafts itself
    assert job.progress == 1
    output = log_of(space, number).read_text()
    assert output.count(f"$ {QUICK}\n") == 2
    assert "no thresholds chosen" in output
    assert log_of(space, number).stat().st_mode & 0o077 == 0


def test_a_failure_says_why_and_the_next_job_runs(space, supervise, wait_until, train_by) -> None:
    train_by(space, WRONG, QUICK)
    queue = JobQueue(space)
    number = queue.add("training", asked_by="me").id
    again = queue.add("drafts", asked_by="the package that it made").id
    supervise().wake()
    job = wait_until(lambda: queue.get(number) if queue.get(number).is_over else None)
    assert (job.state, job.step) == ("failed", 1)
    assert "ended with 2" in job.reason and "there is no such file" in job.reason
    assert log_of(space, number).read_text().count("$ ") == 1
    wait_until(lambda: queue.get(again).state == "done")


def test_a_refusal_is_no_failure_and_drafts_are_renewed(
    space, signed, supervise, wait_until, train_by
) -> None:
    (space.root / "full").mkdir()
    shutil.copy(PARAMS, space.root / "full")
    train_by(space, REFUSED, QUICK)
    queue = JobQueue(space)
    number = queue.add("training", asked_by="me").id
    supervise().wake()
    job = wait_until(lambda: queue.get(number) if queue.get(number).is_over else None)
    output = log_of(space, number).read_text()
    assert job.state == "refused", job.reason
    assert job.reason.startswith("calibration of camera one: 61 problems\n")
    assert job.reason.endswith("nothing was stored") and len(job.reason.splitlines()) == 6
    assert f"$ {QUICK}" not in output and "$ visionloop label thresholds" in output


def test_a_cancelled_job_ends_with_its_processes(space, supervise, wait_until, train_by) -> None:
    train_by(space, SLOW)
    queue = JobQueue(space)
    number = queue.add("training", asked_by="me").id
    supervisor = supervise()
    hanging = wait_until(lambda: is_hanging(queue, number))
    begun = time.monotonic()
    queue.cancel(number)
    supervisor.wake()
    wait_until(lambda: not start_time(hanging.child) and not start_time(hanging.worker))
    assert time.monotonic() - begun < 4
    assert queue.get(number).state == "cancelled"


def test_a_killed_worker_is_tried_once_more_then_told(
    space, supervise, wait_until, train_by
) -> None:
    train_by(space, SLOW)
    queue = JobQueue(space)
    number = queue.add("training", asked_by="me").id
    supervise()
    children = []
    for _ in range(2):
        hanging = wait_until(
            lambda: (job := is_hanging(queue, number)) and job.child not in children and job
        )
        children.append(hanging.child)
        os.kill(hanging.worker, signal.SIGKILL)
        wait_until(lambda: not start_time(children[-1]))  # what it ran is ended, too
    job = wait_until(lambda: queue.get(number) if queue.get(number).is_over else None)
    assert (job.state, job.attempts) == ("failed", 2)
    assert job.reason == "its worker was killed (SIGKILL), 2 times"


def test_a_backend_that_was_killed_finds_its_job_again(
    space, supervise, wait_until, train_by
) -> None:
    """The worker outlives it, and the next backend waits for it instead of starting another."""
    train_by(space, SLOW)
    queue = JobQueue(space)
    number = queue.add("training", asked_by="me").id
    killed = supervise()
    hanging = wait_until(lambda: is_hanging(queue, number))
    killed._is_over, killed._current = True, None  # gone without a word
    killed._thread.join()
    supervise()
    time.sleep(0.7)
    assert is_hanging(queue, number).worker == hanging.worker
    with (space.root / "slow" / "params.yaml").open("w") as pipe:
        pipe.write("nonsense: 1\n")
    job = wait_until(lambda: queue.get(number) if queue.get(number).is_over else None)
    assert job.state == "failed" and "unknown block 'nonsense'" in job.reason
    assert job.attempts == 1


def test_a_worker_that_died_while_no_backend_ran_is_tried_again(
    space, supervise, wait_until, train_by
) -> None:
    train_by(space, QUICK)
    queue = JobQueue(space)
    number = queue.add("training", asked_by="me").id
    queue.take_next()
    queue.update(number, worker=os.getpid(), worker_started="long ago")  # an id used again
    supervise()
    job = wait_until(lambda: queue.get(number) if queue.get(number).is_over else None)
    assert (job.state, job.attempts) == ("done", 2)


def test_stopping_the_backend_lets_the_job_wait(space, supervise, wait_until, train_by) -> None:
    train_by(space, SLOW)
    queue = JobQueue(space)
    number = queue.add("training", asked_by="me").id
    supervisor = supervise()
    hanging = wait_until(lambda: is_hanging(queue, number))
    supervisor.stop()
    assert not start_time(hanging.child)
    job = queue.get(number)
    assert (job.state, job.attempts, job.reason) == ("queued", 0, "the backend was stopped")


@pytest.mark.parametrize(
    ("line", "share"),
    [
        ("embedding cells: 25/100 (3.1/s, 24 s left)", 0.25),
        ("epoch 3/12: 40/100 (2.1/s)", (2 + 0.4) / 12),
        ("epoch 12/12: train_loss 0.2", 1.0),
        ("pushing 7 samples to Label Studio: 0/3 (0.0/s)", 0.0),
        ("wrote /tmp/12/13/model.onnx on 2026/11/27", None),
        ("7/3", None),
        ("3/0", None),
        ("done", None),
    ],
)
def test_progress_is_read_from_what_commands_print(line, share) -> None:
    assert read_fraction(line) == (None if share is None else pytest.approx(share))


def test_commands_are_only_those_of_the_ring(project, train_by) -> None:
    train_by(project.cells, QUICK, "rm -rf x")
    with pytest.raises(ConfigError, match="'rm -rf x' must begin with visionloop or dvc"):
        load_params(project.cells)


def test_the_notice_keeps_what_people_wrote(project) -> None:
    queue = JobQueue(project.cells)
    first = queue.add("training", asked_by="me")
    assert sentence_of([first]) == "Training: waiting."
    queue.take_next()
    queue.update(first.id, step=3, steps=9, command="visionloop train train", fraction=0.4)
    said = sentence_of(queue.list())
    assert said == "Training: 3 of 9, visionloop train train, 40%."
    text = with_notice("Boards of plant 2.\n\nAsk Ada.", said)
    assert text == f"Boards of plant 2.\n\nAsk Ada.\n{said}"
    queue.end(first.id, "failed", "no\nspace left " + "x" * 500)
    after = sentence_of(queue.list())
    assert after.startswith("Training: failed 20") and len(after) < 300 and "\n" not in after
    assert with_notice(text, after) == f"Boards of plant 2.\n\nAsk Ada.\n{after}"
    assert with_notice("", after) == after
