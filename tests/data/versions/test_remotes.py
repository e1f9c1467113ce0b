"""D5: a damaged cache or remote is named. Push and pull: a folder, S3 over HTTP, and kill -9."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from visionloop.core.errors import ConfigError, DataError
from visionloop.core.files import sha256_of_bytes
from visionloop.data.versions.checkout import checkout
from visionloop.data.versions.remotes import pull, push
from visionloop.data.versions.verify import verify
from visionloop.data.versions.version import load_version


def object_of(workspace, path: str) -> str:
    """Name of the cache object of a tracked file: ``data/raw/images/<name>``."""
    for pointer in ("data/raw.dvc", "data/versions/v1.dvc"):
        folder = pointer.removesuffix(".dvc")
        if path.startswith(folder):
            text = (workspace.root / pointer).read_text()
            listing = text.split("md5: ")[1].split("\n")[0]
            for row in json.loads(cached(workspace, listing).read_text()):
                if f"{folder}/{row['relpath']}" == path:
                    return row["md5"]
    raise AssertionError(path)


def cached(workspace, md5: str) -> Path:
    return workspace.root / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]


def damage(path: Path) -> None:
    """Change one byte and keep size and mode 0444: what DVC does not see."""
    mode = path.stat().st_mode
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(content))
    path.chmod(mode)


def objects_in(folder: Path) -> list[Path]:
    """Whole objects; what DVC was writing when it was killed has another name."""
    found = (folder / "files" / "md5").glob("*/*")
    return [path for path in found if len(path.name.removesuffix(".dir")) == 30]


def test_damage_in_cache_and_remote_is_named_with_what_heals_it(tracked, ready, tmp_path, tool):
    push(workspace=tracked)
    whole = verify(workspace=tracked, remote="store")
    assert whole.problems == ()
    assert whole.objects["cache"] == whole.objects["remote 'store'"] == 27
    image = f"data/raw/images/{ready[6].sample_id}.png"
    annotations = "data/versions/v1/annotations.json"
    in_cache, in_remote = object_of(tracked, image), object_of(tracked, annotations)
    damage(cached(tracked, in_cache))
    far = tmp_path / "remote" / "files" / "md5" / in_remote[:2] / in_remote[2:]
    damage(far)

    assert "up to date" in tool(tracked.root, "dvc", "status")  # why this verb exists
    report = verify(workspace=tracked, remote="store")
    assert len(report.problems) == 2
    assert "cache: object" in report.problems[0] and image in report.problems[0]
    assert str(far) in report.problems[1] and annotations in report.problems[1]
    assert "the cache here holds 1 of 1 whole" in report.next_steps[-1]

    # What the next steps say heals both.
    cached(tracked, in_cache).unlink()
    far.unlink()
    assert push(workspace=tracked).objects == 27
    pull(workspace=tracked)
    assert verify(workspace=tracked, remote="store").problems == ()


def test_a_damaged_object_is_not_pushed(tracked, ready, tmp_path):
    image = f"data/raw/images/{ready[6].sample_id}.png"
    damage(cached(tracked, object_of(tracked, image)))
    with pytest.raises(DataError, match="nothing was pushed") as caught:
        push(workspace=tracked)
    assert image in str(caught.value)
    assert not (tmp_path / "remote").exists()


@pytest.mark.slow
def test_a_clone_pulls_and_checks_out_older_versions(tracked, ready, clone, make, tool, tmp_path):
    """A colleague has the repository and the remote, and wants v1 although v2 is current."""
    from visionloop.core.entities import Annotation
    from visionloop.data.formats import coco
    from visionloop.data.versions.freeze import freeze

    root = tracked.root
    one = ready[16].sample_id
    coco.save(
        tracked.studio_annotations,
        [coco.CocoImage(one, f"{one}.png", 64, 64)],
        [Annotation(one, "functional", source="studio")],
        ["functional", "defective"],
    )
    make.set_params(tracked, version="v2")
    second = freeze(workspace=tracked)
    first = json.loads((tracked.version("v1") / "manifest.json").read_text())["fingerprint"]
    tool(root, "dvc", "add", "-q", "data/versions/v2")
    (root / "data" / "versions" / "v1.dvc").unlink()
    (root / "data" / "splits.parquet").rename(tmp_path / "splits.parquet")
    tool.commit(root, "v2")
    push(workspace=tracked, history=True)

    other = clone("other")
    report = pull(workspace=other)
    assert (report.images, report.versions, report.problems) == (20, 1, ())
    done = checkout("v1", workspace=other)
    assert (done.fingerprint, done.samples) == (first, 15)
    assert checkout("v2", workspace=other).fingerprint == second.fingerprint
    # Images that were lost come out of the cache, one by one.
    of_v2 = set(load_version(other.version("v2"), other.images).samples["file_name"])
    for name in sorted(of_v2)[:3]:
        (other.images / name).unlink()
    assert (
        checkout("v1", workspace=other).images_brought
        + checkout("v2", workspace=other).images_brought
        <= 3
    )
    assert verify(workspace=other).problems == () or all(
        "is missing" in problem for problem in verify(workspace=other).problems
    )


def test_an_unknown_remote_is_an_error_that_names_the_known(tracked):
    with pytest.raises(ConfigError, match="'nowhere': is not configured; known: store"):
        verify(workspace=tracked, remote="nowhere")


@pytest.fixture
def s3(tracked, monkeypatch):
    """A bucket on a real S3 server over HTTP, configured as the remote ``s3``."""
    boto3 = pytest.importorskip("boto3", reason="the extra s3 is not installed")
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test-secret-value"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}")
    client.create_bucket(Bucket="plant")
    with (tracked.root / ".dvc" / "config").open("a") as config:
        config.write(
            f"['remote \"s3\"']\n    url = s3://plant/data\n"
            f"    endpointurl = http://{host}:{port}\n"
        )
    yield client
    server.stop()


def keys(client) -> list[str]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="plant")
    return [row["Key"] for page in pages for row in page.get("Contents", [])]


def test_s3_push_pull_and_verify(tracked, ready, s3, clone, tool):
    report = push(workspace=tracked, remote="s3")
    assert (report.moved, report.objects, len(keys(s3))) == (27, 27, 27)
    assert report.place.startswith("s3://plant/data")
    tool.commit(tracked.root, "remote s3")
    other = clone("other")
    pulled = pull(workspace=other, remote="s3")
    assert (pulled.images, pulled.versions, pulled.problems) == (20, 1, ())

    image = f"data/raw/images/{ready[6].sample_id}.png"
    md5 = object_of(tracked, image)
    key = f"data/files/md5/{md5[:2]}/{md5[2:]}"
    content = bytearray(s3.get_object(Bucket="plant", Key=key)["Body"].read())
    content[40] ^= 1
    s3.put_object(Bucket="plant", Key=key, Body=bytes(content))
    (problem,) = verify(workspace=tracked, remote="s3").problems
    assert "remote 's3'" in problem and key in problem and image in problem


PUSH = "import sys; from visionloop.data.cli import app; app(sys.argv[1:])"


@pytest.mark.slow
@pytest.mark.parametrize("place", ["folder", "s3"])
def test_push_killed_half_way_completes_with_nothing_doubled(
    tracked, tmp_path, tool, request, place
):
    """kill -9 once some objects have arrived; the same command goes on."""
    client = request.getfixturevalue("s3") if place == "s3" else None
    remote = "s3" if client else "store"
    bulk = tracked.root / "data" / "bulk"
    bulk.mkdir()
    for number in range(300):
        (bulk / f"{number}.bin").write_bytes(number.to_bytes(2, "big") * 2000)
    tool(tracked.root, "dvc", "add", "-q", "data/bulk")
    with (tracked.root / ".dvc" / "config").open("a") as config:
        config.write("    jobs = 1\n")  # of the section that comes last: this remote

    def arrived() -> int:
        return len(keys(client)) if client else len(objects_in(tmp_path / "remote"))

    words = ["push", "--remote", remote, "--workspace", str(tracked.root)]
    running = subprocess.Popen(
        [sys.executable, "-c", PUSH, *words],
        env=dict(os.environ),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while arrived() < 20 and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(running.pid, signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    half = arrived()
    assert 0 < half < 328
    report = push(workspace=tracked, remote=remote)
    assert (report.objects, report.moved) == (328, 328 - half)
    assert verify(workspace=tracked, remote=remote).problems == ()
    assert arrived() == 328
    assert push(workspace=tracked, remote=remote).moved == 0


@pytest.mark.parametrize("failpoint", ["push.before_transfer:kill:1", "push.after_transfer:kill:1"])
def test_push_killed_between_its_steps(tracked, kill_at, tmp_path, failpoint):
    kill_at(failpoint, lambda: push(workspace=tracked))
    report = push(workspace=tracked)
    assert report.objects == 27 == len(objects_in(tmp_path / "remote"))


def test_shards_go_through_plain_dvc(tracked, clone, tool, tmp_path):
    """``pack --track`` writes what ``dvc add`` writes, and a plain ``dvc pull`` brings it."""
    from visionloop.data.versions.dvc_track import track_folder
    from visionloop.data.versions.pack import pack, shard_folder
    from visionloop.data.versions.shards import open_shards

    root = tracked.root
    pack(workspace=tracked)
    pointer = track_folder(shard_folder(tracked))
    (tracked.images / "new.png").write_bytes(b"one more")
    pack(workspace=tracked)
    before = pointer.read_text()
    track_folder(shard_folder(tracked))
    ours = pointer.read_text()
    assert ours != before
    assert "up to date" in tool(root, "dvc", "status", "data/shards.dvc")
    tool(root, "dvc", "add", "-q", "data/shards")
    assert pointer.read_text() == ours
    tool.commit(root, "shards")
    tool(root, "dvc", "push", "-q")
    other = clone("other")
    tool(other.root, "dvc", "pull", "-q", "data/shards.dvc")
    with open_shards(shard_folder(other)) as store:
        assert len(store) == 21 and store.read("new.png") == b"one more"


def test_a_killed_tracking_completes(tracked, kill_at, tool):
    from visionloop.data.versions.dvc_track import track_folder
    from visionloop.data.versions.pack import pack, shard_folder

    pack(workspace=tracked)
    track_folder(shard_folder(tracked))
    (tracked.images / f"{sha256_of_bytes(b'one more')}.png").write_bytes(b"one more")
    pack(workspace=tracked)
    kill_at("track.object_stored:kill:1", lambda: track_folder(shard_folder(tracked)))
    track_folder(shard_folder(tracked))
    assert "up to date" in tool(tracked.root, "dvc", "status", "data/shards.dvc")
    assert verify(workspace=tracked).problems == ()


@pytest.mark.slow
def test_a_cache_that_is_configured_is_left_to_dvc(tracked, tool, tmp_path):
    from visionloop.data.versions.dvc_track import track_folder
    from visionloop.data.versions.pack import pack, shard_folder

    pack(workspace=tracked)
    track_folder(shard_folder(tracked))
    (tracked.root / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {tmp_path / 'far'}\n")
    (tracked.images / "new.png").write_bytes(b"one more")
    pack(workspace=tracked)
    track_folder(shard_folder(tracked))
    assert objects_in(tmp_path / "far")
    shutil.rmtree(tmp_path / "far")
