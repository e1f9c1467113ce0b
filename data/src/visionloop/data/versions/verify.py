"""The verb ``verify``: every byte is still what it was.

DVC trusts its cache: a cached file that was overwritten is checked out, and pushed,
without a word (dvc#5978). This verb hashes each image against its name and each
version against its fingerprint.
"""

from __future__ import annotations

from dataclasses import dataclass

from visionloop.core.errors import VisionloopError
from visionloop.core.files import sha256_of_file
from visionloop.core.progress import track
from visionloop.core.tables import SAMPLES, read_table
from visionloop.core.workspace import Workspace
from visionloop.data.versions.version import load_version

__all__ = ["VerifyReport", "verify"]


@dataclass(frozen=True)
class VerifyReport:
    """How many images and versions were looked at, and every problem found."""

    images: int
    versions: int
    problems: tuple[str, ...]


def verify(*, workspace: Workspace) -> VerifyReport:
    """Hash all images and check all dataset versions; problems are listed, not raised."""
    files = sorted(workspace.images.glob("*.*")) if workspace.images.is_dir() else []
    files = [path for path in files if not path.name.startswith(".")]
    problems = [
        f"{path.relative_to(workspace.root)}: its content does not match its name"
        for path in track(files, "hashing images")
        if sha256_of_file(path) != path.stem
    ]
    there = {path.name for path in files}
    problems += _check_table(workspace, there)
    folders = sorted(path.parent for path in workspace.versions.glob("*/manifest.json"))
    for folder in folders:
        try:
            version = load_version(folder, workspace.images)
        except VisionloopError as error:
            problems += [f"{error.subject}: {problem}" for problem in error.problems]
            continue
        problems += _missing(f"dataset version {version.name}", version.samples, there)
    return VerifyReport(len(files), len(folders), tuple(problems))


def _check_table(workspace: Workspace, there: set[str]) -> list[str]:
    path = workspace.raw / "samples.parquet"
    if not path.exists():
        return []
    try:
        return _missing("data/raw/samples.parquet", read_table(path, SAMPLES), there)
    except VisionloopError as error:
        return [f"{error.subject}: {problem}" for problem in error.problems]


def _missing(subject: str, samples: object, there: set[str]) -> list[str]:
    names = list(samples["file_name"])  # type: ignore[index]
    return [f"{subject}: image {name} is missing" for name in names if name not in there]
