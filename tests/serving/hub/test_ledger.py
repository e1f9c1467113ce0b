"""The ledger: what was durable on the device is in the hub once, whoever is killed and when.

A kill does not test fsync: what a power cut does is SQLite's and PostgreSQL's promise.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from visionloop.serving.edge.delivery.outbox import read_events
from visionloop.serving.hub.database import open_database
from visionloop.serving.hub.models import StoredEvent


class Device:
    """``ledger_agent.py``, killed and started again."""

    def __init__(self, folder, hub, wanted, batch, pause=0.002, is_enough=True):
        script = Path(__file__).parent / "ledger_agent.py"
        numbers = [str(wanted), str(batch), str(pause)]
        self.command = [sys.executable, str(script), str(folder), hub.url, *numbers]
        if is_enough:
            (folder / "enough").touch()
        self.token, self.process = hub.token, None

    def start(self, **environment):
        self.process = subprocess.Popen(
            self.command,
            env={**os.environ, "LEDGER_TOKEN": self.token, **environment},
            stderr=subprocess.DEVNULL,
        )

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def make_device():
    devices = []

    def make(*arguments):
        devices.append(Device(*arguments))
        return devices[-1]

    yield make
    for device in devices:
        if device.process is not None:
            device.kill()


def check_ledger(folder, database):
    """Nothing lost, nothing doubled, order kept."""
    ledger = (folder / "ledger").read_text().split()
    engine = open_database(database)
    with Session(engine) as session:
        query = select(StoredEvent.event_id, StoredEvent.seq, StoredEvent.priority, StoredEvent.id)
        rows = session.execute(query.order_by(StoredEvent.id)).all()
    engine.dispose()
    stored = Counter(row.event_id for row in rows)
    assert not set(ledger) - set(stored), "acknowledged events were lost"
    assert set(stored.values()) == {1}, "events were doubled"
    own = {event.event_id: event.seq for event in read_events(folder / "outbox.db")}
    assert all(own[row.event_id] == row.seq for row in rows)
    for priority in range(3):
        order = [row.seq for row in rows if row.priority == priority]
        assert order == sorted(order), "the order of a device was lost"
    return len(ledger), len(rows)


def run_ledger(tmp_path, make_hub, make_device, database, *, wanted, kills, batch, pause, seed):
    """Kill device and hub at random moments; returns how many kills there were."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    hub = make_hub(database)
    device = make_device(tmp_path, hub, wanted, batch, pause, False)
    device.start()
    done = 0
    while done < kills:
        time.sleep(chance.uniform(0.02, 0.6))
        if chance.random() < 0.5:
            time.sleep(chance.uniform(0, 3))  # past its imports
            device.kill()
            device.start()
        else:
            hub.send(signal.SIGKILL)
            hub.start(wait=chance.random() < 0.7)
        done += 1
    hub.wait()
    (tmp_path / "enough").touch()
    assert device.process.wait(900) == 0
    return done


@pytest.fixture
def sqlite_database(tmp_path):
    return f"sqlite:///{tmp_path / 'hub.db'}"


def test_ledger_over_a_few_kills(tmp_path, make_hub, make_device, sqlite_database):
    """E1, short: the slow suite has 200 kills and 100,000 events."""
    database = sqlite_database
    kills = run_ledger(
        tmp_path,
        make_hub,
        make_device,
        database,
        wanted=3000,
        kills=5,
        batch=5,
        pause=0.002,
        seed=time.time_ns(),
    )
    durable, stored = check_ledger(tmp_path, database)
    assert kills >= 1
    assert 3000 <= durable <= stored <= durable + 5 * kills


@pytest.mark.slow
def test_ledger_over_two_hundred_kills(tmp_path, make_hub, make_device, database):
    """E1: 0 of 100,000 acknowledged events lost or doubled."""
    kills = run_ledger(
        tmp_path,
        make_hub,
        make_device,
        database,
        wanted=110_000,
        kills=210,
        batch=10,
        pause=0.08,
        seed=time.time_ns(),
    )
    durable, _ = check_ledger(tmp_path, database)
    print(f"{durable} acknowledged events, {kills} kills: 0 lost, 0 doubled")
    assert durable >= 100_000
    assert kills >= 200


@pytest.mark.parametrize("point", ["hub.before_commit", "hub.after_commit"])
@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_hub_that_dies_around_its_commit_is_sent_the_batch_again(
    tmp_path, make_hub, make_device, database, point
):
    """S2, E9: the device did not hear, sends again, and the event is there once."""
    hub = make_hub(database, start=False)
    hub.start(VISIONLOOP_FAILPOINT=f"{point}:kill:2")
    device = make_device(tmp_path, hub, 300, 5)
    device.start()
    assert hub.process.wait(60) == -signal.SIGKILL
    hub.start()
    assert device.process.wait(60) == 0
    assert check_ledger(tmp_path, database)[0] == 300


def test_a_device_that_dies_before_it_notes_the_answer_sends_it_again(
    tmp_path, make_hub, make_device, sqlite_database
):
    """E1, E9."""
    hub = make_hub(sqlite_database)
    device = make_device(tmp_path, hub, 300, 5)
    device.start(VISIONLOOP_FAILPOINT="sender.before_acknowledge:kill:2")
    assert device.process.wait(60) == -signal.SIGKILL
    device.start()
    assert device.process.wait(60) == 0
    check_ledger(tmp_path, sqlite_database)


def test_a_hub_that_hangs_is_noticed_and_nothing_is_doubled(
    tmp_path, make_hub, make_device, sqlite_database
):
    """E11: the connection stays open and nothing comes back; noticed within the time limit."""
    hub = make_hub(sqlite_database)
    device = make_device(tmp_path, hub, 1000, 5, 0.02, False)
    device.start()
    time.sleep(2)
    hub.send(signal.SIGSTOP)
    time.sleep(7)  # longer than the sink's time limit of 5 s
    assert device.process.poll() is None
    hub.send(signal.SIGCONT)
    (tmp_path / "enough").touch()
    assert device.process.wait(90) == 0
    check_ledger(tmp_path, sqlite_database)
