"""Shards: what goes in comes out, only what is new is written, and a kill leaves no half file."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time

import pandas
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from visionloop.core.errors import DataError
from visionloop.core.workspace import Workspace
from visionloop.data.versions.pack import pack, shard_folder, unpack
from visionloop.data.versions.shard_writer import ShardWriter
from visionloop.data.versions.shards import check_shards, load_index, open_shards


@pytest.fixture
def place(tmp_path):
    """A workspace with 60 small files, two of them in a folder; old enough to be settled."""
    workspace = Workspace(tmp_path / "project")
    (workspace.images / "line 2").mkdir(parents=True)
    for number in range(60):
        name = f"line 2/{number}.png" if number > 57 else f"{number:03d}.png"
        put(workspace, name, random.Random(number).randbytes(200 + number * 40))
    return workspace


def put(workspace: Workspace, name: str, content: bytes) -> None:
    path = workspace.images / name
    path.write_bytes(content)
    moment = time.time() - 60
    os.utime(path, (moment, moment))


def contents(workspace: Workspace) -> dict[str, bytes]:
    return {
        path.relative_to(workspace.images).as_posix(): path.read_bytes()
        for path in workspace.images.rglob("*.png")
    }


def packed(workspace: Workspace) -> dict[str, bytes]:
    with open_shards(shard_folder(workspace)) as store:
        return {name: store.read(name) for name in store.names()}


def problems(workspace: Workspace) -> list[str]:
    return [what for _, found in check_shards(shard_folder(workspace)) for what in found]


def test_what_goes_in_comes_out(place, tmp_path):
    report = pack(workspace=place)
    assert (report.files, report.added, report.shards, report.dead) == (60, 60, 1, 0)
    assert packed(place) == contents(place) and problems(place) == []
    with open_shards(shard_folder(place)) as store:
        row = load_index(shard_folder(place))["007.png"]
        assert store.read(row.sha256) == store.read("007.png")  # by sample id too
        assert row.sha256 in store and "008.png" in store and len(store) == 60
        with pytest.raises(DataError, match="hold no file"):
            store.read("x.png")
    before = contents(place)
    shutil.rmtree(place.images)
    assert unpack(workspace=place).written == 60
    assert contents(place) == before
    again = unpack(workspace=place)
    assert (again.written, again.there) == (0, 60)


def test_plain_tools_read_them(place, tmp_path):
    pack(workspace=place)
    out = tmp_path / "out"
    out.mkdir()
    shard = shard_folder(place) / "00000.tar"
    done = subprocess.run(["tar", "xf", str(shard), "-C", str(out)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*.png")} == contents(
        place
    )
    frame = pandas.read_parquet(shard_folder(place) / "index")
    assert list(frame.columns) == ["name", "sha256", "shard", "offset", "size"] and len(frame) == 60


def test_the_same_files_give_the_same_bytes(place, tmp_path):
    pack(workspace=place)
    pack(workspace=place, shards=tmp_path / "other")
    for path in sorted(shard_folder(place).rglob("*.*")):
        other = tmp_path / "other" / path.relative_to(shard_folder(place))
        assert path.read_bytes() == other.read_bytes()


def test_only_what_is_new_is_written(place):
    pack(workspace=place)
    assert pack(workspace=place).written == 0
    put(place, "003.png", b"changed")
    put(place, "new.png", b"new")
    report = pack(workspace=place)
    assert (report.added, report.changed, report.written) == (1, 1, 4 * 512)
    assert report.dead == 200 + 3 * 40
    assert packed(place) == contents(place) and problems(place) == []
    # Touched, or copied to another machine: read again, not written again.
    os.utime(place.images / "004.png")
    (shard_folder(place).parent / ".shards.state").unlink()
    assert pack(workspace=place).written == 0


def test_a_change_that_keeps_size_and_time_within_a_tick_is_seen(place):
    path = place.images / "000.png"
    path.write_bytes(b"a" * 300)  # just now: its time may not change with the next write
    moment = path.stat()
    pack(workspace=place)
    path.write_bytes(b"b" * 300)
    os.utime(path, ns=(moment.st_atime_ns, moment.st_mtime_ns))
    assert pack(workspace=place).changed == 1


def test_a_folder_that_was_never_unpacked_empties_nothing(place):
    pack(workspace=place)
    before = contents(place)
    for path in place.images.glob("0*.png"):
        path.unlink()
    report = pack(workspace=place)
    assert (report.files, report.missing, report.removed) == (60, 58, 0)
    assert packed(place) == before
    report = pack(workspace=place, remove_missing=True)
    assert (report.files, report.missing, report.removed) == (2, 0, 58)
    assert packed(place) == contents(place)


def test_compacting_drops_dead_bytes_and_nothing_else(place):
    pack(workspace=place)
    put(place, "003.png", b"changed")
    (place.images / "004.png").unlink()
    pack(workspace=place, remove_missing=True)
    report = pack(workspace=place, compact=True)
    assert report.dead == 0 and packed(place) == contents(place) and problems(place) == []
    assert "004.png" not in packed(place)
    assert pack(workspace=place, compact=True).written == 0


def test_a_large_last_shard_is_left_alone(place):
    """An addition must not make version control store a whole shard again."""
    folder = shard_folder(place)
    for name in ("a", "b", "c"):
        with ShardWriter(folder, shard_bytes=4000, open_bytes=2000) as writer:
            writer.add(name, bytes(1500))
    with ShardWriter(folder, shard_bytes=4000, open_bytes=2000) as writer:
        for number in range(5):
            writer.add(f"d{number}", bytes(1500))
    index = load_index(folder)
    assert [index[name].shard for name in "abc"] == ["00000.tar", "00001.tar", "00002.tar"]
    assert index["d4"].shard == "00005.tar"


def test_a_file_linked_to_a_cache_gets_its_own_copy(place, tmp_path):
    """DVC may link the workspace to its cache: appending must not change the cache."""
    pack(workspace=place)
    shard = shard_folder(place) / "00000.tar"
    cached = tmp_path / "cached"
    os.link(shard, cached)
    before = cached.read_bytes()
    os.chmod(shard, 0o444)
    put(place, "new.png", b"new")
    pack(workspace=place)
    assert cached.read_bytes() == before and packed(place) == contents(place)


def test_long_and_foreign_names(place, tmp_path):
    name = "é" * 60 + "ü.png"  # more than 100 bytes: an extended tar header
    put(place, name, b"content")
    pack(workspace=place)
    assert packed(place)[name] == b"content" and problems(place) == []
    (place.images / "bad\nname.png").write_bytes(b"x")
    with pytest.raises(DataError, match="nothing was packed"):
        pack(workspace=place)


def test_damage_is_named(place):
    pack(workspace=place)
    folder = shard_folder(place)
    row = load_index(folder)["010.png"]
    path = folder / row.shard
    content = bytearray(path.read_bytes())
    content[row.offset + 5] ^= 1
    content[load_index(folder)["020.png"].offset - 400] ^= 1  # in a header
    path.write_bytes(bytes(content))
    found = problems(place)
    assert len(found) == 2
    assert found[0] == "010.png: its bytes are not those that were packed"
    assert found[1].startswith("020.png: its tar header is damaged")
    with open_shards(folder) as store, pytest.raises(DataError, match=r"010\.png"):
        store.read("010.png")
    shutil.rmtree(place.images)
    with pytest.raises(DataError, match=r"010\.png"):
        unpack(workspace=place)
    assert len(contents(place)) == 59  # all others came
    path.unlink()
    assert problems(place) == ["is missing, and 60 files with it"]


@pytest.mark.parametrize(
    "failpoint",
    [
        "pack.member_written:kill:3",
        "pack.shard_written:kill:1",
        "files.before_rename:kill:1",  # the index part
        "pack.index_written:kill:1",
        "put.before_rename:kill:1",  # the note of what was seen
    ],
)
def test_killed_pack_completes_with_nothing_doubled(place, kill_at, failpoint):
    pack(workspace=place)
    for number in range(5):
        put(place, f"new{number}.png", random.Random(number).randbytes(3000))
    put(place, "003.png", b"changed")
    expected = contents(place)
    kill_at(failpoint, lambda: pack(workspace=place))
    pack(workspace=place)
    assert packed(place) == expected and problems(place) == []
    names = pandas.read_parquet(shard_folder(place) / "index")["name"]
    assert sorted(names[names.duplicated()]) == ["003.png"]  # the old bytes and the new
    assert pack(workspace=place).written == 0
    left = [path.name for path in shard_folder(place).rglob("*") if path.name.endswith(".tmp")]
    assert left == []


@pytest.mark.parametrize("failpoint", ["compact.written:kill:1", "compact.index_removed:kill:1"])
def test_killed_compacting_completes(place, kill_at, failpoint):
    pack(workspace=place)
    put(place, "003.png", b"changed")
    pack(workspace=place)
    expected = contents(place)
    kill_at(failpoint, lambda: pack(workspace=place, compact=True))
    assert packed(place) == expected
    assert pack(workspace=place, compact=True).dead == 0
    assert packed(place) == expected and problems(place) == []


@pytest.mark.parametrize(
    ("failpoint", "written"),
    [("unpack.file_written:kill:20", 20), ("put.before_rename:kill:21", 20)],
)
def test_killed_unpack_goes_on(place, kill_at, failpoint, written):
    pack(workspace=place)
    expected = contents(place)
    shutil.rmtree(place.images)
    kill_at(failpoint, lambda: unpack(workspace=place))
    assert len(contents(place)) == written
    assert unpack(workspace=place).written == 60 - written
    assert contents(place) == expected
    assert not list(place.images.rglob(".*.tmp"))


def test_a_shard_linked_to_the_cache_is_never_written_into(place, kill_at, tmp_path):
    pack(workspace=place)
    shard = next(iter(sorted(shard_folder(place).glob("*.tar"))))
    cached = tmp_path / "cached.tar"
    os.link(shard, cached)
    before = cached.read_bytes()
    put(place, "new.png", b"new")
    expected = contents(place)
    kill_at("pack.before_own:kill:1", lambda: pack(workspace=place))
    assert cached.read_bytes() == before
    pack(workspace=place)
    assert packed(place) == expected and problems(place) == []
    assert cached.read_bytes() == before
    assert not list(shard_folder(place).rglob("*.tmp"))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from("abcdef"), st.none() | st.binary(max_size=2000)), max_size=12
    ),
    cuts=st.sets(st.integers(0, 11)),
)
def test_shards_are_a_dictionary(tmp_path, steps, cuts):
    """Any sequence of additions and removals, flushed anywhere, reads as a dictionary would."""
    folder = tmp_path / "any"
    shutil.rmtree(folder, ignore_errors=True)
    expected: dict[str, bytes] = {}
    writer = ShardWriter(folder, shard_bytes=3000, open_bytes=1500)
    for number, (name, content) in enumerate(steps):
        if content is None:
            writer.remove(name)
            expected.pop(name, None)
        else:
            writer.add(name, content)
            expected[name] = content
        if number in cuts:
            writer.flush()
            writer = ShardWriter(folder, shard_bytes=3000, open_bytes=1500)
    writer.flush()
    (folder / "index").mkdir(exist_ok=True)
    with open_shards(folder) as store:
        assert {name: store.read(name) for name in store.names()} == expected
    assert [what for _, found in check_shards(folder) for what in found] == []
