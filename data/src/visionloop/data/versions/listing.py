"""Which dataset versions there are, and which one is current."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from visionloop.core.errors import ConfigError, DataError
from visionloop.core.files import read_json, write_json
from visionloop.core.workspace import Workspace
from visionloop.data.params import load_params
from visionloop.data.versions.tracked import TrackedPath, tracked_before, tracked_now
from visionloop.data.versions.version import DatasetVersion, load_version

__all__ = [
    "VersionRow",
    "elsewhere",
    "list_versions",
    "open_version",
    "read_base",
    "render_versions",
    "version_folders",
    "write_base",
]


@dataclass(frozen=True)
class VersionRow:
    """One line of the list.

    Attributes
    ----------
    name, fingerprint, parent : str
        ``parent`` is the name of the version it grew from, its fingerprint where no version
        here has it, or empty.
    written : str
        When it was written on this machine, UTC; empty where it is not here.
    samples : int
    splits, classes : dict of str to int
        Samples of each split, annotations of each class.
    is_current : bool
        It is what ``params.yaml`` names.
    revision : str
        Empty, or the git commit from which ``checkout`` brings it.
    """

    name: str
    fingerprint: str
    parent: str
    written: str = ""
    samples: int = 0
    splits: dict[str, int] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)
    is_current: bool = False
    revision: str = ""


def version_folders(workspace: Workspace) -> list[Path]:
    """Folders of the versions that are here, by name; what a killed freeze left is none."""
    folders = (path.parent for path in workspace.versions.glob("*/manifest.json"))
    return sorted((one for one in folders if not one.name.startswith(".")), key=_natural)


def elsewhere(workspace: Workspace) -> dict[str, TrackedPath]:
    """Versions that are not here but that git's history knows: name to what DVC tracked."""
    here = {folder.name for folder in version_folders(workspace)}
    found: dict[str, TrackedPath] = {}
    for output in [*tracked_now(workspace.root), *tracked_before(workspace.root)]:
        name = output.path.removeprefix("data/versions/")
        if name != output.path and "/" not in name and name not in here:
            found.setdefault(name, output)
    return found


def open_version(name: str, *, workspace: Workspace) -> DatasetVersion:
    """Load a version by its name.

    Raises
    ------
    DataError
        If there is none of that name (the known ones are told), or it is damaged.
    """
    names = [folder.name for folder in version_folders(workspace)]
    if name not in names:
        known = f"there are: {', '.join(names)}" if names else "there is none yet"
        near = get_close_matches(name, names, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        next_step = f"{hint}visionloop data versions shows all"
        raise DataError(f"dataset version '{name}'", f"is not here; {known}", next_step)
    return load_version(workspace.version(name), workspace.images)


def list_versions(*, workspace: Workspace) -> tuple[VersionRow, ...]:
    """All versions, those here first."""
    manifests = {one.name: read_json(one / "manifest.json") for one in version_folders(workspace)}
    names: dict[str, str] = {}
    for name, row in manifests.items():  # of two versions with equal content the first
        names.setdefault(row["fingerprint"], name)
    current = _current(workspace)
    rows = [
        VersionRow(
            name=name,
            fingerprint=row["fingerprint"],
            parent=names.get(row["parent"], row["parent"][:12]),
            written=_written(workspace.version(name) / "manifest.json"),
            samples=row["samples"],
            splits=row["splits"],
            classes=row["classes_count"],
            is_current=name == current,
        )
        for name, row in manifests.items()
    ]
    away = elsewhere(workspace)
    rows += [
        VersionRow(name, "", "", is_current=name == current, revision=away[name].revision or "now")
        for name in sorted(away)
    ]
    return tuple(rows)


def render_versions(rows: tuple[VersionRow, ...]) -> str:
    """The list as a table for a terminal; ``*`` marks the current version."""
    lines = [
        f"  {'version':<14}{'fingerprint':<14}{'parent':<14}{'written here':<18}{'samples':>8}"
        "  splits · annotations"
    ]
    for row in rows:
        mark = "*" if row.is_current else " "
        if row.revision:
            lines.append(f"{mark} {row.name:<14}not here: visionloop data checkout {row.name}")
            continue
        counts = " · ".join(
            ", ".join(f"{name or '(nothing)'} {count}" for name, count in part.items())
            for part in (row.splits, row.classes)
        )
        lines.append(
            f"{mark} {row.name:<14}{row.fingerprint[:12]:<14}{row.parent:<14}"
            f"{row.written[:16]:<18}{row.samples:>8}  {counts}"
        )
    return "\n".join(lines)


def read_base(workspace: Workspace) -> dict[str, str]:
    """Name, fingerprint and parent of the version that the working data grew from; or empty."""
    path = workspace.versions / "base.json"
    return dict(read_json(path)) if path.exists() else {}


def write_base(workspace: Workspace, manifest: dict[str, Any]) -> None:
    """Note the version that was frozen or checked out last: the next one grows from it."""
    base = {name: str(manifest[name]) for name in ("name", "fingerprint", "parent")}
    if read_base(workspace) != base:
        write_json(workspace.versions / "base.json", base)


def _current(workspace: Workspace) -> str:
    """What ``params.yaml`` names; a list of versions is of use without it too."""
    try:
        return load_params(workspace)[1].version
    except ConfigError:
        return ""


def _natural(path: Path) -> list[tuple[int, str]]:
    """v10 after v9."""
    return [(int(part or -1) if part.isdigit() else -1, part)
            for part in re.split(r"(\d+)", path.name)]  # fmt: skip


def _written(path: Path) -> str:
    moment = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.timezone.utc)
    return moment.strftime("%Y-%m-%d %H:%M")
