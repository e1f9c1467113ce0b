"""E5, E6: the agent itself on a disk that is full, or cannot be written at all."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time

import pytest

from visionloop.core.errors import InputError
from visionloop.serving.edge.agent import run_agent
from visionloop.serving.releases.index import locked

VEST = {"name": "vest", "kind": "detection_present", "class_name": "vest", "cooldown_s": 0.3}
VEST["priority"] = 1
SINK = {"name": "plc", "kind": "file", "address": "told.jsonl"}


@pytest.fixture
def small_disk(device):
    """A file system of 24 MB below the agent's folder; what the sink writes is beside it."""
    folder = device.workspace.edge
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("not allowed here to make a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def watched(device, worker_frames, film):
    film.write(device.workspace.root / "worn.mp4", worker_frames[::2])
    camera = {"name": "a", "kind": "file", "path": "worn.mp4", "loop": True, "rules": [VEST]}
    device.write_config(
        [camera],
        gate={"enabled": False},
        evidence={"clips": False},
        sinks=[SINK],
        ladder={
            "worse_s": 0.5,
            "free_disk_mb": 4.0,
            "free_disk_share": 0.2,
            "processor_share": 1.0,
            "heat_c": 200.0,
            "free_memory_share": 0.001,
        },
        max_age_s=30.0,
    )
    return device


def told(device) -> list[dict]:
    path = device.workspace.root / "told.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def alerts(device) -> list[dict]:
    return [row for row in told(device) if row["kind"] == "detection_present"]


def remount(folder, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", str(folder)], check=True)


def test_e6_an_agent_on_a_read_only_disk_goes_on_and_says_so(watched, small_disk, capsys):
    device = watched
    run_agent(workspace=device.workspace, config=device.config, max_seconds=5)
    before = len(alerts(device))
    assert before >= 1
    remount(small_disk, "ro")
    for number in range(2):  # no crash loop: each start works
        report = run_agent(workspace=device.workspace, config=device.config, max_seconds=5)
        assert (report.release, report.events >= 1) == (1, True)
        assert len(alerts(device)) > before, number
        before = len(alerts(device))
    assert "the disk cannot be written" in capsys.readouterr().err
    assert "outbox_in_memory" in {row["kind"] for row in told(device)}
    remount(small_disk, "rw")
    run_agent(workspace=device.workspace, config=device.config, max_seconds=5)
    assert len(alerts(device)) > before
    ids = [row["event_id"] for row in told(device)]
    assert len(ids) == len(set(ids))


def test_e6_the_first_start_is_on_a_read_only_disk(watched, small_disk, capsys):
    remount(small_disk, "ro")
    report = run_agent(workspace=watched.workspace, config=watched.config, max_seconds=5)
    assert report.release == 1 and alerts(watched)
    said = capsys.readouterr().err
    assert "release 1 serves without a copy of its own" in said
    assert "model.json cannot be written" in said


def test_e6_two_agents_are_refused_on_a_read_only_disk_too(small_disk):
    lock = small_disk / "agent.lock"
    for _ in ("the folder is locked", "the file is locked"):
        remount(small_disk, "ro")
        with locked(lock, wait=False), pytest.raises(InputError), locked(lock, wait=False):
            pass
        remount(small_disk, "rw")
        with locked(lock, wait=False):
            pass


def test_e5_a_disk_fills_under_a_running_agent_pictures_stop_and_alerts_go_on(watched, small_disk):
    device, moments = watched, {}

    def fill() -> None:
        end = time.monotonic() + 25
        while time.monotonic() < end and len(alerts(device)) < 3:
            time.sleep(0.1)
        with (small_disk / "recording").open("wb", buffering=0) as file:
            with contextlib.suppress(OSError):
                while file.write(b"\0" * 4096):
                    pass
            moments["full"] = time.monotonic()

    filler = threading.Thread(target=fill)
    filler.start()
    run_agent(workspace=device.workspace, config=device.config, max_seconds=18)
    filler.join()
    rows = told(device)
    levels = [row["payload"] for row in rows if row["kind"] == "degradation"]
    assert levels[0]["given_up"] == ["thumbnails"] and levels[0]["level"] == 1
    assert "disk" in levels[0]["reason"]
    late = [row for row in alerts(device) if row["created_monotonic"] > moments["full"] + 4]
    assert len(late) >= 3
    pictures = [row for row in rows if row["kind"] == "picture"]
    with_picture = {row["payload"]["event_id"] for row in pictures}
    assert with_picture and not with_picture & {row["event_id"] for row in late}
