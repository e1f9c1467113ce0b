"""``visionloop watch``: what the release owner sets in MLflow becomes a verified release.

The alias ``champion`` says what a person wants. This watcher is the only one that
reads it: it fetches the version, verifies package and gate report against each
other and against the trusted keys, and writes the signed release that devices take.
Everything else reads releases, never an alias.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from visionloop.core.config import load_project
from visionloop.core.errors import PackageError, RefusedError
from visionloop.core.files import read_json, write_json
from visionloop.core.progress import say_step
from visionloop.core.workspace import Workspace

__all__ = ["WatchReport", "watch", "watch_once"]


@dataclass(frozen=True)
class WatchReport:
    """What one look at the registry led to.

    Attributes
    ----------
    version : str
        MLflow version that holds the alias, empty where none does.
    release : int
        Number of the newest release after the look, 0 where there is none.
    is_new : bool
        Whether this look wrote it.
    """

    version: str
    release: int
    is_new: bool


def watch(*, workspace: Workspace, interval: float = 10.0) -> None:
    """Look at the registry again and again until interrupted; a refusal is said, not fatal."""
    while True:
        try:
            report = watch_once(workspace=workspace)
            if report.is_new:
                say_step(f"release {report.release} written from version {report.version}")
        except (PackageError, RefusedError) as error:
            say_step(str(error))
        time.sleep(interval)


def watch_once(*, workspace: Workspace) -> WatchReport:
    """Release the champion if it is new and verified.

    Raises
    ------
    RefusedError, PackageError
        If its gate report is missing, forged, of another package, or says refused;
        nothing is released then.
    UnreachableError
        If MLflow does not answer.
    """
    from visionloop.evaluation.champion import fetch_champion
    from visionloop.evaluation.gate import verify_gate_report
    from visionloop.serving.package import load_package
    from visionloop.serving.releases import newest, publish
    from visionloop.serving.signing import signing_key, trusted_keys

    model = load_project(workspace.params).model
    keys = trusted_keys()
    record = workspace.root / "releases" / ".last_champion.json"
    arriving = workspace.root / "releases" / ".arriving"
    shutil.rmtree(arriving, ignore_errors=True)
    try:
        found = fetch_champion(workspace=workspace, into=arriving)
        if found is None:
            return WatchReport("", _number(newest(workspace.releases, model, keys)), False)
        version, package_folder, gate_folder = found
        package = load_package(package_folder, trusted_keys=keys)
        verify_gate_report(gate_folder, package_sha256=package.sha256, trusted_keys=keys)
        previous = newest(workspace.releases, model, keys)
        if previous is not None and previous.package_sha256 == package.sha256:
            return WatchReport(version, previous.number, False)
        release = publish(
            releases=workspace.releases,
            model=model,
            package=package_folder,
            gate_report=gate_folder,
            engines=_matching_engines(workspace, package.sha256),
            signing_key=signing_key(),
        )
        write_json(record, {"version": version, "package_sha256": package.sha256})
        return WatchReport(version, release.number, True)
    finally:
        shutil.rmtree(arriving, ignore_errors=True)


def _number(release: object) -> int:
    return int(getattr(release, "number", 0))


def _matching_engines(workspace: Workspace, package_sha256: str) -> Path | None:
    """Engines built ahead of time travel with the release if they are of this very package."""
    manifest = workspace.engine / "engine.json"
    if not manifest.is_file():
        return None
    return workspace.engine if read_json(manifest).get("package_sha256") == package_sha256 else None
