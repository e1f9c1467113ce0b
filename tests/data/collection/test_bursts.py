"""What starts a burst, once: trigger files and events of the edge agent."""

from __future__ import annotations

import os
import time
from contextlib import closing
from datetime import datetime, timedelta, timezone

import pytest

from visionloop.core.cli import run_command
from visionloop.data.cli import app
from visionloop.data.collection.bursts import BurstWatch, request_burst
from visionloop.data.collection.cameras import Camera
from visionloop.data.collection.journal import Journal
from visionloop.serving.edge.delivery.outbox import Outbox
from visionloop.serving.edge.record.store import open_store


def make_camera(name: str, **burst) -> Camera:
    source = {"kind": "rtsp", "path": "rtsp://10.0.0.1/1"}
    return Camera.model_validate(
        {"id": name, "source": source, "schedule": {"every_s": 9.0}, "burst": burst}
    )


@pytest.fixture
def journal(workspace):
    with closing(Journal(workspace)) as opened:
        yield opened


def test_a_trigger_starts_one_burst_and_a_stale_or_foreign_one_none(workspace, journal, capsys):
    cameras = [make_camera("one"), make_camera("two")]
    watch = BurstWatch(workspace, journal, 60)
    assert watch.cameras_to_burst(cameras) == []
    request_burst(workspace, "two")
    request_burst(workspace, "three")
    old = request_burst(workspace, "one")
    os.utime(old, (time.time() - 100, time.time() - 100))
    assert watch.cameras_to_burst(cameras) == ["two"]
    assert watch.cameras_to_burst(cameras) == []
    said = capsys.readouterr().err
    assert "'three' names no camera" in said and "'one' is 100 s old" in said


def test_a_new_event_of_the_edge_starts_one_burst_also_after_a_restart(workspace, journal):
    cameras = [
        make_camera("one", on_events=True, rules=["defect"]),
        make_camera("two", on_events=True),
        make_camera("three"),
    ]
    watch = BurstWatch(workspace, journal, 60)
    assert watch.cameras_to_burst(cameras) == []
    with closing(open_store(workspace.edge / "outbox.db")) as connection:

        def emit(camera: str, rule: str, age_s: float = 0) -> None:
            moment = datetime.now(timezone.utc) - timedelta(seconds=age_s)
            with connection:
                Outbox(connection).append(
                    kind="class_confidence",
                    priority=1,
                    created_at=moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
                    payload={"camera": camera, "rule": rule},
                )

        emit("two", "any", age_s=1000)
        emit("one", "other")
        emit("three", "defect")
        assert watch.cameras_to_burst(cameras) == []
        emit("one", "defect")
        emit("one", "defect")
        emit("two", "any")
        assert watch.cameras_to_burst(cameras) == ["one", "two"]
        assert watch.cameras_to_burst(cameras) == []
        assert BurstWatch(workspace, journal, 60).cameras_to_burst(cameras) == []
        emit("two", "any")
        assert BurstWatch(workspace, journal, 60).cameras_to_burst(cameras) == ["two"]


def test_the_command_names_an_unknown_camera(workspace, capsys):
    (workspace.root / "cameras.yaml").write_text(
        "cameras: [{id: one, source: {kind: folder, path: x}, schedule: {every_s: 9}}]"
    )
    place = ["collect", "-w", str(workspace.root), "--burst"]
    assert run_command(lambda: app([*place, "onne"])) == 2
    assert "did you mean 'one'" in capsys.readouterr().err
    assert run_command(lambda: app([*place, "one"])) == 0
    assert "triggers/one" in capsys.readouterr().out
