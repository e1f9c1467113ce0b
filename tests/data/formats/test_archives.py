"""D3: archives from outside: slip, links, devices, bombs and damage are refused whole."""

from __future__ import annotations

import io
import random
import tarfile
import tempfile
import zipfile

import pytest

from visionloop.core.errors import DataError
from visionloop.data.formats import archives
from visionloop.data.formats.archives import open_archive, read_member
from visionloop.data.formats.sources import open_source


def archive_with(path, *names, content=b"x"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("name", ["../evil.txt", "/etc/evil", "a/../../b", "..\\evil", "C:\\evil"])
def test_names_that_leave_the_folder(tmp_path, name):
    path = archive_with(tmp_path / "a.zip", "good.txt", name)
    with pytest.raises(DataError, match="leads out"):
        open_archive(path)


def test_links_and_devices(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, kind in (("link", 0o120777), ("device", 0o020666)):
            info = zipfile.ZipInfo(name)
            info.external_attr = kind << 16
            archive.writestr(info, "/etc/passwd")
    with pytest.raises(DataError) as caught:
        open_archive(path)
    assert len(caught.value.problems) == 2


def test_a_bomb_by_ratio(tmp_path):
    path = archive_with(tmp_path / "a.zip", "zeros", content=bytes(8 << 20))
    with pytest.raises(DataError, match="grows"):
        open_archive(path)


def test_too_many_files_and_too_large_a_sum(tmp_path, monkeypatch):
    path = archive_with(tmp_path / "a.zip", *[f"{n}" for n in range(20)])
    monkeypatch.setattr(archives, "MAX_FILES", 10)
    with pytest.raises(DataError, match="holds 20 files"):
        open_archive(path)
    monkeypatch.setattr(archives, "MAX_FILES", 100)
    monkeypatch.setattr(archives, "MAX_TOTAL_BYTES", 10)
    with pytest.raises(DataError, match="unpacks to"):
        open_archive(path)


def test_a_flipped_byte_a_missing_member_and_no_zip(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("one", b"original content")
    content = bytearray(path.read_bytes())
    content[content.index(b"original")] ^= 1
    path.write_bytes(bytes(content))
    with open_archive(path) as archive:
        with pytest.raises(DataError, match="cannot be read"):
            read_member(archive, "one")
        with pytest.raises(DataError, match="not in the archive"):
            read_member(archive, "two")
    (tmp_path / "b.zip").write_bytes(b"<html>")
    with pytest.raises(DataError, match="not a readable zip"):
        open_archive(tmp_path / "b.zip")


def test_another_hash(tmp_path):
    path = archive_with(tmp_path / "a.zip", "one")
    with pytest.raises(DataError, match="SHA-256"):
        open_archive(path, sha256="0" * 64)


def tar_with(path, *members, mode="w:gz"):
    """A tar of (TarInfo or name, content) pairs."""
    with tarfile.open(path, mode) as archive:
        for member, content in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_d3_a_good_tar_is_read_and_leaves_nothing_behind(tmp_path, mode, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    path = tar_with(tmp_path / "a.tar", ("in/one.txt", b"1"), ("two.txt", b"22"), mode=mode)
    with open_source(path) as files:
        assert files.names == ("in/one.txt", "two.txt")
        assert files.read("two.txt") == b"22"
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (("../evil", b"x"), "leads out"),
        (("a/../../evil", b"x"), "leads out"),
        (("/evil", b"x"), "leads out"),
        (special("link", tarfile.SYMTYPE, "/etc/passwd"), "is a link"),
        (special("link", tarfile.SYMTYPE, "good"), "is a link"),
        (special("hard", tarfile.LNKTYPE, "good"), "is a link"),
        (special("device", tarfile.CHRTYPE), "not a plain file"),
        (special("block", tarfile.BLKTYPE), "not a plain file"),
        (special("pipe", tarfile.FIFOTYPE), "not a plain file"),
        (("good", b"other"), "is there twice"),
    ],
)
def test_d3_a_bad_member_refuses_the_whole_tar(tmp_path, member, reason, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    path = tar_with(tmp_path / "a.tar.gz", ("good", b"fine"), member)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=reason):
        open_source(path)
    assert sorted(tmp_path.rglob("*")) == before


def test_d3_a_tar_bomb_is_met_at_its_header(tmp_path):
    path = tar_with(tmp_path / "a.tar.gz", ("zeros", bytes(64 << 20)))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(DataError, match="grows more than"):
        open_source(path)


def test_d3_too_many_members_of_a_tar(tmp_path, monkeypatch):
    path = tar_with(tmp_path / "a.tar", *[(str(n), b"") for n in range(20)], mode="w")
    monkeypatch.setattr(archives, "MAX_FILES", 10)
    with pytest.raises(DataError, match="more than 10 files"):
        open_source(path)


def test_d3_a_torn_tar_and_other_files_are_refused(tmp_path):
    noise = random.Random(0).randbytes(100_000)
    whole = tar_with(tmp_path / "a.tar.gz", ("one", noise), ("two", noise)).read_bytes()
    (tmp_path / "torn.tar.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.tar").write_text("hello")
    (tmp_path / "empty.zip").write_bytes(b"")
    for name, reason in (
        ("torn.tar.gz", "readable tar"),
        ("text.tar", "neither a folder"),
        ("empty.zip", "readable zip"),
        ("gone", "no such"),
    ):
        with pytest.raises(DataError, match=reason):
            open_source(tmp_path / name)


def test_d3_two_files_of_one_name_in_a_zip(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning):
        archive.writestr("one", "1")
        archive.writestr("one", "2")
    with pytest.raises(DataError, match="two files of one name"):
        open_archive(path)
