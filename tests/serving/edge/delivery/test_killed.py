"""Killed at each commit and rename on the way of an event: nothing lost, doubles have one id."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
from pathlib import Path
from visionloop.serving.edge.delivery.guarded_outbox import GuardedOutbox
from visionloop.serving.edge.delivery.sinks.file import FileSink
from visionloop.serving.edge.delivery.sinks.params import SinkParams
from visionloop.serving.edge.delivery.sinks.table import SinkContext

folder = Path(sys.argv[1])
params = SinkParams(name="log", kind="file", address="log.jsonl", max_mb=0.001, kept_files=9)
sink = FileSink(params, SinkContext("plant", "d1", folder))
outbox = GuardedOutbox(folder, sinks={"log": 9}, reserve_bytes=0)
ledger = os.open(folder / "ledger", os.O_CREAT | os.O_APPEND | os.O_WRONLY)

def put(count):
    for number in range(count):
        at = "2026-11-01T10:00:00Z"
        one = outbox.put(kind="k", priority=1, created_at=at, payload={"n": number})
        if outbox.state == "durable":  # else it is durable only when it was moved
            os.write(ledger, (one + "\\n").encode())

put(5)
outbox._disk.execute("PRAGMA query_only=ON")
put(3)
assert outbox.state == "memory"
outbox._disk.execute("PRAGMA query_only=OFF")
outbox.tick()
assert outbox.state == "durable"
put(5)
while events := outbox.pending(4, sink="log"):
    outbox.acknowledge(sink.send(events).stored, sink="log")
outbox.close()
"""
POINTS = [
    "outbox.before_commit:kill:3",
    "outbox.after_commit:kill:3",
    "outbox.before_move:kill:1",
    "outbox.after_move:kill:1",
    "file_sink.before_sync:kill:2",
    "file_sink.turned:kill:1",
    "file_sink.turned:kill:3",
]


def run(folder, failpoint: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "VISIONLOOP_FAILPOINT": failpoint}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("point", POINTS)
def test_what_was_durable_is_sent_whatever_was_killed(tmp_path, point):
    killed = run(tmp_path, point)
    assert killed.returncode == -9, killed.stderr
    durable = (tmp_path / "ledger").read_text().split()
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    files = list(tmp_path.glob("log.jsonl*"))
    files.sort(key=lambda path: -int(path.suffix[1:]) if path.suffix[1:].isdigit() else 1)
    rows = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    order = list(dict.fromkeys(row["event_id"] for row in rows))
    assert set(durable) <= set(order)
    assert [one for one in order if one in durable] == durable
    alike = {row["event_id"]: row for row in rows}
    assert all(alike[row["event_id"]] == row for row in rows)


def test_a_damaged_database_is_set_aside_whatever_was_killed(tmp_path):
    (tmp_path / "outbox.db").write_bytes(b"no database" * 1000)
    assert run(tmp_path, "store.set_aside:kill:1").returncode == -9
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    kept = [path for path in tmp_path.iterdir() if "damaged" in path.name]
    assert any(path.read_bytes() == b"no database" * 1000 for path in kept)
    assert len((tmp_path / "ledger").read_text().split()) == 10
