"""Runs a function in a process of its own.

ONNX Runtime and TensorRT have crashed on models that were converted badly; a crash
there must become a message here.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from visionloop.core.errors import VisionloopError

__all__ = ["call_apart", "run_apart"]


def run_apart(function: str, arguments: dict[str, Any], *, timeout_s: float = 600) -> Any:
    """Call ``"module:function"`` with JSON arguments in a child process.

    Returns
    -------
    object
        The function's answer, as JSON values.

    Raises
    ------
    VisionloopError
        If the child failed, was killed by a signal, or took longer than ``timeout_s``.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, "-m", __name__, function, str(answer)]
        try:
            done = subprocess.run(
                command,
                input=json.dumps(arguments),
                capture_output=True,
                text=True,
                timeout=timeout_s,
                env={**os.environ, "PYTHONWARNINGS": "ignore"},
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise VisionloopError(function, f"took longer than {timeout_s:.0f} s") from None
        if done.returncode == 0 and answer.is_file():
            return json.loads(answer.read_text())
    raise VisionloopError(function, _why(done))


def call_apart(
    function: Callable[..., Any], arguments: dict[str, Any], *, timeout_s: float = 600
) -> Any:
    """As :func:`run_apart`, of a function of a module."""
    name = f"{function.__module__}:{function.__qualname__}"
    return run_apart(name, arguments, timeout_s=timeout_s)


def _why(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"the process was ended by {signal.Signals(-done.returncode).name}"
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1][:300] if lines else f"the process ended with code {done.returncode}"


def _main() -> None:
    module, _, name = sys.argv[1].partition(":")
    function = getattr(importlib.import_module(module), name)
    try:
        answer = function(**json.load(sys.stdin))
    except VisionloopError as error:
        sys.exit(f"{error.subject}: {'; '.join(error.problems)}".replace("\n", " "))
    Path(sys.argv[2]).write_text(json.dumps(answer))


if __name__ == "__main__":
    _main()
