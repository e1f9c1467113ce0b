"""Collection from cameras: quotas, kills, full disks, bursts, passwords, slow cameras."""

from __future__ import annotations

import base64
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import numpy as np
import pytest
import yaml

from visionloop.core.cli import run_command
from visionloop.core.errors import ConfigError, InputError, UnreachableError
from visionloop.core.files import sha256_of_bytes
from visionloop.core.tables import SAMPLES, read_table
from visionloop.data.cli import app
from visionloop.data.collection.bursts import request_burst
from visionloop.data.collection.calibration import save_calibration
from visionloop.data.collection.journal import collection_folder
from visionloop.data.collection.run import collect_from_cameras
from visionloop.serving.images import read_image
from visionloop.serving.sources import snapshot

SLACK = 3
SECRET = "s3cr3t/p@ss"


@pytest.fixture
def write(workspace, make):
    """Write cameras.yaml, and params of collection: ``write(camera, ..., save_every=1)``."""

    def put(*cameras: dict, **params) -> None:
        make.set_params(workspace, collection={"minimum_free_mb": 0.0, **params})
        (workspace.root / "cameras.yaml").write_text(yaml.safe_dump({"cameras": list(cameras)}))

    return put


@pytest.fixture
def inbox(workspace, make):
    """Fill the folder ``inbox``: ``inbox(contents)``; returns their sample ids."""

    def put(contents: list[bytes], begin: int = 0) -> list[str]:
        folder = workspace.root / "inbox"
        folder.mkdir(parents=True, exist_ok=True)
        for number, content in enumerate(contents, start=begin):
            (folder / f"{number:04d}.png").write_bytes(content)
        return [sha256_of_bytes(content) for content in contents]

    return put


def folder_camera(**changes) -> dict:
    source = {"kind": "folder", "path": "inbox"}
    return {"id": "box", "source": source, "schedule": {"every_s": 0.3}, **changes}


def live_camera(name: str, kind: str, path: str, **changes) -> dict:
    camera = {"id": name, "source": {"kind": kind, "path": path}, "schedule": {"every_s": 0.5}}
    return {**camera, **changes}


def table(workspace):
    return read_table(workspace.raw / "samples.parquet", SAMPLES)


def once(workspace):
    return collect_from_cameras(workspace=workspace, once=True)


class Running:
    """A collection in a thread, as the command runs it."""

    def __init__(self, workspace) -> None:
        self.workspace, self.report, self.error = workspace, None, None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.report = collect_from_cameras(workspace=self.workspace, stop=self._stop)
        except Exception as error:
            self.error = error

    def wait(self, what, limit_s: float) -> None:
        end = time.monotonic() + limit_s
        while not what():
            assert time.monotonic() < end and self._thread.is_alive(), f"{self.error}"
            time.sleep(0.05)

    def stop(self):
        self._stop.set()
        self._thread.join(30)
        assert self.error is None and not self._thread.is_alive()
        return self.report


def count_images(workspace) -> int:
    if not workspace.images.is_dir():
        return 0
    return sum(not path.name.startswith(".") for path in workspace.images.iterdir())


def test_what_a_sample_carries_and_similar_frames_are_left_out(workspace, write, inbox, make, fill):
    fill([make.raw_sample(make.png(make.picture(99)), "functional")])
    pictures = [make.picture(number) for number in range(5)]
    brighter = np.clip(pictures[2].astype(int) + 3, 0, 255).astype(np.uint8)
    ids = inbox([make.png(picture) for picture in [*pictures, brighter]])
    write(folder_camera(site="plant-2", attributes={"line": "B", "iso": 100}))
    report = once(workspace)
    (row,) = report.cameras
    assert (row.kept, row.similar, row.faults, report.added) == (5, 1, 0, 5)
    frame = table(workspace).set_index("sample_id")
    assert set(ids[:5]) < set(frame.index) and len(frame) == 6
    sample = frame.loc[ids[3]]
    assert (sample["camera"], sample["site"], sample["phase"]) == ("box", "plant-2", "collected")
    assert (sample["sequence"], sample["collected_by"], sample["line"]) == (3, "once", "B")
    assert sample["lens_state"] in {"clear", "dirty"} and sample["captured_at"].endswith("Z")
    assert sample["luminance"] > 0 and sample["contrast"] > 0 and sample["blur"] > 0
    assert sample["iso"] == 100 and not sample["is_undistorted"]
    content = (workspace.images / sample["file_name"]).read_bytes()
    assert content == (workspace.root / "inbox" / "0003.png").read_bytes()


def test_what_was_seen_is_not_looked_at_again_and_an_empty_inbox_is_no_fault(
    workspace, write, inbox, make
):
    write(folder_camera())
    (workspace.root / "inbox").mkdir()
    assert once(workspace).cameras[0].faults == 0
    contents = [make.png(make.picture(number)) for number in range(4)]
    inbox(contents[:3])
    assert once(workspace).kept == 3
    again = once(workspace).cameras[0]
    assert (again.kept, again.similar, again.known) == (0, 0, 0)
    for path in (workspace.root / "inbox").iterdir():
        path.unlink()
    inbox(contents[3:])  # the folder was emptied, and a name comes again
    assert once(workspace).kept == 1
    assert sorted(table(workspace)["sequence"]) == [0, 1, 2, 3]


def test_the_embedding_decides_where_there_is_a_backbone(
    workspace, write, inbox, make, write_backbone, signed
):
    write_backbone(workspace.backbone, 1.0)
    base = make.picture(1)
    shuffled = base[:, ::-1].copy()  # another hash, the same mean colour
    other = make.picture(2)
    other[..., 2] //= 3
    inbox([make.png(picture) for picture in (base, shuffled, other)])
    write(folder_camera(diversity={"embedding_distance": 0.001}))
    (row,) = once(workspace).cameras
    assert (row.kept, row.similar) == (2, 1)
    inbox([make.png(base[::-1].copy())], begin=10)
    assert once(workspace).cameras[0].similar == 1, "embeddings are remembered over a restart"


def test_the_quota_of_a_day_holds_over_restarts(workspace, write, inbox, make):
    inbox([make.png(make.picture(number)) for number in range(8)])
    write(folder_camera(quota=5))
    assert once(workspace).kept == 5
    row = once(workspace).cameras[0]
    assert (row.kept, row.over_quota, row.kept_today) == (0, 1, 5)
    write(folder_camera(quota=7))
    assert once(workspace).kept == 2
    assert len(table(workspace)) == 7


@pytest.mark.parametrize(
    "failpoint",
    [
        "collect.image_written:kill:3",
        "collect.committed:kill:3",
        "collect.before_merge:kill:1",
        "collect.before_mark:kill:1",
        "files.before_rename:kill:2",
    ],
)
def test_killed_anywhere_the_next_run_doubles_and_forgets_nothing(
    workspace, write, inbox, make, failpoint
):
    ids = inbox([make.png(make.picture(number)) for number in range(7)])
    write(folder_camera(quota=6), save_every=1000)
    code = (
        "from visionloop.core.workspace import Workspace; from pathlib import Path; "
        "from visionloop.data.collection.run import collect_from_cameras; "
        f"collect_from_cameras(workspace=Workspace(Path({str(workspace.root)!r})), once=True)"
    )
    environment = {**os.environ, "VISIONLOOP_FAILPOINT": failpoint}
    killed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert killed.returncode == -9, killed.stderr.decode()
    report = once(workspace)
    frame = table(workspace)
    assert len(frame) == len(set(frame["sample_id"])) == 6
    assert set(frame["sample_id"]) <= set(ids) and report.cameras[0].kept_today == 6
    assert (frame["captured_at"] != "").all()
    for row in frame.itertuples():
        content = (workspace.images / row.file_name).read_bytes()
        assert sha256_of_bytes(content) == row.sample_id
    assert once(workspace).kept == 0 and len(table(workspace)) == 6


@pytest.mark.slow
def test_killed_at_random_nothing_committed_is_lost_and_sigterm_ends_in_order(
    workspace, write, inbox, make, rtsp_server
):
    """What the journal held after a kill was acknowledged: it must be in the table at the end."""
    seed = random.randrange(10**6)
    print("seed", seed)
    draw = random.Random(seed)
    server = rtsp_server(1)
    camera = live_camera("one", "rtsp", f"rtsp://127.0.0.1:{server.port}/1")
    write({**camera, "schedule": {"every_s": 0.2}}, folder_camera(), save_every=3)
    command = [sys.executable, "-m", "visionloop.data", "collect", "-w", str(workspace.root)]
    committed: set[str] = set()
    for round_number in range(8):
        inbox([make.png(make.picture(100 * round_number + n)) for n in range(8)], 8 * round_number)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        before = count_images(workspace)
        end = time.monotonic() + 20 * SLACK
        while count_images(workspace) <= before and time.monotonic() < end:
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 1.5) if round_number < 7 else 2)
        process.send_signal(signal.SIGKILL if round_number < 7 else signal.SIGTERM)
        said = process.communicate()[0].decode()
        assert process.returncode == (-9 if round_number < 7 else 0)
        with sqlite3.connect(collection_folder(workspace) / "journal.db") as journal:
            committed |= {row[0] for row in journal.execute("SELECT sample_id FROM samples")}
    frame = table(workspace)
    assert "collected" in said and "samples kept of 2 cameras" in said
    assert committed == set(frame["sample_id"]) and len(frame) == len(committed)
    assert (frame["camera"] == "box").sum() == 64
    assert frame[frame["camera"] == "one"]["sequence"].is_unique


@pytest.fixture
def small_disk(workspace):
    """A file system of 4 MB below data/; returns a function that makes it larger."""
    folder = workspace.root / "data"
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not allowed here to mount a file system")
    grow = ["mount", "-o", "remount,size=64m", str(folder)]
    yield lambda: subprocess.run(grow, check=True, capture_output=True)
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("reserve_mb", [0.0, 2.0])
def test_e5_a_full_disk_stops_collection_and_heals(
    workspace, write, inbox, make, small_disk, reserve_mb, capfd
):
    noise = np.random.default_rng(0)
    contents = [make.png(noise.integers(0, 256, (250, 250, 3), np.uint8)) for _ in range(40)]
    ids = inbox(contents)
    assert sum(map(len, contents)) > 7e6
    write(folder_camera(), minimum_free_mb=reserve_mb, save_every=5)
    running = Running(workspace)
    shown = ""

    def says(words: str) -> bool:
        nonlocal shown
        shown += capfd.readouterr().err
        return words in shown

    try:
        running.wait(lambda: says("no space left"), 10 * SLACK)
        time.sleep(1)
        kept = count_images(workspace)
        assert 0 < kept < 40
        path = workspace.raw / "samples.parquet"
        assert not path.exists() or len(table(workspace)) <= kept
        small_disk()
        running.wait(lambda: says("there is space again"), 10 * SLACK)
        running.wait(lambda: count_images(workspace) == 40, 10 * SLACK)
    finally:
        report = running.stop()
    assert shown.count("no space left") <= 4, "said once, not for every frame"
    frame = table(workspace)
    assert sorted(frame["sample_id"]) == sorted(ids)
    assert report.cameras[0].no_space >= 1 and report.kept == 40


def serve(handler) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def make_handler(content: bytes, requests: list[str]):
    """A camera that asks for the password; ``/drip`` never ends, ``/text`` is no picture."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_words) -> None:
            """Says nothing."""

        def do_GET(self) -> None:
            requests.append(self.path)
            login = "Basic " + base64.b64encode(f"viewer:{SECRET}".encode()).decode()
            if self.path != "/drip" and self.headers.get("Authorization") != login:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                self.end_headers()
                return
            self.send_response(200)
            body = b"<html>" if self.path == "/text" else content
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            for place in range(len(body) if self.path == "/drip" else 0):
                self.wfile.write(body[place : place + 1])
                time.sleep(0.2)
            self.wfile.write(body)

    return Handler


def test_c5_no_password_is_written_anywhere_and_refusals_are_not_repeated(
    workspace, write, make, inbox, rtsp_server, monkeypatch, capfd
):
    requests: list[str] = []
    server = serve(make_handler(make.png(make.picture(1)), requests))
    camera = rtsp_server(1, "--user", "viewer", "--password", "another")
    web = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("CAM_PASSWORD", SECRET)
    monkeypatch.setenv("BAD_PASSWORD", SECRET + "!")
    good, bad = ({"user": "viewer", "password_env": f"{name}_PASSWORD"} for name in ("CAM", "BAD"))
    inbox([make.png(make.picture(2))])
    write(
        live_camera("web", "http", f"{web}/picture", credentials=good),
        live_camera("web-refused", "http", f"{web}/refused", credentials=bad),
        live_camera("web-text", "http", f"{web}/text", credentials=good),
        live_camera("rtsp-refused", "rtsp", f"rtsp://127.0.0.1:{camera.port}/1", credentials=bad),
        folder_camera(),
        look_seconds=3.0,
    )
    place = ["collect", "-w", str(workspace.root), "--once"]
    assert run_command(lambda: app(place)) == 0
    server.shutdown()
    shown = "".join(capfd.readouterr())
    assert "camera 'rtsp-refused'" in shown and "camera 'web-refused'" in shown
    assert shown.count("refuses this user or password; next attempt in 1") == 2
    assert requests.count("/refused") <= 2, "one attempt: asked without, then with the password"
    written = b"".join(path.read_bytes() for path in workspace.root.rglob("*") if path.is_file())
    for form in (SECRET, quote(SECRET, safe=""), quote(SECRET)):
        assert form not in shown and form.encode() not in written
    rows = {row["camera"] for _, row in table(workspace).iterrows()}
    assert rows == {"web", "box"}
    assert "neither a PNG nor a JPEG" in shown


def test_a_camera_that_drips_holds_up_no_other(workspace, write, make, inbox, monkeypatch):
    monkeypatch.setattr(snapshot, "OPEN_TIMEOUT_S", 2.0)
    server = serve(make_handler(make.png(make.picture(1)), []))
    inbox([make.png(make.picture(number)) for number in range(20)])
    drip = live_camera("slow", "http", f"http://127.0.0.1:{server.server_port}/drip")
    write(drip, folder_camera(), look_seconds=20.0)
    running = Running(workspace)
    begin = time.monotonic()
    try:
        running.wait(lambda: count_images(workspace) == 20, 3 * SLACK)
        took = time.monotonic() - begin
        running.wait(lambda: time.monotonic() > begin + 3, 10)
    finally:
        report = running.stop()
        server.shutdown()
    slow = next(row for row in report.cameras if row.camera == "slow")
    assert took < 3 * SLACK and slow.kept == 0 and "not complete after 2 s" in slow.fault


def test_two_cameras_one_dies_and_a_burst(workspace, write, rtsp_server, tmp_path):
    first, second = rtsp_server(1), rtsp_server(2)
    write(
        live_camera("one", "rtsp", f"rtsp://127.0.0.1:{first.port}/1"),
        live_camera(
            "two",
            "rtsp",
            f"rtsp://127.0.0.1:{second.port}/2",
            schedule={"cron": "0 0 1 1 *"},
            burst={"frames": 6, "rate": 5.0},
        ),
        save_every=4,
    )
    running = Running(workspace)
    try:
        running.wait(lambda: count_images(workspace) >= 3, 10 * SLACK)
        first.process.kill()
        first.process.wait()
        before = count_images(workspace)
        request_burst(workspace, "two")
        running.wait(lambda: count_images(workspace) >= before + 3, 10 * SLACK)
        running.wait(lambda: (workspace.raw / "samples.parquet").exists(), 5 * SLACK)
        first.start()
        here = count_images(workspace)
        running.wait(lambda: count_images(workspace) >= here + 4, 10 * SLACK)
    finally:
        report = running.stop()
    one, two = report.cameras
    assert one.faults >= 1 and one.fault == "" and two.faults == 0
    frame = table(workspace)
    assert report.kept == len(frame) == one.kept + two.kept
    assert set(frame[frame["camera"] == "two"]["collected_by"]) == {"burst"}
    assert 3 <= two.kept <= 6 and two.kept + two.similar == 6
    for number, name in ((1, "one"), (2, "two")):
        for row in frame[frame["camera"] == name].itertuples():
            assert first.read(read_image(workspace.images / row.file_name))[0] == number
        assert frame[frame["camera"] == name]["sequence"].is_unique


def test_the_calibration_is_recorded_and_pictures_straightened(workspace, write, inbox, make):
    write(folder_camera(calibration={"undistort": True}))
    inbox([make.png(make.picture(1))])
    with pytest.raises(ConfigError, match="it has no calibration"):
        once(workspace)
    content = {
        "calibrated_at": "2026-03-01T06:00:00Z",
        "width": 64,
        "height": 64,
        "matrix": [[60.0, 0, 32], [0, 60.0, 32], [0, 0, 1]],
        "distortion": [-0.3, 0.05, 0, 0, 0],
        "rms": 0.2,
    }
    save_calibration(workspace, "box", content)
    inbox([make.png(make.picture(2, size=96))], begin=1)
    (row,) = once(workspace).cameras
    assert (row.kept, row.misfit) == (1, 1) and "64 x 64" in row.fault
    (sample,) = table(workspace).itertuples()
    assert sample.is_undistorted and len(sample.calibration_id) == 12
    assert sample.file_name.endswith(".jpg"), "the camera's own file is not what was kept"


def test_nobody_is_redacted_without_the_package(workspace, write, inbox, make):
    inbox([make.png(make.picture(1))])
    write(folder_camera(redaction={"package": "no/package", "classes": ["head"]}))
    with pytest.raises(InputError):
        once(workspace)
    assert count_images(workspace) == 0


def test_classes_of_a_detector_are_redacted_before_anything_is_kept(
    workspace, write, inbox, make, write_detector, signed
):
    write_detector(workspace.root / "heads", [(32, 32, 30, 30, 0, 0.9)], ["head"], "f")
    original = make.picture(1)
    inbox([make.png(original)])
    write(folder_camera(redaction={"package": "heads", "classes": ["head"], "mode": "pixelate"}))
    assert once(workspace).kept == 1
    (sample,) = table(workspace).itertuples()
    assert sample.redacted_boxes == 1 and len(sample.redacted_by) == 64
    kept = read_image(workspace.images / sample.file_name).astype(int)
    changed = np.abs(kept - original).max(axis=2)
    assert changed[22:42, 22:42].mean() > 20 > changed[:8].mean() * 2
    assert count_images(workspace) == 1


def test_nothing_answers_and_two_collections_at_once(workspace, write, inbox, make):
    write(live_camera("gone", "rtsp", "rtsp://127.0.0.1:1/1"), look_seconds=1.0)
    with pytest.raises(UnreachableError, match="Connection refused"):
        once(workspace)
    inbox([make.png(make.picture(1))])
    write(folder_camera())
    running = Running(workspace)
    try:
        running.wait(lambda: count_images(workspace) == 1, 5 * SLACK)
        with pytest.raises(InputError, match="another process"):
            once(workspace)
    finally:
        running.stop()


def test_a_shift_that_is_off_is_respected(workspace, write, inbox, make):
    now = time.gmtime()
    days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    off = [day for number, day in enumerate(days) if (number - now.tm_wday) % 7 in (2, 3, 4)]
    window = {"days": off, "from": "06:00", "to": "14:00"}
    inbox([make.png(make.picture(1))])
    write(folder_camera(schedule={"every_s": 0.3, "windows": [window]}))
    assert once(workspace).kept == 0
