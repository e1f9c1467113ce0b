"""Durable files: old or new, never half; also when killed between writing and renaming."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from visionloop.core import files
from visionloop.core.errors import DataError


def test_round_trip_and_mode(tmp_path: Path) -> None:
    path = files.write_json(tmp_path / "deep" / "a.json", {"ü": [1, 2.5]}, mode=0o600)
    assert files.read_json(path) == {"ü": [1, 2.5]}
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["a.json"]


def test_killed_before_the_rename_keeps_the_old_content(tmp_path: Path) -> None:
    path = files.write_text(tmp_path / "a.txt", "old")
    code = (
        "from pathlib import Path; from visionloop.core.files import write_text;"
        f"write_text(Path({str(path)!r}), 'new')"
    )
    environment = {**os.environ, "VISIONLOOP_FAILPOINT": "files.before_rename:kill:1"}
    result = subprocess.run([sys.executable, "-c", code], env=environment)
    assert result.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


def test_folder_is_replaced_only_on_success(tmp_path: Path) -> None:
    target = tmp_path / "version"
    with files.replace_folder(target) as staging:
        (staging / "a").write_text("1")
    with pytest.raises(RuntimeError), files.replace_folder(target) as staging:
        (staging / "a").write_text("2")
        raise RuntimeError
    assert (target / "a").read_text() == "1"
    with files.replace_folder(target) as staging:
        (staging / "b").write_text("3")
    assert [entry.name for entry in target.iterdir()] == ["b"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["version"]


@pytest.mark.parametrize("can_exchange", [True, False])
@pytest.mark.parametrize(
    ("point", "content"),
    [("files.before_folder_rename", "old"), ("files.after_folder_exchange", "new")],
)
def test_a_killed_exchange_leaves_one_of_both_and_is_made_good(
    tmp_path: Path, point: str, content: str, can_exchange: bool
) -> None:
    target = tmp_path / "version"
    with files.replace_folder(target) as staging:
        (staging / "a").write_text("old")
    code = (
        "import ctypes\n"
        "from pathlib import Path\n"
        "from visionloop.core import files\n"
        f"if not {can_exchange}: files.ctypes.CDLL = lambda *_, **__: object()\n"
        f"with files.replace_folder(Path({str(target)!r})) as staging:\n"
        "    (staging / 'a').write_text('new')\n"
    )
    environment = {**os.environ, "VISIONLOOP_FAILPOINT": f"{point}:kill:1"}
    result = subprocess.run([sys.executable, "-c", code], env=environment)
    assert result.returncode == -signal.SIGKILL
    assert (target / "a").read_text() == content
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert (target / "a").read_text() == "new"


def test_not_json(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        files.read_json(tmp_path / "a.json")
    with pytest.raises(DataError, match="no such file"):
        files.read_json(tmp_path / "b.json")


def test_folder_hash_sees_names_and_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = files.sha256_of_folder(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert files.sha256_of_folder(tmp_path) != first
    (tmp_path / "b").rename(tmp_path / "a")
    (tmp_path / "note").write_text("x")
    assert files.sha256_of_folder(tmp_path, leave_out=("note",)) == first
