"""Releases over the network, from a real hub: verified as from a folder, resumed where it broke."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest
import uvicorn

from visionloop.core.errors import ConfigError, PackageError, UnreachableError
from visionloop.core.files import read_json, write_bytes
from visionloop.serving.edge.updates.release_params import ReleaseServerParams
from visionloop.serving.edge.updates.release_source import ReleaseServer, open_releases
from visionloop.serving.edge.updates.takeover import Updates
from visionloop.serving.edge_params import EdgeParams, UpdateParams
from visionloop.serving.hub.database import add_device, open_database, revoke_device
from visionloop.serving.hub.ingest import create_app
from visionloop.serving.hub.releases import find_file
from visionloop.serving.releases.files import write_files
from visionloop.serving.releases.store import fetch_newest

BALLAST = 3_000_000
FAST = UpdateParams(look_s=0.05, shadow_frames=0, shadow_s=0.1, probation_s=0.1)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for localhost, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key, crt = folder / "key.pem", folder / "crt.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-keyout", key, "-out", crt]
    command += ["-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    return crt, key


class Hub:
    """The hub with a folder of releases, in a thread."""

    def __init__(self, folder, releases, certificate=None):
        self.engine = open_database(f"sqlite:///{folder / 'hub.db'}")
        self.token = add_device(self.engine, "d1")
        crt, key = certificate or (None, None)
        config = uvicorn.Config(
            create_app(self.engine, releases=releases),
            port=0,
            log_level="warning",
            ssl_certfile=crt,
            ssl_keyfile=key,
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        deadline = time.monotonic() + 30
        while not self.server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        scheme = "http" if certificate is None else "https"
        self.url = f"{scheme}://localhost:{self.port}/v1/releases"

    def stop(self):
        self.server.should_exit = True
        self.thread.join(10)
        self.engine.dispose()


class Wire:
    """A TCP proxy before a hub: counts bytes, is slow, breaks each connection after so many."""

    def __init__(self, port, *, cut=0, pause=0.0):
        self.count, self.cut, self.pause, self.target = 0, cut, pause, port
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1/releases"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self.socket.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.target))
            threading.Thread(target=self._pass, args=(near, far, 0), daemon=True).start()
            threading.Thread(target=self._pass, args=(far, near, self.cut), daemon=True).start()

    def _pass(self, source, sink, cut):
        is_answer, passed = sink is not None and source.getpeername()[1] == self.target, 0
        try:
            while block := source.recv(16384):
                passed += len(block)
                if is_answer:
                    self.count += len(block)
                    time.sleep(self.pause)
                if cut and passed > cut:
                    break
                sink.sendall(block)
        except OSError:
            pass
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def stop(self):
        self.socket.close()


@pytest.fixture
def make_hub(device, tmp_path):
    hubs = []

    def make(certificate=None):
        hubs.append(Hub(tmp_path, device.workspace.releases, certificate))
        (device.workspace.root / "hub.token").write_text(hubs[-1].token + "\n")
        return hubs[-1]

    yield make
    for hub in hubs:
        hub.stop()


@pytest.fixture
def wires():
    made = []

    def make(port, **fields):
        made.append(Wire(port, **fields))
        return made[-1]

    yield make
    for wire in made:
        wire.stop()


def open_source(device, url, **fields) -> ReleaseServer:
    params = ReleaseServerParams(**{"token_file": "hub.token", "timeout_s": 5, **fields})
    root = device.workspace.root
    return open_releases(url, params, root=root, edge=root / "edge")


def newest(device, folder):
    state = device.workspace.root / "edge" / "seen.json"
    return fetch_newest(releases=folder, model="ppe", state=state)[0]


def test_an_agent_takes_and_exchanges_releases_over_https(device, make_hub, certificate):
    hub = make_hub(certificate)
    device.workspace.edge.mkdir()
    told = []
    updates = Updates(
        folder=device.workspace.edge,
        releases=open_source(device, hub.url, ca_file=str(certificate[0])),
        model="ppe",
        params=EdgeParams(threads=1, updates=FAST),
        report=lambda what, facts: told.append(what),
    )
    assert updates.open().number == 1
    device.publish("second", gain=1.1)
    deadline = time.monotonic() + 20
    while "good" not in told and time.monotonic() < deadline:
        updates.step(lambda model: None)
        time.sleep(0.02)
    updates.close()
    assert told == ["switched", "good"]
    assert updates.state.current == 2
    # The gate report stays at the hub; older releases leave this device's own folder.
    mine = device.workspace.edge / "releases" / "ppe"
    assert [one.name for one in mine.iterdir()] == ["2"]
    assert {one.name for one in (mine / "2").iterdir()} == {"package"}


def test_a_certificate_of_somebody_else_ends_it_before_the_token_is_sent(
    device, make_hub, certificate
):
    hub = make_hub(certificate)
    source = open_source(device, hub.url)
    with pytest.raises(UnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
        source.refresh("ppe")
    assert not (device.workspace.edge / "releases" / "index.json").exists()


def test_an_unknown_token_is_said_without_showing_it(device, make_hub):
    hub = make_hub()
    revoke_device(hub.engine, "d1")
    with pytest.raises(UnreachableError, match="token") as raised:
        open_source(device, hub.url).refresh("ppe")
    assert hub.token not in str(raised.value)
    (device.workspace.root / "hub.token").unlink()
    with pytest.raises(ConfigError, match="token file"):
        open_source(device, hub.url)


def test_plain_http_leaves_this_machine_only_where_that_is_allowed(device):
    (device.workspace.root / "hub.token").write_text("x")
    with pytest.raises(ConfigError, match="encrypted"):
        open_source(device, "http://hub.example/v1/releases")
    open_source(device, "http://hub.example/v1/releases", allow_plaintext=True)


def test_a_connection_that_breaks_again_and_again_costs_no_byte_twice(device, make_hub, wires):
    device.publish("second", gain=1.1, ballast=BALLAST)
    wire = wires(make_hub().port, cut=400_000)
    folder = open_source(device, wire.url).refresh("ppe")
    assert newest(device, folder).number == 2
    assert BALLAST < wire.count < 1.4 * BALLAST


PROGRAM = """
import pathlib, sys
from visionloop.serving.edge.updates.release_params import ReleaseServerParams
from visionloop.serving.edge.updates.release_source import open_releases
root = pathlib.Path(sys.argv[1])
params = ReleaseServerParams(token_file="hub.token")
open_releases(sys.argv[2], params, root=root, edge=root / "edge").refresh("ppe")
"""


def start_fetching(device, url, **environment):
    command = [sys.executable, "-c", PROGRAM, str(device.workspace.root), url]
    return subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.PIPE)


def test_killed_half_way_it_goes_on_where_it_was(device, make_hub, wires):
    device.publish("second", gain=1.1, ballast=BALLAST)
    hub = make_hub()
    wire = wires(hub.port, pause=0.01)
    process = start_fetching(device, wire.url)
    part = device.workspace.edge / "releases/incoming/ppe/2/package/model.onnx.part"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (part.exists() and part.stat().st_size > 1_000_000):
        time.sleep(0.01)
    process.kill()
    process.wait()
    have = part.stat().st_size
    assert 1_000_000 < have < BALLAST
    assert not (device.workspace.edge / "releases" / "index.json").exists()
    wire = wires(hub.port)
    folder = open_source(device, wire.url).refresh("ppe")
    assert newest(device, folder).number == 2
    assert wire.count < BALLAST - have + 300_000


@pytest.mark.parametrize("place", ["before_rename", "before_index"])
def test_killed_at_its_last_steps_the_device_has_the_old_index_or_the_new(device, make_hub, place):
    hub = make_hub()
    folder = open_source(device, hub.url).refresh("ppe")
    device.publish("second", gain=1.1)
    point = f"release_server.{place}:kill:1"
    process = start_fetching(device, hub.url, VISIONLOOP_FAILPOINT=point)
    process.communicate(timeout=60)
    assert process.returncode == -9
    assert newest(device, folder).number == 1
    assert newest(device, open_source(device, hub.url).refresh("ppe")).number == 2


def test_what_was_changed_on_the_way_or_at_the_hub_never_arrives(device, make_hub):
    hub = make_hub()
    device.publish("second", gain=1.1, ballast=1000)
    release = device.workspace.releases / "ppe" / "2"
    model = release / "package" / "model.onnx"
    good = model.read_bytes()
    source = open_source(device, hub.url)
    model.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(PackageError, match="not the file that the list names"):
        source.refresh("ppe")
    write_files(release)  # who changes a file can change the list, too
    with pytest.raises(PackageError, match="changed after signing"):
        source.refresh("ppe")
    mine = device.workspace.edge / "releases"
    assert not (mine / "index.json").exists() and not (mine / "ppe" / "2").exists()
    model.write_bytes(good)
    write_files(release)
    assert newest(device, source.refresh("ppe")).number == 2


def test_a_file_that_is_cut_off_or_longer_than_listed_is_refused(device, make_hub):
    hub = make_hub()
    device.publish("second", gain=1.1, ballast=200_000)
    model = device.workspace.releases / "ppe" / "2" / "package" / "model.onnx"
    good = model.read_bytes()
    source = open_source(device, hub.url)
    model.write_bytes(good[:100_000])
    with pytest.raises(UnreachableError, match="100000"):
        source.refresh("ppe")
    model.write_bytes(good + b"more")
    with pytest.raises(PackageError, match="larger than"):
        source.refresh("ppe")
    model.write_bytes(good)
    with pytest.raises(PackageError, match="max_mb"):
        open_source(device, hub.url, max_mb=0.1).refresh("ppe")
    assert newest(device, source.refresh("ppe")).number == 2


def test_an_old_index_and_a_foreign_one_are_refused(device, make_hub):
    hub = make_hub()
    index = device.workspace.releases / "index.json"
    old = index.read_bytes()
    device.publish("second", gain=1.1)
    source = open_source(device, hub.url)
    source.refresh("ppe")
    write_bytes(index, old)
    with pytest.raises(PackageError, match="older"):
        source.refresh("ppe")
    changed = json.loads(old)
    changed["content"]["serial"] = 99
    write_bytes(index, json.dumps(changed).encode())
    with pytest.raises(PackageError):
        source.refresh("ppe")
    assert read_json(device.workspace.edge / "releases/index.json")["content"]["serial"] == 2


def test_a_list_that_names_places_elsewhere_is_refused(device, make_hub):
    hub = make_hub()
    listed = device.workspace.releases / "ppe" / "1" / "files.json"
    for path in ("package/../../../x", "/etc/passwd", "package//x", "other/x", "package"):
        row = {"path": path, "size": 1, "sha256": "0" * 64}
        listed.write_text(json.dumps({"files": [row]}))
        with pytest.raises(PackageError, match="no file of a release"):
            open_source(device, hub.url).refresh("ppe")


def test_the_hub_gives_releases_and_nothing_else(device, make_hub):
    hub = make_hub()
    secret = device.workspace.root / "secret.txt"
    secret.write_text("secret")
    package = device.workspace.releases / "ppe" / "1" / "package"
    (package / "link").symlink_to(secret)
    shutil.copy(secret, device.workspace.releases / "note.txt")
    with httpx.Client(headers={"Authorization": f"Bearer {hub.token}"}, trust_env=False) as client:
        assert client.get(f"{hub.url}/index.json").status_code == 200
        part = client.get(f"{hub.url}/ppe/1/package/model.onnx", headers={"Range": "bytes=10-19"})
        assert part.status_code == 206
        assert part.content == (package / "model.onnx").read_bytes()[10:20]
        for path in (
            "..%2f..%2fsecret.txt",
            "ppe/1/package/..%2f..%2f..%2f..%2fsecret.txt",
            "ppe/1/package/link",
            "note.txt",
            ".lock",
            "ppe/1",
            "ppe/1/package",
            "",
        ):
            assert client.get(f"{hub.url}/{path}").status_code == 404, path
        assert client.post(f"{hub.url}/index.json").status_code == 405
        client.headers.pop("Authorization")
        assert client.get(f"{hub.url}/index.json").status_code == 401
    assert find_file(device.workspace.releases, "../secret.txt") is None
