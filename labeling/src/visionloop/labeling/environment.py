"""Label Studio's own Python environment: its pins collide with ours, so it lives apart."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from visionloop.core.errors import InputError, VisionloopError
from visionloop.core.progress import say_step
from visionloop.core.workspace import Workspace

__all__ = ["ensure_label_studio", "find_label_studio", "find_uv"]

FOLDER = ".venv-label-studio"
PYTHON_VERSION = ">=3.11,<3.14"
REPOSITORY = Path(__file__).parents[4]
"""The clone, where this is an editable installation."""


def find_label_studio(workspace: Workspace) -> Path | None:
    """The ``label-studio`` executable, or None.

    ``VISIONLOOP_LABEL_STUDIO`` may name one; else a finished ``.venv-label-studio`` in
    the workspace, in a folder above it, or in the clone.
    """
    named = os.environ.get("VISIONLOOP_LABEL_STUDIO")
    if named and os.access(named, os.X_OK):
        return Path(named)
    for home in _homes(workspace):
        executable = home / FOLDER / "bin" / "label-studio"
        if (home / FOLDER / ".installed").exists() and os.access(executable, os.X_OK):
            return executable
    return None


def ensure_label_studio(workspace: Workspace) -> Path:
    """Find Label Studio, or install it from the lock with uv (795 MB, seconds when cached).

    Raises
    ------
    InputError
        If there is neither a lock nor uv to install it with.
    VisionloopError
        If the installation fails; running the same command again goes on.
    """
    found = find_label_studio(workspace)
    if found is not None:
        return found
    uv, lock = find_uv(workspace), _find_lock(workspace)
    problems = []
    if uv is None:
        problems.append("uv, which installs it, was found neither in PATH nor in .bootstrap/bin")
    if lock is None:
        problems.append("its lock (locks/label-studio.txt) is not here")
    if uv is None or lock is None:
        raise InputError(
            "Label Studio",
            ["it is not installed", *problems],
            "install uv, or name an executable: VISIONLOOP_LABEL_STUDIO=.../bin/label-studio",
        )
    home = lock.parents[1] if lock.parent.name == "locks" else workspace.root
    return _install(uv, lock, home / FOLDER)


def find_uv(workspace: Workspace) -> Path | None:
    """uv from ``VISIONLOOP_UV``, ``PATH`` or ``.bootstrap/bin``, or None."""
    named = os.environ.get("VISIONLOOP_UV", "")
    candidates = [Path(named)] if named else []
    candidates += [home / named for home in _homes(workspace) if named]
    if in_path := shutil.which("uv"):
        candidates.append(Path(in_path))
    candidates += [home / ".bootstrap" / "bin" / "uv" for home in _homes(workspace)]
    return next(
        (path.absolute() for path in candidates if path.is_file() and os.access(path, os.X_OK)),
        None,
    )


def _homes(workspace: Workspace) -> Iterator[Path]:
    yield workspace.root
    yield from workspace.root.parents
    yield REPOSITORY


def _find_lock(workspace: Workspace) -> Path | None:
    candidates = [home / "locks" / "label-studio.txt" for home in (workspace.root, REPOSITORY)]
    candidates.append(Path(__file__).parent / "label-studio.txt")  # in the wheel
    return next((path for path in candidates if path.is_file()), None)


def _install(uv: Path, lock: Path, folder: Path) -> Path:
    say_step(f"installing Label Studio into {folder} (once)")
    python = folder / "bin" / "python"
    commands = [[str(uv), "pip", "install", "-q", "--python", str(python)]]
    commands[0] += ["--require-hashes", "-r", str(lock)]
    if not python.exists():
        commands.insert(0, [str(uv), "venv", "-q", "--python", PYTHON_VERSION, str(folder)])
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise VisionloopError(
                "Label Studio's environment",
                done.stderr.strip().splitlines()[-8:] or ["uv failed without a word"],
                "run the same command again: what was downloaded is kept",
            )
    (folder / ".installed").touch()
    return folder / "bin" / "label-studio"
