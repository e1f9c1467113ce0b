"""While the agent runs: its configuration changes, signals, evidence within limits, schedules."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import datetime

import numpy as np
import pytest

from visionloop.core.entities import Frame, Prediction
from visionloop.serving.edge.daylight import Daylight
from visionloop.serving.edge.delivery.outbox import read_events
from visionloop.serving.edge.record.evidence import sweep
from visionloop.serving.edge.record.records import add_frame, drop_oldest_frames, next_sequence
from visionloop.serving.edge.record.store import open_store
from visionloop.serving.edge.schedule import is_scheduled
from visionloop.serving.edge.station import Station
from visionloop.serving.edge_params import (
    CameraParams,
    EvidenceParams,
    RuleParams,
    ScheduleParams,
    ThresholdParams,
)

VEST = {"name": "vest", "kind": "detection_present", "class_name": "vest", "cooldown_s": 0.3}


class Agent:
    """`visionloop serve edge` as a process."""

    def __init__(self, device) -> None:
        self.database = device.workspace.edge / "outbox.db"
        command = [sys.executable, "-m", "visionloop.serving", "edge"]
        command += ["-w", str(device.workspace.root), "--config", str(device.config)]
        self.log = device.workspace.root / "agent.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "--max-seconds", "120"],
                stderr=log,
                stdout=log,
                # What runs in the background inherits that Ctrl-C is ignored.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def cameras(self, since: float = 0.0) -> set[str]:
        return {
            event.payload["camera"]
            for event in read_events(self.database)
            if event.created_monotonic > since
        }

    def wait(self, what, limit_s: float = 45.0) -> None:
        end = time.monotonic() + limit_s
        while True:
            try:
                if what():
                    return
            except Exception:
                if time.monotonic() > end:
                    raise
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.1)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@pytest.fixture
def looped(device, worker_frames, film):
    film.write(device.workspace.root / "worn.mp4", worker_frames[::2])

    def camera(name: str, **fields) -> dict:
        return {"name": name, "kind": "file", "path": "worn.mp4", "loop": True, **fields}

    return camera


def test_the_configuration_changes_while_it_runs(device, looped):
    shared = {"rules": [VEST], "gate": {"enabled": False}, "evidence": {"clips": False}}
    device.write_config([looped("a")], **shared)
    agent = Agent(device)
    try:
        agent.wait(lambda: agent.cameras() == {"a"})
        device.write_config([looped("a"), looped("b")], **shared)
        agent.wait(lambda: agent.cameras() == {"a", "b"})
        device.config.write_text("cameras: [{name: c, kind: file, paht: x}]\n")
        os.kill(agent.process.pid, signal.SIGHUP)
        agent.wait(lambda: "did you mean 'path'" in agent.log.read_text())
        moment = time.monotonic()
        agent.wait(lambda: agent.cameras(moment) == {"a", "b"})
        broken = looped("b", rules=[VEST | {"name": "other", "class_name": "hat"}])
        device.write_config([looped("a"), broken], **shared)
        agent.wait(lambda: "the package has no class 'hat'" in agent.log.read_text())
        device.write_config([looped("b")], **shared)
        agent.wait(lambda: "1 cameras" in agent.log.read_text())
        moment = time.monotonic() + 1
        agent.wait(lambda: agent.cameras(moment) == {"b"})
        assert agent.process.poll() is None
    finally:
        code = agent.stop()
    assert code == 0
    assert "Traceback" not in agent.log.read_text()
    pictures = [event.payload["picture"] for event in read_events(agent.database)]
    assert all((device.workspace.edge / name).is_file() for name in pictures)


def test_ctrl_c_stops_the_watch_with_130_and_leaves_no_process(device, looped):
    device.write_config([looped("a")], rules=[VEST], evidence={"clips": False})
    agent = Agent(device)
    agent.wait(lambda: agent.cameras() == {"a"})
    listing = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True).stdout
    rows = [tuple(map(int, row.split())) for row in listing.splitlines()[1:]]
    family, size = {agent.process.pid}, 0
    while len(family) != size:
        size = len(family)
        family |= {pid for pid, parent in rows if parent in family}
    assert len(family) >= 3  # the agent, the server of forks, a decoding process
    agent.process.send_signal(signal.SIGINT)
    assert agent.process.wait(30) == 130
    end = time.monotonic() + 15
    while alive := {pid for pid in family if is_alive(pid)}:
        assert time.monotonic() < end, alive
        time.sleep(0.1)


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("point", ["agent.before_commit:kill:2", "agent.after_commit:kill:2"])
def test_e1_a_kill_between_frames_loses_no_acknowledged_event(device, looped, point):
    """What was in the outbox before a kill is there after it, once, with its picture."""
    device.write_config(
        [looped("a")], rules=[VEST], gate={"enabled": False}, evidence={"clips": False}
    )
    command = [sys.executable, "-m", "visionloop.serving", "edge", "--max-seconds", "30"]
    command += ["-w", str(device.workspace.root), "--config", str(device.config)]
    environment = {**os.environ, "VISIONLOOP_FAILPOINT": point}
    killed = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=90)
    assert killed.returncode == -9
    before = read_events(device.workspace.edge / "outbox.db")
    assert len(before) == (1 if "before" in point else 2)
    agent = Agent(device)
    try:
        agent.wait(lambda: len(read_events(agent.database)) > len(before) + 1)
    finally:
        agent.stop()
    after = read_events(agent.database)
    assert [event.event_id for event in after[: len(before)]] == [e.event_id for e in before]
    assert len({event.event_id for event in after}) == len(after)
    assert all((device.workspace.edge / e.payload["picture"]).is_file() for e in after)
    sequences = [event.payload["sequence"] for event in after]
    assert sequences == sorted(set(sequences))


def test_evidence_is_kept_within_bytes_and_days(tmp_path):
    now = 1_800_000_000.0
    for day in range(10):
        for folder in ("events", "clips"):
            (tmp_path / folder).mkdir(exist_ok=True)
            path = tmp_path / folder / f"{day}.bin"
            path.write_bytes(b"x" * 100_000)
            os.utime(path, (now - day * 86_400, now - day * 86_400))
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "kept.png").write_bytes(b"x" * 10_000_000)
    params = EvidenceParams(max_days=6.5, max_megabytes=100)
    assert sweep(tmp_path, params, now=now) == (6, 1_400_000)
    small = EvidenceParams(max_days=30, max_megabytes=0.55)
    assert sweep(tmp_path, small, now=now) == (9, 500_000)
    left = sorted(int(path.stem) for path in tmp_path.glob("*s/[0-9]*.bin"))
    assert max(left) <= 2  # the newest stay
    assert (tmp_path / "frames" / "kept.png").is_file()
    assert sweep(tmp_path / "nowhere", params) == (0, 0)


def test_records_of_frames_are_bounded_and_counting_goes_on(tmp_path):
    from visionloop.core.entities import Detections

    connection = open_store(tmp_path / "outbox.db")
    with connection:
        for number in range(30):
            frame = Frame(np.zeros((4, 4, 3), np.uint8), "c", "s", number, "t", 0.0)
            add_frame(
                connection,
                frame,
                Prediction(Detections.empty()),
                source="rare" if number < 3 else "busy",
                sample_id=f"{number}",
                package="p",
                statistics={},
                image=f"frames/{number}.jpg" if number % 2 else None,
            )
    with connection:
        gone = drop_oldest_frames(connection, 10)
    assert gone == sorted(f"frames/{number}.jpg" for number in range(1, 20, 2))
    assert connection.execute("SELECT COUNT(*) FROM frames").fetchone() == (11,)
    assert next_sequence(connection, "rare") == 3 and next_sequence(connection, "busy") == 30
    with connection:
        assert drop_oldest_frames(connection, 100) == []
    connection.close()


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-11-27 21:59", False),  # a Friday
        ("2026-11-27 22:00", True),
        ("2026-11-28 05:59", True),  # the night that began on Friday
        ("2026-11-28 06:00", False),
        ("2026-11-28 23:00", False),  # Saturday's night is not asked for
        ("2026-11-30 12:30", True),
        ("2026-11-30 13:00", False),
    ],
)
def test_schedules_end_on_the_next_day(moment, expected):
    stretches = [
        ScheduleParams(days=["mon", "fri"], begin="22:00", end="06:00"),
        ScheduleParams(days=["mon"], begin="12:00", end="13:00"),
    ]
    assert is_scheduled(stretches, datetime.fromisoformat(moment)) is expected
    assert is_scheduled([], datetime.fromisoformat(moment))
    assert is_scheduled([ScheduleParams()], datetime.fromisoformat(moment))


def light(grey: int, colour: int = 20) -> np.ndarray:
    return np.full((90, 160, 3), (grey - colour / 2, grey, grey + colour / 2), np.uint8)


def test_day_and_night_are_sensed_with_patience():
    sensed = Daylight()
    assert sensed.look(light(120)) == "day"
    assert [sensed.look(light(20)) for _ in range(5)] == ["day"] * 4 + ["night"]
    assert sensed.look(light(200)) == "night"  # headlights
    assert sensed.look(light(30)) == "night"
    assert [sensed.look(light(120, 0)) for _ in range(9)] == ["night"] * 9  # infrared is night
    assert [sensed.look(light(120)) for _ in range(5)][-1] == "day"
    assert Daylight().look(light(20)) == "night"


def test_thresholds_of_a_camera_by_day_and_night(kit):
    from visionloop.core.entities import Detections

    camera = CameraParams(
        name="c",
        kind="file",
        path="x",
        thresholds=ThresholdParams(day={"open": 0.5}, night={"open": 0.8}),
    )
    rule = RuleParams(name="r", kind="detection_present", minimum_confidence=0.1)
    boxes = Detections(
        np.array([[0, 0, 9, 9], [20, 20, 29, 29]]), np.array([0, 1]), np.array([0.6, 0.3])
    )
    for image, expected in ((light(120), {"open", "short"}), (light(15), {"short"})):
        station = Station(camera, [rule], kit.detector_manifest(), None)
        seen = station.take(image, Prediction(boxes), seconds=0.0, moment=datetime(2026, 1, 1))
        ((_, observation),) = seen.events
        names = {["open", "short"][row] for row in observation.detections.class_id}
        assert names == expected


def test_the_example_configuration_is_in_order():
    from pathlib import Path

    from visionloop.core.config import load_yaml_model
    from visionloop.serving.edge.station import rules_of
    from visionloop.serving.edge_params import EdgeParams

    path = Path(__file__).parents[3] / "examples" / "edge.yaml"
    params = load_yaml_model(path, EdgeParams)
    assert len(params.cameras) == 3
    from visionloop.serving.manifest import ImageInput, Manifest, ModelOutputs

    manifest = Manifest(
        name="hardhat",
        vision_task="detection",
        classes=["helmet", "no helmet"],
        input=ImageInput(width=32, height=32),
        outputs=ModelOutputs(answer="a", kind="yolo"),
    )
    for camera in params.cameras:
        assert Station(camera, rules_of(camera, params.rules), manifest, path.parent).rules
