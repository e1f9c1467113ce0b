"""The agent with its sinks, health, ladder, minutes and page, from end to end."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
import time
from contextlib import closing

import cv2
import numpy as np
import pytest
import uvicorn
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import select
from sqlalchemy.orm import Session

from visionloop.core.errors import InputError
from visionloop.serving.edge.agent import run_agent
from visionloop.serving.edge.cameras.health_watch import HealthWatch
from visionloop.serving.edge.cameras.messages import CameraStatus
from visionloop.serving.edge.device import Device
from visionloop.serving.edge.device_figures import DeviceFigures, processed_age
from visionloop.serving.edge.health.params import HealthParams
from visionloop.serving.edge.pressure import Pressure
from visionloop.serving.edge_params import EdgeParams
from visionloop.serving.hub.database import add_device, open_database
from visionloop.serving.hub.ingest import create_app
from visionloop.serving.hub.models import Picture, StoredEvent
from visionloop.serving.releases.index import locked

PASSWORD = "camera-password-4711"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def hub(tmp_path):
    """The receiving end in a thread."""
    engine = open_database(f"sqlite:///{tmp_path / 'hub.db'}")
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(create_app(engine), port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    server.engine, server.url = engine, f"http://127.0.0.1:{port}"
    server.token = add_device(engine, "edge-1")
    yield server
    server.should_exit = True
    thread.join(10)
    engine.dispose()


def ask(port, path, token):
    """GET a path of the page; the answer's status and body, None while it does not listen."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except OSError:
            return None, b""


def test_events_reach_the_hub_with_their_pictures_and_the_page_shows_the_camera(
    device, worker_frames, film, hub, monkeypatch, capsys
):
    root, port = device.workspace.root, free_port()
    film.write(root / "bare.mp4", [film.take_helmet_off(image) for image in worker_frames])
    monkeypatch.setenv("HUB_TOKEN", hub.token)
    monkeypatch.setenv("PAGE_TOKEN", "page-token-0815")
    rule = {"name": "vest", "kind": "forbidden_class", "class_name": "vest", "cooldown_s": 2.0}
    camera = {"name": "bare", "kind": "file", "path": "bare.mp4", "loop": True, "rules": [rule]}
    device.write_config(
        [camera],
        device="edge-1",
        sinks=[{"name": "hub", "kind": "receiver", "address": hub.url, "token_env": "HUB_TOKEN"}],
        status={"port": port, "token_env": "PAGE_TOKEN"},
        evidence={"clip_before_s": 1.0, "clip_after_s": 0.2},
    )
    seen = {}

    def stop_agent():
        if callable(signal.getsignal(signal.SIGTERM)):  # the agent is still running
            os.kill(os.getpid(), signal.SIGTERM)

    def look():
        deadline = time.monotonic() + 80
        while time.monotonic() < deadline:
            status, body = ask(port, "/metrics", "page-token-0815")
            if status == 200 and b'visionloop_camera_up{camera="bare"} 1.0' in body:
                seen["metrics"] = body.decode()
                seen["page"] = ask(port, "/", "page-token-0815")[1].decode()
                seen["picture"] = ask(port, "/pictures/bare", "page-token-0815")[1]
                if seen["picture"].startswith(b"\xff\xd8"):
                    with Session(hub.engine) as session:
                        if session.scalars(select(Picture)).first() is not None:
                            stop_agent()
                            return
            time.sleep(0.5)

    watcher = threading.Thread(target=look)
    watcher.start()
    report = run_agent(workspace=device.workspace, config=device.config, max_seconds=40)
    watcher.join()
    assert report.events >= 1
    with Session(hub.engine) as session:
        events = session.scalars(select(StoredEvent).order_by(StoredEvent.seq)).all()
        pictures = session.scalars(select(Picture)).all()
        zones = [event for event in events if event.kind == "forbidden_class"]
        assert zones
        assert {picture.event_id for picture in pictures} & {event.event_id for event in zones}
        content = np.frombuffer(pictures[0].content, np.uint8)
    assert cv2.imdecode(content, cv2.IMREAD_COLOR).shape[1] <= 400
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(seen["metrics"])
        for sample in family.samples
    }
    assert samples["visionloop_camera_up", "bare"] == 1
    assert samples["visionloop_camera_frame_age_seconds", "bare"] < 10
    assert samples["visionloop_queue_bound", "frames"] == 1
    assert samples["visionloop_degradation_level",] >= 0
    assert "bare" in seen["page"]
    assert seen["picture"].startswith(b"\xff\xd8")
    assert cv2.imdecode(np.frombuffer(seen["picture"], np.uint8), cv2.IMREAD_COLOR) is not None
    told = capsys.readouterr()
    shown = told.out + told.err + seen["metrics"] + seen["page"]
    assert hub.token not in shown
    assert "page-token-0815" not in shown


def test_two_agents_on_one_folder_are_refused(device):
    device.write_config([{"name": "c", "kind": "folder", "path": "none"}])
    with (
        locked(device.workspace.edge / "agent.lock", wait=False),
        pytest.raises(InputError, match="another process"),
    ):
        run_agent(workspace=device.workspace, config=device.config, max_seconds=1)


class Dial:
    """A pressure that a test sets."""

    cause = "disk"
    share = 0.0

    def read(self):
        return Pressure(self.share, f"disk at {self.share:.0%}")


@pytest.fixture
def make_device(tmp_path):
    made = []

    def make(**params):
        values = {"status": {"enabled": False}, "ladder": {"worse_s": 0.01}, **params}
        dial = Dial()
        one = Device(tmp_path / "edge", tmp_path, EdgeParams(**values), readers=[dial])
        one.dial = dial
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()


def events_of(device):
    rows = device.outbox.read(
        lambda c: c.execute("SELECT kind, priority, payload FROM events ORDER BY seq").fetchall()
    )
    return [(kind, priority, json.loads(payload)) for kind, priority, payload in rows]


def status(**values):
    now = time.monotonic()
    return CameraStatus(**{"state": "active", "beat": now, "last_frame": now, **values})


def test_health_begins_and_ends_as_events_and_a_new_process_changes_nothing(make_device):
    device = make_device(health={"clear_s": 0.0})
    device.tick(DeviceFigures({"c": status(health={})}))
    device.tick(DeviceFigures({"c": status(health={"fogged": "contrast 0.2"})}))
    device.tick(DeviceFigures({"c": CameraStatus(beat=time.monotonic())}))
    state = device.read_state()
    assert state.cameras["c"].conditions == ["fogged"]
    device.tick(DeviceFigures({"c": status(health={"infrared": "no colour"})}))
    told = [row for row in events_of(device) if row[0] == "camera_health"]
    assert [(p, e["condition"], e["state"]) for _, p, e in told] == [
        (1, "fogged", "raised"),
        (3, "fogged", "cleared"),
        (3, "infrared", "raised"),
    ]
    assert told[0][2]["reason"] == "contrast 0.2"
    assert (told[0][2]["camera"], told[0][2]["device"]) == ("c", device.name)


def test_c4_a_flapping_camera_is_one_alarm_that_ends_when_it_stays(make_device, monkeypatch):
    clock = [10_000.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    device = make_device(health={"lost_s": 5.0, "clear_s": 2.0})
    falls = 0
    for second in range(200):
        clock[0] += 1.0
        is_away = second < 60 and second % 12 >= 6  # away for 6 s, there for 6 s, five times
        falls += second < 60 and second % 12 == 6
        last = clock[0] - (second % 12 - 5 if is_away else 0)
        row = status(last_frame=last, last_quiet=last, falls=falls, health={})
        device.tick(DeviceFigures({"c": row}))
    told = [(e["condition"], e["state"]) for k, _, e in events_of(device) if k == "camera_health"]
    assert told.count(("flapping", "raised")) == told.count(("flapping", "cleared")) == 1
    begin, end = told.index(("flapping", "raised")), told.index(("flapping", "cleared"))
    assert [row for row in told[begin + 1 : end] if row[1] == "raised"] == []
    raised = [e for k, _, e in events_of(device) if k == "camera_health"][begin]
    assert "5 times in 60 s" in raised["reason"]
    assert device.read_state().cameras["c"].health["flapping"] is False


def test_only_processed_frames_make_good_minutes(make_device, monkeypatch):
    """A frame that was decoded is not yet one that was looked at."""
    monkeypatch.setattr("visionloop.serving.edge.camera_minutes.MINUTE_S", 0.01)
    device = make_device()
    now = time.monotonic()
    cameras = {
        "quiet": status(last_quiet=now),
        "answered": status(),
        "waiting": status(last_quiet=now - 60),
        "failed": status(last_quiet=now),
        "dead": status(last_frame=now - 3, last_quiet=now - 3),
        "new": status(),
    }
    analysed = {"answered": now - 1, "waiting": now - 5, "failed": now - 3}
    for _ in range(2):
        device.tick(DeviceFigures(cameras, analysed=analysed, failed={"failed": now - 1}))
        time.sleep(0.02)
    seen = device.read_state().cameras
    assert {name: (one.minutes.good, one.minutes.bad) for name, one in seen.items()} == {
        "quiet": (1, {}),
        "answered": (1, {}),
        "waiting": (0, {"overload": 1}),
        "failed": (0, {"model": 1}),
        "dead": (0, {"stale": 1}),
        "new": (0, {"starting": 1}),
    }
    assert seen["quiet"].frame_age_s < 1 and seen["new"].frame_age_s is None
    assert 5 <= seen["waiting"].frame_age_s < 6


def test_an_idle_camera_with_a_key_frame_every_two_seconds_is_well():
    """Its status is a second old: it is judged as of then, while its process is alive."""
    now = time.monotonic()
    figures = DeviceFigures()
    idle = status(beat=now - 0.9, last_frame=now - 2.8, last_quiet=now - 2.8)
    assert processed_age("c", idle, figures, now) == pytest.approx(1.9)
    hung = status(beat=now - 4, last_frame=now - 5, last_quiet=now - 5)
    assert processed_age("c", hung, figures, now) == pytest.approx(5)
    assert processed_age("c", CameraStatus(beat=now), figures, now) is None


def test_m7_a_model_that_fails_makes_bad_minutes_raises_no_alert_and_is_counted(
    device, worker_frames, film, monkeypatch
):
    monkeypatch.setattr("visionloop.serving.edge.camera_minutes.MINUTE_S", 3.0)
    ticks = []
    tick = Device.tick
    monkeypatch.setattr(
        Device, "tick", lambda self, figures: (ticks.append(figures), tick(self, figures))
    )
    film.write(device.workspace.root / "worn.mp4", worker_frames)
    device.publish("second", gain=float("nan"))
    rule = {"name": "vest", "kind": "detection_present", "class_name": "vest"}
    camera = {"name": "c", "kind": "file", "path": "worn.mp4", "loop": True, "rules": [rule]}
    device.write_config([camera], gate={"enabled": False}, evidence={"clips": False})
    report = run_agent(workspace=device.workspace, config=device.config, max_seconds=14)
    assert (report.frames, report.events) == (0, 0)
    assert ticks[-1].counts["model_faults"] >= 5
    content = json.loads((device.workspace.edge / "minutes.json").read_text())
    minutes = content["cameras"]["c"]
    assert minutes["good"] == 0 and minutes["bad"]["model"] >= 1


def test_a_camera_without_frames_is_lost_and_found(make_device):
    device = make_device(health={"lost_s": 0.2, "clear_s": 0.1})
    device.tick(DeviceFigures({"c": status()}))
    time.sleep(0.4)
    old = status(last_frame=time.monotonic() - 0.3, state="lost", reason="does not answer")
    device.tick(DeviceFigures({"c": old}))
    assert device.read_state().cameras["c"].health["lost"] is True
    time.sleep(0.2)
    device.tick(DeviceFigures({"c": status()}))
    told = [e for kind, _, e in events_of(device) if kind == "camera_health"]
    assert [(e["condition"], e["state"]) for e in told] == [("lost", "raised"), ("lost", "cleared")]
    assert told[0]["reason"] == "does not answer"


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_e8_a_jump_of_the_clock_is_an_event(make_device, monkeypatch, jump):
    device = make_device()
    device.tick(DeviceFigures())
    real = time.time
    monkeypatch.setattr("time.time", lambda: real() + jump)
    for _ in range(3):
        device.tick(DeviceFigures())
    (told,) = [e for kind, _, e in events_of(device) if kind == "clock_jump"]
    assert abs(told["seconds"] - jump) < 5
    assert told["clock_ok"] in (True, False)


def test_the_ladder_is_an_event_a_metric_and_on_screen(make_device):
    device = make_device()
    device.dial.share = 1.3
    for _ in range(4):
        device.tick(DeviceFigures())
        time.sleep(0.02)
    state = device.read_state()
    assert (state.level, state.given_up) == (2, ["thumbnails", "clips"])
    assert state.level_reason == "disk at 130%"
    assert not device.ladder.allows("clips")
    changes = [e for kind, _, e in events_of(device) if kind == "degradation"]
    assert [e["level"] for e in changes] == [1, 2]
    assert changes[-1]["given_up"] == ["thumbnails", "clips"]


def test_a_damaged_outbox_is_told_as_an_event_of_the_new_one(make_device, tmp_path):
    """E7, as the agent does it."""
    (tmp_path / "edge").mkdir()
    (tmp_path / "edge" / "outbox.db").write_bytes(b"no database" * 1000)
    device = make_device()
    device.start(with_page=False)
    ((kind, priority, payload),) = events_of(device)
    assert (kind, priority) == ("outbox_set_aside", 1)
    assert "damaged" in payload["reason"]


def test_an_alert_comes_while_its_picture_cannot_be_written(
    device, worker_frames, film, monkeypatch
):
    """E5: evidence needs the disk, the event goes on."""
    root = device.workspace.root
    film.write(root / "bare.mp4", worker_frames)
    rule = {"name": "vest", "kind": "forbidden_class", "class_name": "vest", "cooldown_s": 60}
    camera = {"name": "bare", "kind": "file", "path": "bare.mp4", "rules": [rule]}
    device.write_config([camera], evidence={"clips": False}, status={"enabled": False})
    (device.workspace.edge).mkdir(parents=True, exist_ok=True)
    (device.workspace.edge / "events").write_text("a file where the folder should be")
    report = run_agent(workspace=device.workspace, config=device.config, max_seconds=30)
    assert report.events == 1


def test_health_is_judged_in_the_decoding_process_and_remembered(tmp_path):
    generator = np.random.default_rng(0)
    scene = generator.integers(0, 255, (45, 80, 3)).astype(np.uint8)
    scene = cv2.resize(scene, (640, 360), interpolation=cv2.INTER_NEAREST)
    watch = HealthWatch("c", HealthParams(), tmp_path)

    def frame():
        noise = generator.normal(0, 3, scene.shape)
        return (scene + noise).clip(0, 255).astype(np.uint8)

    for second in range(15):
        watch.look(frame(), float(second))
    assert watch.raised() == {}
    for second in range(15, 25):
        watch.look((frame() * 0.08).astype(np.uint8), float(second))
    assert list(watch.raised()) == ["dark"]
    for second in range(25, 1300, 5):
        watch.look(frame(), float(second))
    assert watch.raised() == {}
    assert (tmp_path / "c.npz").is_file()


def test_passwords_of_cameras_stand_nowhere(device, monkeypatch, capsys):
    """In no line that is said, no event, no metric, no page, and in no file but its own."""
    monkeypatch.setenv("CAMERA_PASSWORD", PASSWORD)
    port = free_port()
    monkeypatch.setenv("PAGE_TOKEN", "page-token-0815")
    by_name = {"user": "admin", "password_env": "CAMERA_PASSWORD"}
    cameras = [
        {"name": "a", "kind": "rtsp", "path": "rtsp://127.0.0.1:9/x", "credentials": by_name},
        {"name": "b", "kind": "http", "path": f"http://admin:{PASSWORD}@127.0.0.1:9/y"},
    ]
    device.write_config(
        cameras, status={"port": port, "token_env": "PAGE_TOKEN"}, health={"lost_s": 1.0}
    )
    shown = []

    def look():
        for _ in range(30):
            for path in ("/", "/metrics"):
                shown.append(ask(port, path, "page-token-0815")[1])
            time.sleep(0.4)

    watcher = threading.Thread(target=look)
    watcher.start()
    run_agent(workspace=device.workspace, config=device.config, max_seconds=10)
    watcher.join()
    told = capsys.readouterr()
    files = [f for f in device.workspace.edge.rglob("*") if f.is_file()]
    texts = [told.out.encode(), told.err.encode(), *shown, *(f.read_bytes() for f in files)]
    assert any(b'condition="lost"' in text for text in texts)
    assert not [text[:200] for text in texts if PASSWORD.encode() in text]
