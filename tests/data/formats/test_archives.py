"""Zip archives from outside: slip, links, bombs and damage are refused whole."""

from __future__ import annotations

import zipfile

import pytest

from visionloop.core.errors import DataError
from visionloop.data.formats import archives
from visionloop.data.formats.archives import open_archive, read_member


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
