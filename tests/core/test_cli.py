"""Errors reach a person as one screen with the right exit code; secrets never do."""

from __future__ import annotations

import pytest

from visionloop.core.cli import run_command
from visionloop.core.errors import (
    DataError,
    MissingExtraError,
    RefusedError,
    UnreachableError,
    VisionloopError,
)
from visionloop.core.plugins import nearest_hint, resolve
from visionloop.core.privacy import mask_secrets


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (VisionloopError("x", "failed"), 1),
        (DataError("x", "wrong"), 2),
        (RefusedError("x", "no"), 3),
        (UnreachableError("x", "silent"), 1),
        (KeyboardInterrupt(), 130),
        (RuntimeError("defect"), 1),
        (SystemExit(3), 3),
    ],
)
def test_exit_codes_without_traceback(error, code, capsys) -> None:
    def command() -> None:
        raise error

    assert run_command(command) == code
    assert "Traceback" not in capsys.readouterr().err


def test_all_problems_and_the_next_step_are_shown(capsys) -> None:
    def command() -> None:
        raise DataError("a.json", ["first", "second"], "mend it")

    run_command(command)
    text = capsys.readouterr().err
    assert text == "a.json: 2 problems\n  - first\n  - second\n  → mend it\n"


def test_passwords_are_masked() -> None:
    text = "rtsp://admin:hunter2@camera/1 token=abc123 https://x/y?password=zzz"
    masked = mask_secrets(text)
    assert "hunter2" not in masked and "abc123" not in masked and "zzz" not in masked
    assert "rtsp://admin:***@camera/1" in masked


def test_plugin_tables() -> None:
    table = {"loads": "json:loads", "absent": "no_such_library_here:x"}
    assert resolve(table, "loads", kind="format")("1") == 1
    with pytest.raises(MissingExtraError, match="visionloop\\[yolo\\]"):
        resolve(table, "absent", kind="format", extra="yolo")
    with pytest.raises(VisionloopError, match="did you mean 'loads'"):
        resolve(table, "load", kind="format")
    assert nearest_hint("zzz", ["a", "b"]) == "known: a, b"
