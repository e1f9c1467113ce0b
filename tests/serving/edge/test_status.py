"""Metrics, camera-minutes, and the status page behind its token."""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from visionloop.core.errors import ConfigError
from visionloop.serving.edge.camera_minutes import CameraMinutes, Sign
from visionloop.serving.edge.delivery.outbox import OutboxDepth
from visionloop.serving.edge.delivery.sender import SinkState
from visionloop.serving.edge.device_state import CameraFigures, DeviceState, MinuteCounts
from visionloop.serving.edge.metrics import make_registry, render_metrics
from visionloop.serving.edge.status.app import create_status_app
from visionloop.serving.edge.status.params import StatusParams
from visionloop.serving.edge.status.server import StatusServer

TOKEN = "the-token-of-this-page"
JPEG = b"\xff\xd8 picture"

GATE = CameraFigures(
    "gate <b>3</b>",
    state="active",
    frame_age_s=0.4,
    health={"lost": False, "fogged": True},
    minutes=MinuteCounts(980, {"fogged": 15, "agent": 5}),
    replaced=41,
    damaged=6,
    frames=12,
    events=3,
    boxes=2,
)
STATE = DeviceState(
    site="plant",
    device="edge-1",
    model="people",
    release=7,
    package="ab" * 32,
    cameras={
        "gate <b>3</b>": GATE,
        "dock": CameraFigures("dock", state="lost", reason="does not answer"),
        "line": CameraFigures("line", state="idle", frame_age_s=1.0),
    },
    level=2,
    level_reason="80 MB free on the disk",
    given_up=["thumbnails", "clips"],
    pressures={"disk": 1.4},
    outbox=OutboxDepth({"hub": 17}, 12_345, {8: 4}, 1, 9.5),
    outbox_state="reserve",
    sinks={"hub": SinkState(False, 100, 1, 2, "ConnectTimeout", 3.0)},
    queues={"frames": (3, 16)},
    service_s={0.95: 0.034},
    counts={"frames": 12},
)


def scrape(state):
    text = render_metrics(make_registry(lambda: state)).decode()
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_say_what_the_state_says():
    seen = scrape(STATE)
    assert seen["visionloop_degradation_level",] == 2
    assert seen["visionloop_pressure", "disk"] == 1.4
    assert seen["visionloop_camera_up", "dock"] == 0
    assert seen["visionloop_camera_up", "line"] == 1
    assert seen["visionloop_camera_health", "fogged", "gate <b>3</b>"] == 1
    assert seen["visionloop_camera_minutes_total", "", "gate <b>3</b>", "good"] == 980
    assert seen["visionloop_camera_minutes_total", "agent", "bad", "gate <b>3</b>"] == 5
    assert seen["visionloop_camera_frames_replaced_total", "gate <b>3</b>"] == 41
    assert seen["visionloop_camera_frames_damaged_total", "gate <b>3</b>"] == 6
    assert seen["visionloop_outbox_waiting", "hub"] == 17
    assert seen["visionloop_outbox_dropped_total", "8"] == 4
    assert seen["visionloop_outbox_durable",] == 1
    assert seen["visionloop_sink_up", "hub"] == 0
    assert seen["visionloop_queue_length", "frames"] == 3
    assert seen["visionloop_queue_bound", "frames"] == 16
    assert seen["visionloop_service_seconds", "0.95"] == 0.034
    assert seen["visionloop_frames_total",] == 12
    assert ("visionloop_camera_frame_age_seconds", "dock") not in seen
    assert scrape(replace(STATE, outbox_state="memory"))["visionloop_outbox_durable",] == 0


@pytest.fixture
def page():
    pictures = {"line": JPEG}
    app = create_status_app(lambda: STATE, pictures.get, token=TOKEN, refresh_s=5)
    return TestClient(app, follow_redirects=False)


def test_without_the_token_nothing_is_shown(page):
    assert page.get("/alive").status_code == 200
    assert page.get("/").headers["Location"] == "/login"
    for path in ("/metrics", "/pictures/line"):
        answer = page.get(path)
        assert answer.status_code == 401
        assert b"dock" not in answer.content
    assert page.get("/metrics", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert page.post("/login", data={"token": "wrong"}).status_code == 401
    assert page.get("/", cookies={"visionloop_status": TOKEN}).status_code == 303
    assert page.get("/docs").status_code == 404


def test_a_browser_logs_in_once_and_a_scraper_brings_the_token(page):
    answer = page.post("/login", data={"token": TOKEN})
    assert answer.status_code == 303
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert page.get("/").status_code == 200
    page.cookies.clear()
    scraped = page.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert scraped.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert b"visionloop_degradation_level 2.0" in scraped.content


def test_the_page_shows_trouble_first_and_escapes_names(page):
    page.post("/login", data={"token": TOKEN})
    text = page.get("/").text
    assert text.index("<h3>dock") < text.index("<h3>gate") < text.index("<h3>line")
    assert "<b>3</b>" not in text
    assert "gate &lt;b&gt;3" in text
    for words in (
        "level 2 of 6",
        "80 MB free on the disk",
        "thumbnails, clips",
        "1 / 3",
        "98.00 % good minutes",
        "fogged 15",
        "ConnectTimeout",
        "into the reserve",
        "34 ms",
        "does not answer",
    ):
        assert words in text, words
    trouble = page.get("/?show=trouble").text
    assert "<h3>line" not in trouble
    assert "<h3>dock" in trouble
    assert TOKEN not in text
    assert page.get("/").headers["Cache-Control"] == "no-store"


def test_pictures_come_by_camera(page):
    page.post("/login", data={"token": TOKEN})
    answer = page.get("/pictures/line")
    assert (answer.content, answer.headers["Content-Type"]) == (JPEG, "image/jpeg")
    assert page.get("/pictures/none").status_code == 404
    assert page.get("/pictures/..%2F..%2Fetc").status_code == 404


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_server_makes_a_token_once_and_listens_on_loopback(tmp_path, capsys):
    params = StatusParams(port=free_port())
    server = StatusServer(params, tmp_path, lambda: STATE, lambda _: None)
    path = tmp_path / "status.token"
    assert path.stat().st_mode & 0o777 == 0o600
    token = path.read_text().strip()
    assert len(token) >= 32
    server.start()
    deadline = time.monotonic() + 20
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", params.port, timeout=5)
        try:
            connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {token}"})
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert b"visionloop_agent_info" in connection.getresponse().read()
    server.stop()
    told = capsys.readouterr().err
    assert token not in told
    assert "status.token" in told
    StatusServer(params, tmp_path, lambda: STATE, lambda _: None)
    assert path.read_text().strip() == token


def test_a_taken_port_costs_only_the_page_and_a_missing_variable_is_told(tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        params = StatusParams(port=taken.getsockname()[1])
        server = StatusServer(params, tmp_path, lambda: STATE, lambda _: None)
        server.start()
        server._thread.join(20)
    assert "cannot be listened on" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="NO_SUCH is not set"):
        StatusServer(StatusParams(token_env="NO_SUCH"), tmp_path, lambda: STATE, lambda _: None)


def minutes_of(minutes, camera, ages, start=0):
    for second, age in enumerate(ages):
        cause = age if isinstance(age, str) else ""
        sign = Sign(None if cause else age, cause)
        minutes.tick({camera: sign}, now=float(start + second))


def test_a_minute_is_good_if_its_frames_were_fresh():
    minutes = CameraMinutes(None)
    minutes_of(minutes, "c", [0.5] * 61)
    assert minutes.counts["c"] == MinuteCounts(1, {})
    minutes_of(minutes, "c", [0.5] * 50 + [2.5] * 10, start=61)
    assert minutes.counts["c"] == MinuteCounts(1, {"stale": 1})
    minutes_of(minutes, "c", ["covered"] * 30 + ["lost"] * 20 + [0.1] * 10, start=121)
    assert minutes.counts["c"] == MinuteCounts(1, {"stale": 1, "covered": 1})
    minutes_of(minutes, "c", [2.1, *[0.1] * 59], start=181)
    assert minutes.counts["c"].good == 2
    assert minutes.counts["c"].share == 0.5


def test_a_camera_that_never_came_is_bad_from_the_start():
    minutes = CameraMinutes(None)
    minutes_of(minutes, "c", [None] * 61)
    assert minutes.counts["c"] == MinuteCounts(0, {"starting": 1})


def test_minutes_survive_a_restart_and_the_outage_is_the_agents(tmp_path):
    path = tmp_path / "minutes.json"
    minutes = CameraMinutes(path)
    minutes_of(minutes, "c", [0.5] * 61)
    content = json.loads(path.read_text())
    content["monotonic"] -= 600
    path.write_text(json.dumps(content))
    again = CameraMinutes(path)
    again.tick({"c": Sign(0.1), "new": Sign(0.1)}, now=0.0)
    assert again.counts["c"] == MinuteCounts(1, {"agent": 10})
    assert again.counts["new"] == MinuteCounts()
    content["monotonic"] += 600 - 15  # killed, and back in 15 seconds: that minute was not good
    path.write_text(json.dumps(content))
    soon = CameraMinutes(path)
    soon.tick({"c": Sign(0.1)}, now=0.0)
    assert soon.counts["c"] == MinuteCounts(1, {"agent": 1})
    content["boot_id"], content["wall"] = "another boot", time.time() - 1800
    path.write_text(json.dumps(content))
    third = CameraMinutes(path)
    third.tick({"c": Sign(0.1)}, now=0.0)
    assert third.counts["c"].bad.get("agent", 0) in (0, 30)  # 0 where no clock is synchronised
    path.write_text('{"cameras": []}')
    assert CameraMinutes(path).counts == {}


def test_rules_and_board_ask_only_for_what_there_is():
    text = render_metrics(make_registry(lambda: STATE)).decode()
    there = set(re.findall(r"^(visionloop_\w+?)(?:\{| )", text, flags=re.M))
    deploy = Path(__file__).parents[3] / "deploy"
    for path in (deploy / "prometheus" / "edge.rules.yml", deploy / "grafana" / "edge.json"):
        asked = set(re.findall(r"\bvisionloop_\w+", path.read_text()))
        assert asked
        assert asked <= there, asked - there
