"""What DVC tracks in a workspace, now and in its git history, read from its own files."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

__all__ = ["TrackedPath", "tracked_before", "tracked_now"]

MAX_REVISIONS = 200


@dataclass(frozen=True)
class TrackedPath:
    """An output that DVC tracks.

    Attributes
    ----------
    path : str
        Below the workspace, with ``/``.
    md5 : str
        Name of its object; ends in ``.dir`` for a folder.
    revision : str
        Git commit that names it, or empty for the working files.
    """

    path: str
    md5: str
    revision: str = ""


def tracked_now(root: Path) -> list[TrackedPath]:
    """Outputs in ``dvc.lock`` and the ``.dvc`` files of the working tree."""
    files = [root / "dvc.lock", *sorted(root.glob("*.dvc")), *sorted(root.glob("data/**/*.dvc"))]
    return [
        output
        for path in files
        if path.is_file()
        for output in _outputs(path.read_text(), path.relative_to(root).as_posix())
    ]


def tracked_before(root: Path) -> list[TrackedPath]:
    """Outputs that earlier commits name, newest commit first; empty without git."""
    revisions = _git(root, "log", f"-n{MAX_REVISIONS}", "--format=%h", "--", "*dvc.lock", "*.dvc")
    found: dict[tuple[str, str], TrackedPath] = {}
    for revision in revisions.split():
        names = _git(root, "ls-tree", "-r", "--name-only", revision).splitlines()
        for name in names:
            if name == "dvc.lock" or name.endswith(".dvc"):
                text = _git(root, "show", f"{revision}:./{name}")
                for output in _outputs(text, name, revision):
                    found.setdefault((output.path, output.md5), output)
    return list(found.values())


def _outputs(text: str, name: str, revision: str = "") -> Iterator[TrackedPath]:
    try:
        content: Any = yaml.safe_load(text) or {}
    except yaml.YAMLError:  # a merge conflict in an old commit says nothing
        return
    folder = PurePosixPath(name).parent
    stages = content.get("stages", {}).values() if name.endswith("dvc.lock") else [content]
    for stage in stages:
        for output in stage.get("outs", []):
            if output.get("md5") and output.get("hash", "md5") == "md5":
                yield TrackedPath(str(folder / output["path"]), str(output["md5"]), revision)


def _git(root: Path, *words: str) -> str:
    """What git prints; nothing where there is no git or no repository."""
    try:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return done.stdout if done.returncode == 0 else ""
