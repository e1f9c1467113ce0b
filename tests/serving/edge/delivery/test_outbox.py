"""The outbox: who waits for what, bounds by priority, and disks that fail."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from visionloop.core.errors import DataError
from visionloop.serving.edge.delivery.guarded_outbox import GuardedOutbox
from visionloop.serving.edge.delivery.outbox import (
    OVERHEAD_BYTES,
    Outbox,
    OutboxLimits,
    read_events,
)
from visionloop.serving.edge.record.store import DATABASE_NAME, GENERATION_BITS, open_store

AT = "2026-11-01T10:00:00Z"


@pytest.fixture
def connection(tmp_path):
    with contextlib.closing(open_store(tmp_path / DATABASE_NAME)) as opened:
        yield opened


def add(outbox, connection, priority, text="x", kind="k"):
    with connection:
        return outbox.append(kind=kind, priority=priority, created_at=AT, payload={"t": text})


def put(outbox, priority=1, **payload):
    return outbox.put(kind="k", priority=priority, created_at=AT, payload=payload)


def test_each_sink_gets_what_it_wants_and_none_waits_for_another(connection, tmp_path):
    outbox = Outbox(connection, sinks={"hub": 9, "plc": 1})
    alert, notice = add(outbox, connection, 1), add(outbox, connection, 5)
    assert [e.event_id for e in outbox.pending(sink="hub")] == [alert, notice]
    assert [e.event_id for e in outbox.pending(sink="plc")] == [alert]
    assert outbox.acknowledge([alert, notice], sink="hub") == 2
    assert outbox.acknowledge([alert], sink="hub") == 0
    assert outbox.depth().waiting == {"hub": 0, "plc": 1}
    done = [event.acknowledged for event in read_events(tmp_path / DATABASE_NAME)]
    assert done == [False, True]
    assert outbox.refuse({alert: "the valve is closed"}, sink="plc") == 1
    assert outbox.depth().refused == 1
    assert [event.acknowledged for event in read_events(tmp_path / DATABASE_NAME)] == [True, True]


def test_a_sink_that_is_no_longer_wanted_holds_nothing_back(connection):
    add(Outbox(connection, sinks={"hub": 9, "old": 9}), connection, 1)
    outbox = Outbox(connection, sinks={"hub": 9})
    assert outbox.forget_other_sinks() == 1
    assert outbox.depth().waiting == {"hub": 1}


def test_batches_are_bounded_by_bytes_but_one_event_always_goes(connection):
    outbox = Outbox(connection)
    for _ in range(3):
        add(outbox, connection, 1, "x" * 10_000)
    assert len(outbox.pending(max_bytes=25_000)) == 2
    assert len(outbox.pending(max_bytes=10)) == 1


def full_outbox(connection, events=20):
    """Room for this many events of 1,000 bytes, a fifth of it for alerts alone."""
    size = len('{"t":""}') + 1000 + OVERHEAD_BYTES
    return Outbox(connection, limits=OutboxLimits(max_bytes=size * events, reserve_share=0.2))


def test_a_full_outbox_drops_the_least_urgent_and_of_these_the_oldest(connection):
    outbox, text = full_outbox(connection), "x" * 1000
    old = [add(outbox, connection, 5, text) for _ in range(8)]
    pictures = [add(outbox, connection, 8, text) for _ in range(8)]
    new = add(outbox, connection, 5, text)
    left = [event.event_id for event in outbox.pending()]
    assert left == [*old, new, *pictures[1:]]
    for _ in range(12):
        new = add(outbox, connection, 5, text)
    left = [event.event_id for event in outbox.pending()]
    assert len(left) == 16
    assert left[-1] == new
    assert not set(left) & {*pictures, *old[:5]}
    assert outbox.depth().dropped == {5: 5, 8: 8}
    assert add(outbox, connection, 8, text) not in [e.event_id for e in outbox.pending()]


def test_only_alerts_use_the_reserve_and_nothing_else_drives_them_out(connection):
    outbox, text = full_outbox(connection), "x" * 1000
    for _ in range(30):
        add(outbox, connection, 5, text)
    assert len(outbox.pending()) == 16
    alerts = [add(outbox, connection, 1, text) for _ in range(20)]
    assert [event.event_id for event in outbox.pending()] == alerts
    add(outbox, connection, 5, text)
    urgent = add(outbox, connection, 0, text)
    assert [event.event_id for event in outbox.pending()] == [urgent, *alerts[1:]]


def test_what_everybody_has_leaves_before_anything_that_waits(connection):
    outbox, text = full_outbox(connection), "x" * 1000
    ids = [add(outbox, connection, 8, text) for _ in range(16)]
    outbox.acknowledge(ids[8:])
    for _ in range(8):
        add(outbox, connection, 8, text)
    assert [event.event_id for event in outbox.pending()][:8] == ids[:8]
    assert outbox.depth().dropped == {}


def test_a_day_without_the_cloud_is_bounded_and_drains_alerts_first(tmp_path):
    """E2: 100,000 events into an outbox that holds fewer."""
    limits = OutboxLimits(max_bytes=20_000_000)
    outbox = GuardedOutbox(tmp_path, sinks={"hub": 9}, limits=limits)
    for start in range(0, 100_000, 1000):

        def many(_, box, start=start):
            for number in range(start, start + 1000):
                priority = 0 if number % 500 == 0 else 5
                box.append(kind="k", priority=priority, created_at=AT, payload={"n": number})

        outbox.commit(many)
    depth = outbox.depth()
    assert depth.bytes <= limits.max_bytes
    assert depth.waiting["hub"] + depth.dropped[5] == 100_000
    files = sum(file.stat().st_size for file in tmp_path.glob(f"{DATABASE_NAME}*"))
    assert files < 1.5 * limits.max_bytes + 5_000_000
    drained = []
    while events := outbox.pending(500, sink="hub"):
        drained += [(event.priority, event.payload["n"]) for event in events]
        outbox.acknowledge([event.event_id for event in events], sink="hub")
    assert [number for priority, number in drained if priority == 0] == [*range(0, 100_000, 500)]
    assert drained == sorted(drained)
    outbox.close()


def test_a_database_of_an_older_version_is_brought_up_to_date(tmp_path):
    path = tmp_path / DATABASE_NAME
    with contextlib.closing(sqlite3.connect(path)) as old, old:
        old.execute(
            "CREATE TABLE events (seq INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL "
            "UNIQUE, boot_id TEXT, kind TEXT, priority INTEGER, created_at TEXT, created_monotonic "
            "REAL, payload TEXT, sha256 TEXT, acknowledged INTEGER NOT NULL DEFAULT 0)"
        )
        old.execute("INSERT INTO events VALUES (7, 'i', 'b', 'k', 1, 'c', 1.0, '{}', 's', 0)")
    with contextlib.closing(open_store(path)) as connection:
        outbox = Outbox(connection)
        add(outbox, connection, 5)
        assert [event.seq for event in outbox.pending()] == [7, 8]


def damage(path, kind):
    if kind == "header":
        path.write_bytes(b"this is no database" * 500)
    elif kind == "empty pages":
        content = bytearray(path.read_bytes())
        content[4096 : 4096 * 8] = b"\xa5" * (4096 * 7)
        path.write_bytes(content)
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("kind", ["header", "empty pages", "cut"])
def test_a_damaged_file_is_set_aside_and_said_and_the_device_goes_on(tmp_path, kind):
    """E7."""
    outbox = GuardedOutbox(tmp_path, sinks={"hub": 9})
    for number in range(200):
        put(outbox, text="x" * 500, n=number)
    last = outbox.pending(500, sink="hub")[-1].seq
    outbox.close()
    damage(tmp_path / DATABASE_NAME, kind)
    outbox = GuardedOutbox(tmp_path, sinks={"hub": 9})
    ((notice, text),) = outbox.take_notices()
    assert notice == "outbox_set_aside"
    (kept,) = tmp_path.glob(f"{DATABASE_NAME}.damaged-*Z")
    assert kept.name in text
    new = put(outbox)
    (event,) = outbox.pending(10, sink="hub")
    assert event.event_id == new
    assert event.seq > last
    assert event.seq >> GENERATION_BITS == 1
    outbox.close()


def test_damage_at_run_time_is_survived(tmp_path):
    """E7: pages are overwritten under a running agent."""
    outbox = GuardedOutbox(tmp_path, sinks={"hub": 9})
    for number in range(300):
        put(outbox, text="x" * 500, n=number)
    outbox._disk.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    outbox._disk.execute("PRAGMA cache_size=0")
    damage(tmp_path / DATABASE_NAME, "empty pages")
    ids = [put(outbox, n=number) for number in range(300)]
    assert ("outbox_set_aside" in [kind for kind, _ in outbox.take_notices()]) is True
    left = {event.event_id for event in outbox.pending(1000, sink="hub")}
    assert ids[-1] in left
    assert outbox.state != "memory"
    outbox.close()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("not allowed here to make a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_costs_the_reserve_then_memory_and_heals(small_disk):
    """E5: no alert is lost, and all reach the disk when there is space again."""
    outbox = GuardedOutbox(small_disk, sinks={"hub": 9}, reserve_bytes=500_000)
    assert outbox.state == "durable"
    ids = [put(outbox, n=0)]
    filler = small_disk / "recording.mp4"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * 4096):
            pass
    states = []
    for number in range(2000):
        ids.append(put(outbox, n=number, text="x" * 300))
        if outbox.state not in states:
            states.append(outbox.state)
    assert states[-2:] == ["reserve", "memory"]
    notices = [kind for kind, _ in outbox.take_notices()]
    assert notices == ["outbox_reserve_used", "outbox_in_memory"]
    waiting = outbox.pending(5000, sink="hub")
    assert [event.event_id for event in waiting] == ids
    outbox.acknowledge(ids[:100], sink="hub")
    outbox.tick()
    assert outbox.state == "memory"
    filler.unlink()
    outbox.tick()
    assert outbox.state == "durable"
    assert ("outbox_durable" in [kind for kind, _ in outbox.take_notices()]) is True
    outbox.close()
    again = GuardedOutbox(small_disk, sinks={"hub": 9}, reserve_bytes=500_000)
    kept = again.pending(5000, sink="hub")
    assert {event.event_id for event in kept} >= set(ids[100:])
    assert [event.seq for event in kept] == sorted(event.seq for event in kept)
    again.close()


def test_a_disk_that_becomes_read_only_is_survived_in_memory(tmp_path):
    """E6: SQLite's own switch gives the error of a remounted disk (which the kernel refuses to
    remount while files are open)."""
    outbox = GuardedOutbox(tmp_path, sinks={"hub": 9}, reserve_bytes=0)
    ids = [put(outbox, n=0)]
    outbox._disk.execute("PRAGMA query_only=ON")
    ids += [put(outbox, n=number) for number in range(1, 20)]
    assert outbox.state == "memory"
    assert [kind for kind, _ in outbox.take_notices()] == ["outbox_in_memory"]
    assert [event.event_id for event in outbox.pending(50, sink="hub")] == ids
    assert outbox.acknowledge(ids[:5], sink="hub") == 4
    outbox.tick()
    assert outbox.state == "memory"
    outbox._disk.execute("PRAGMA query_only=OFF")
    outbox.tick()
    assert outbox.state == "durable"
    left = outbox.pending(50, sink="hub")
    assert [event.event_id for event in left] == [ids[0], *ids[5:]]
    assert [event.seq for event in left] == [1, *range(6, 21)]
    outbox.close()


def test_an_agent_that_starts_on_a_read_only_disk_works_in_memory(small_disk):
    """E6."""
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    outbox = GuardedOutbox(small_disk, sinks={"hub": 9})
    assert outbox.state == "memory"
    assert [kind for kind, _ in outbox.take_notices()] == ["outbox_in_memory"]
    first = put(outbox)
    assert [event.event_id for event in outbox.pending(5, sink="hub")] == [first]
    outbox.tick()
    assert outbox.take_notices() == []
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    outbox.tick()
    assert outbox.state != "memory"
    assert [event.event_id for event in outbox.pending(5, sink="hub")] == [first]
    outbox.close()


PROGRAM = """
import sys, time, json
from pathlib import Path
from visionloop.serving.edge.delivery.event_ids import ClockWatch
from visionloop.serving.edge.delivery.guarded_outbox import GuardedOutbox
watch = ClockWatch()
outbox = GuardedOutbox(Path(sys.argv[1]), sinks={"hub": 9}, reserve_bytes=0)
outbox.put(kind="k", priority=1, created_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
           payload={"start": sys.argv[2]})
(last,) = [e for e in outbox.pending(100, sink="hub")][-1:]
print(json.dumps([last.seq, last.clock_ok, last.created_at, outbox.depth().oldest_s]))
"""


def test_clock_jumps_change_neither_order_nor_timers(tmp_path):
    """E8: today, an hour back, 1970, an hour ahead: seq goes on, 1970 is marked."""
    seen = []
    for clock in ("+0", "-1h", "1970-01-02 00:00:00", "+1h"):
        command = [sys.executable, "-c", PROGRAM, str(tmp_path), clock]
        if clock != "+0":
            command = ["faketime", "-f", clock if clock[0] in "+-" else f"@{clock}", *command]
        try:
            done = subprocess.run(
                command,
                env={**os.environ, "FAKETIME_DONT_FAKE_MONOTONIC": "1"},
                capture_output=True,
                text=True,
                check=True,
            )
        except FileNotFoundError:
            pytest.skip("faketime is not installed (see tests/debian.txt)")
        seen.append(json.loads(done.stdout))
    assert [row[0] for row in seen] == [1, 2, 3, 4]
    assert seen[2][1] is False
    assert seen[2][2].startswith("1970")
    assert all(0 <= row[3] < 60 for row in seen)


def test_a_jump_of_the_wall_clock_is_seen(monkeypatch):
    """E8."""
    from visionloop.serving.edge.delivery.event_ids import ClockWatch

    watch = ClockWatch()
    assert watch.look() == 0.0
    real = time.time
    monkeypatch.setattr("time.time", lambda: real() + 3600)
    assert watch.look() == pytest.approx(3600, abs=1)
    assert watch.look() == 0.0


def test_what_was_put_survives_a_kill_at_any_moment(tmp_path):
    """E1, the outbox alone: ids that were written down after ``put`` are all there."""
    program = (
        "import os, sys\nfrom pathlib import Path\n"
        "from visionloop.serving.edge.delivery.guarded_outbox import GuardedOutbox\n"
        "outbox = GuardedOutbox(Path(sys.argv[1]), sinks={'hub': 9})\n"
        "while True:\n"
        f"    at = '{AT}'\n"
        "    print(outbox.put(kind='k', priority=1, created_at=at, payload={}), flush=True)\n"
    )
    acknowledged = []
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        acknowledged.append(process.stdout.readline().strip())
        time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().splitlines()
        acknowledged += [line for line in rest if len(line) == 36]
        process.wait()
    kept = [event.event_id for event in read_events(tmp_path / DATABASE_NAME)]
    assert set(acknowledged) <= set(kept)
    assert len(kept) == len(set(kept)) <= len(acknowledged) + 5


def test_a_store_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises((DataError, OSError)):
        open_store(tmp_path / "file" / "outbox.db")
