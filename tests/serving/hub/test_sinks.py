"""Sinks against real servers: the receiving end over HTTPS, mosquitto, a web server, a file."""

from __future__ import annotations

import http.server
import json
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
import uvicorn
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from visionloop.core.errors import ConfigError
from visionloop.serving.edge.delivery.guarded_outbox import GuardedOutbox
from visionloop.serving.edge.delivery.sender import Sender
from visionloop.serving.edge.delivery.sinks.params import SinkParams
from visionloop.serving.edge.delivery.sinks.table import SinkContext, SinkError, open_sink
from visionloop.serving.edge.delivery.sinks.webhook import sign_event
from visionloop.serving.hub.database import add_device, open_database
from visionloop.serving.hub.ingest import create_app
from visionloop.serving.hub.models import StoredEvent

AT = "2026-11-01T10:00:00Z"
SECRET = "a-very-secret-word"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture
def outbox(tmp_path):
    made = GuardedOutbox(tmp_path / "edge", sinks={"one": 9, "two": 9}, reserve_bytes=0)
    yield made
    made.close()


def put(outbox, count=1, priority=1, **payload):
    return [
        outbox.put(kind="zone", priority=priority, created_at=AT, payload={"n": n, **payload})
        for n in range(count)
    ]


@pytest.fixture
def send(outbox, tmp_path, monkeypatch):
    """Start a sender for these sinks."""
    monkeypatch.setenv("SINK_TOKEN", SECRET)
    senders = []

    def start(*rows):
        params = [SinkParams(**{"token_env": "SINK_TOKEN", "timeout_s": 3, **row}) for row in rows]
        senders.append(Sender(outbox, params, SinkContext("plant", "d1", tmp_path)))
        senders[-1].start()
        return senders[-1]

    yield start
    for sender in senders:
        sender.stop()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for localhost, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key, crt = folder / "key.pem", folder / "crt.pem"
    files = ["-keyout", key, "-out", crt]
    options = ["-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", *files, *options, *names],
        check=True,
        capture_output=True,
    )
    return crt, key


class Hub:
    """The receiving end in a thread, with TLS or without."""

    def __init__(self, folder, certificate=None):
        self.engine = open_database(f"sqlite:///{folder / 'hub.db'}")
        self.token, self.port = add_device(self.engine, "d1"), free_port()
        crt, key = certificate or (None, None)
        config = uvicorn.Config(
            create_app(self.engine),
            port=self.port,
            log_level="warning",
            ssl_certfile=crt,
            ssl_keyfile=key,
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        wait_for(lambda: self.server.started)

    def count(self):
        with Session(self.engine) as session:
            return session.scalar(select(func.count()).select_from(StoredEvent))

    def stop(self):
        self.server.should_exit = True
        self.thread.join(10)
        self.engine.dispose()


@pytest.fixture
def make_hub_thread(tmp_path):
    hubs = []

    def make(certificate=None):
        hubs.append(Hub(tmp_path, certificate))
        return hubs[-1]

    yield make
    for hub in hubs:
        hub.stop()


def test_batches_go_over_https_to_a_receiver_that_is_known(
    make_hub_thread, certificate, outbox, send, monkeypatch, capsys
):
    hub = make_hub_thread(certificate)
    crt, _ = certificate
    shutil.copy(crt, outbox._folder.parent / "ca.pem")
    put(outbox, 30)
    address = f"https://127.0.0.1:{hub.port}"
    row = {"name": "one", "kind": "receiver", "address": address}
    stranger = send(row)  # E12: a certificate that nobody vouches for
    wait_for(lambda: not stranger.states()["one"].is_up)
    assert "CERTIFICATE_VERIFY_FAILED" in stranger.states()["one"].reason
    stranger.stop()
    wrong = send({**row, "ca_file": "ca.pem"})
    wait_for(lambda: "token" in wrong.states()["one"].reason)
    wrong.stop()
    assert hub.count() == 0
    monkeypatch.setenv("SINK_TOKEN", hub.token)
    sender = send({**row, "ca_file": "ca.pem"})
    wait_for(lambda: outbox.depth().waiting["one"] == 0)
    assert hub.count() == 30
    assert sender.states()["one"].sent == 30
    told = capsys.readouterr().err
    assert SECRET not in told
    assert hub.token not in told


def test_events_never_leave_in_plain_text_unless_a_person_allows_it(tmp_path):
    context = SinkContext("plant", "d1", tmp_path)

    def problem(**row):
        with pytest.raises(ConfigError) as caught:
            open_sink(SinkParams(name="s", **row), context)
        return str(caught.value)

    for kind, address in [
        ("receiver", "http://hub.example:80"),
        ("webhook", "http://10.0.0.7/x"),
        ("mqtt", "mqtt://broker"),
    ]:
        assert "unencrypted" in problem(kind=kind, address=address)
        params = SinkParams(name="s", kind=kind, address=address, allow_plaintext=True)
        open_sink(params, context).close()
    assert "must begin with https://" in problem(kind="receiver", address="ftp://hub")
    said = problem(kind="receiver", address=f"https://u:{SECRET}@hub")
    assert "holds a password" in said
    assert SECRET not in said
    assert "did you mean 'receiver'" in problem(kind="reciever", address="https://hub")
    assert "NO_SUCH is not set" in problem(
        kind="receiver", address="https://hub", token_env="NO_SUCH"
    )
    assert "cannot be read" in problem(kind="receiver", address="https://hub", token_file="none")


class Recorder(http.server.BaseHTTPRequestHandler):
    """A web address that writes down what it is posted."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((dict(self.headers), body))
        status = self.server.statuses.pop(0) if self.server.statuses else 204
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Quiet."""


@pytest.fixture
def web():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    server.seen, server.statuses = [], []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_webhook_gets_each_event_signed_and_failures_are_tried_again(web, outbox, send):
    web.statuses = [500, 302]
    ids = put(outbox, 3)
    send({"name": "one", "kind": "webhook", "address": f"http://127.0.0.1:{web.server_port}/in"})
    wait_for(lambda: outbox.depth().waiting["one"] == 0)
    bodies = [json.loads(body) for _, body in web.seen]
    assert [one["event_id"] for one in bodies] == [ids[0], ids[0], *ids]
    headers, body = web.seen[-1]
    expected = sign_event(SECRET, ids[2], headers["X-Visionloop-Timestamp"], body)
    assert headers["X-Visionloop-Signature"] == expected
    assert abs(int(headers["X-Visionloop-Timestamp"]) - time.time()) < 60
    assert bodies[-1]["device"] == "d1"


def test_one_bad_sink_blocks_no_other(web, outbox, send):
    """A sink that hangs, and one that is not there, beside one that works."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        sender = send(
            {"name": "one", "kind": "receiver", "address": f"http://{silent.getsockname()[0]}:"
             f"{silent.getsockname()[1]}", "timeout_s": 2},
            {"name": "two", "kind": "webhook", "address": f"http://127.0.0.1:{web.server_port}"},
        )  # fmt: skip
        start = time.monotonic()
        put(outbox, 20)
        wait_for(lambda: outbox.depth().waiting["two"] == 0)
        assert time.monotonic() - start < 6
        wait_for(lambda: not sender.states()["one"].is_up)
        state = sender.states()["one"]
    assert state.reason.startswith("ReadTimeout")
    assert 0 <= state.next_try_s <= 60
    assert outbox.depth().waiting["one"] == 20
    assert sender.states()["two"].failures == 0


def test_a_file_gets_whole_lines_also_after_a_kill_and_turns_over(tmp_path, outbox, send):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event_id": "whole"}\n{"event_id": "torn')
    ids = put(outbox, 5)
    row = {"name": "one", "kind": "file", "address": "events.jsonl", "max_mb": 0.002}
    sender = send(row)
    wait_for(lambda: outbox.depth().waiting["one"] == 0)
    lines = [json.loads(line)["event_id"] for line in path.read_text().splitlines()]
    assert lines == ["whole", *ids]
    for _ in range(8):
        put(outbox, 5)
        wait_for(lambda: outbox.depth().waiting["one"] == 0)
    sender.stop()
    files = sorted(tmp_path.glob("events.jsonl*"))
    assert len(files) == 6
    assert all(json.loads(line) for file in files for line in file.read_text().splitlines())


class Broker:
    """mosquitto with its defaults."""

    def __init__(self, program, folder):
        self.port, self.folder = free_port(), folder
        self.config = folder / "mosquitto.conf"
        self.config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")
        self.program = program
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [self.program, "-c", self.config], stderr=subprocess.DEVNULL
        )

        def answers():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        wait_for(answers)

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def broker(tmp_path):
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if program is None:
        pytest.skip("mosquitto is not installed (see tests/debian.txt)")
    made = Broker(program, tmp_path)
    yield made
    made.kill()


def listen(port, hear, *topics):
    """A consumer at the broker."""
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    client = Client(CallbackAPIVersion.VERSION2)
    client.on_connect = lambda c, *_: c.subscribe([(topic, 1) for topic in topics])
    client.on_message = lambda c, _, message: hear(c, message)
    client.connect("127.0.0.1", port)
    client.loop_start()
    return client


def test_a_broker_gets_events_by_topic(broker, outbox, send):
    heard = []
    client = listen(broker.port, lambda _, message: heard.append(message), "visionloop/#")
    wait_for(client.is_connected)
    time.sleep(0.3)
    ids = put(outbox, 3)
    send({"name": "one", "kind": "mqtt", "address": f"mqtt://127.0.0.1:{broker.port}"})
    wait_for(lambda: outbox.depth().waiting["one"] == 0 and len(heard) >= 3)
    assert [message.topic for message in heard] == ["visionloop/plant/d1/zone"] * 3
    assert [json.loads(message.payload)["event_id"] for message in heard] == ids
    client.disconnect()
    client.loop_stop()


def test_a_broker_that_forgets_what_it_acknowledged_costs_nothing(broker, outbox, send):
    """E3, E4: with a topic of confirmations only the consumer's word counts."""
    seen = []

    def hear(client, message):
        event = json.loads(message.payload)
        seen.append(event["event_id"])
        client.publish("confirm/d1", event["event_id"], qos=1)

    ids = put(outbox, 5)
    address = f"mqtt://127.0.0.1:{broker.port}"
    send({"name": "one", "kind": "mqtt", "address": address, "confirm_topic": "confirm/{device}"})
    time.sleep(1.5)
    broker.kill()  # it had taken them, and had no consumer
    assert outbox.depth().waiting["one"] == 5
    broker.start()
    client = listen(broker.port, hear, "visionloop/#")
    wait_for(lambda: outbox.depth().waiting["one"] == 0, 60)
    assert set(seen) == set(ids)
    client.disconnect()
    client.loop_stop()


class NarrowLink:
    """A proxy that lets a number of bytes a second through, and can go silent."""

    def __init__(self, target, rate):
        self.target, self.rate, self.is_silent = target, rate, False
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self.server.accept()
            except OSError:
                return
            near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            far = socket.create_connection(("127.0.0.1", self.target))
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, one, other):
        try:
            while block := one.recv(1024):
                while self.is_silent:
                    time.sleep(0.05)
                time.sleep(len(block) / self.rate)
                other.sendall(block)
        except OSError:
            pass
        finally:
            other.close()


@pytest.mark.slow
def test_on_a_narrow_link_an_alert_waits_for_one_batch_of_pictures_at_most(
    make_hub_thread, outbox, send, monkeypatch
):
    """E10: 64 kbit/s, many pictures waiting, then an alert."""
    import random

    hub = make_hub_thread()
    link = NarrowLink(hub.port, 8000)
    monkeypatch.setenv("SINK_TOKEN", hub.token)
    noise = random.Random(0)
    for _ in range(30):
        text = "".join(noise.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef", k=16_000))
        put(outbox, 1, priority=8, jpeg=text)
    row = {"name": "one", "kind": "receiver", "address": f"http://127.0.0.1:{link.port}"}
    send({**row, "timeout_s": 30})
    wait_for(lambda: outbox.depth().waiting["one"] < 30, 60)
    (alert,) = put(outbox, 1, priority=0)
    start = time.monotonic()

    def has_alert():
        with Session(hub.engine) as session:
            return session.scalar(select(StoredEvent.id).where(StoredEvent.event_id == alert))

    wait_for(has_alert, 45)
    assert time.monotonic() - start < 30
    assert outbox.depth().waiting["one"] > 10
    link.server.close()


def test_a_half_open_connection_is_noticed_and_nothing_is_doubled(
    make_hub_thread, outbox, send, monkeypatch
):
    """E11: packets vanish without an error; noticed within the time limit of the sink."""
    hub = make_hub_thread()
    link = NarrowLink(hub.port, 10_000_000)
    monkeypatch.setenv("SINK_TOKEN", hub.token)
    row = {"name": "one", "kind": "receiver", "address": f"http://127.0.0.1:{link.port}"}
    sender = send({**row, "timeout_s": 2})
    put(outbox, 5)
    wait_for(lambda: outbox.depth().waiting["one"] == 0)
    link.is_silent = True
    start = time.monotonic()
    put(outbox, 5)
    wait_for(lambda: not sender.states()["one"].is_up)
    assert time.monotonic() - start < 9
    link.is_silent = False
    wait_for(lambda: outbox.depth().waiting["one"] == 0)
    assert hub.count() == 10
    link.server.close()


@pytest.mark.slow
def test_a_batch_that_is_too_large_is_halved_and_a_refused_event_blocks_nothing(
    make_hub_thread, outbox, send, monkeypatch, tmp_path
):
    hub = make_hub_thread()
    monkeypatch.setenv("SINK_TOKEN", hub.token)
    monkeypatch.setattr("visionloop.serving.hub.ingest.MAX_BODY_BYTES", 700)
    monkeypatch.setattr("visionloop.serving.edge.delivery.sender.FIRST_WAIT_S", 0.1)
    put(outbox, 10)
    put(outbox, 1, name="a\0b")
    row = {"name": "one", "kind": "receiver", "address": f"http://127.0.0.1:{hub.port}"}
    sender = send(row)
    wait_for(lambda: outbox.depth().waiting["one"] == 0, 60)
    assert hub.count() == 10
    assert sender.states()["one"].failures >= 1
    assert sender.states()["one"].refused == 1
    assert outbox.depth().refused == 1


def test_passwords_stand_nowhere(tmp_path, outbox, send, capsys):
    """Neither in what is said, nor in the states, nor in the events."""
    row = {"name": "one", "kind": "receiver", "address": f"http://127.0.0.1:{free_port()}"}
    sender = send(row)
    put(outbox, 1)
    wait_for(lambda: not sender.states()["one"].is_up)
    sender.stop()
    shown = capsys.readouterr()
    texts = [shown.out, shown.err, repr(sender.states()), repr(outbox.take_notices())]
    texts += [file.read_bytes().decode("latin1") for file in Path(outbox._folder).iterdir()]
    assert not any(SECRET in text for text in texts)


def test_a_context_names_no_token(tmp_path):
    assert SECRET not in repr(SinkContext("plant", "d1", tmp_path))
    assert str(SinkError(f"token={SECRET}")) == "token=***"
