"""``visionloop watch``: what the release owner sets in MLflow becomes a verified release.

The alias ``champion`` says what a person wants. This watcher is the only one that reads it: it
fetches the version, verifies package and gate report against each other and against the trusted
keys, and writes the signed release that devices take. Everything else reads releases, never an
alias. What must not be released is said on the version, and the alias goes back.

MLflow keeps no history of aliases, so the durable record of the last verified champion is the only
source of "previous". Every look starts from that record, the alias and the signed index, and each
step can be repeated: whoever is killed in between, the next look ends where this one would have.

    alias moved → fetched → verified → engines → released (index) → said on the version → recorded
                                  └ refused → said on the version → alias moved back
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionloop.core.config import load_project
from visionloop.core.errors import (
    DataError,
    PackageError,
    RefusedError,
    UnreachableError,
    VisionloopError,
)
from visionloop.core.failpoints import failpoint
from visionloop.core.files import read_json
from visionloop.core.progress import say_step
from visionloop.core.workspace import Workspace
from visionloop.pipelines.champion_record import ChampionRecord, load_record, save_record

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from visionloop.serving.releases.store import Release

__all__ = ["WatchReport", "watch", "watch_once"]

ALIAS = "champion"


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


def watch(
    *,
    workspace: Workspace,
    interval: float = 10.0,
    build_engines: bool = True,
    webhook_port: int | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Look at the registry again and again until interrupted; a refusal is said, not fatal.

    Parameters
    ----------
    interval : float
        Seconds between looks.
    build_engines : bool
        Build TensorRT engines for a package that has none yet, where that is possible.
    webhook_port : int or None
        Listen there, on loopback, for MLflow's webhooks: a moved alias is then looked at
        at once. They are a hint only; what is lost is found by the next look.
    should_stop : function
        Asked between looks.
    """
    from visionloop.pipelines.webhook import HintReceiver

    with ExitStack() as stack:
        hints = stack.enter_context(HintReceiver(workspace, webhook_port))
        last_said = ""
        while not should_stop():
            try:
                hints.register()
                report = watch_once(workspace=workspace, build_engines=build_engines)
                if report.is_new:
                    say_step(f"release {report.release} written from version {report.version}")
                said = ""
            except UnreachableError as error:
                said = f"{error.subject} {error.problems[0]}; looking again until it does"
            except (DataError, PackageError, RefusedError) as error:
                said = str(error)
            if said and said != last_said:
                say_step(said)
            last_said = said
            hints.wait(interval)


def watch_once(*, workspace: Workspace, build_engines: bool = True) -> WatchReport:
    """Release the champion if it is new and verified; else take the alias back.

    Raises
    ------
    RefusedError, PackageError, DataError
        If its gate report is missing, forged, expired, of another package, or says
        refused: nothing is released, the version says why, and the alias is moved back
        to the last verified champion (or away, where there was none).
    UnreachableError
        If MLflow does not answer.
    """
    from visionloop.evaluation import registry
    from visionloop.serving.releases.index import locked

    with locked(workspace.releases / ".watch.lock"):
        if not registry.has_registry(workspace):
            return WatchReport("", _number(_newest(workspace)), False)
        client = registry.connect(workspace)
        with registry.reaching(workspace):
            return _look(workspace, client, build_engines)


def _look(workspace: Workspace, client: MlflowClient, build_engines: bool) -> WatchReport:
    from visionloop.evaluation import registry

    model = load_project(workspace.params).model
    held = registry.alias_holder(client, model, ALIAS)
    newest, record = _newest(workspace), load_record(workspace, model)
    if held is None:
        return WatchReport("", _number(newest), False)
    version = str(held.version)
    if record is not None and newest is not None:
        known = (record.version, record.package_sha256)
        if known == (version, newest.package_sha256):
            return WatchReport(version, newest.number, False)
    arriving = workspace.releases / ".arriving"
    shutil.rmtree(arriving, ignore_errors=True)
    try:
        release = _release(workspace, client, model, held, arriving, build_engines)
    except (DataError, PackageError, RefusedError) as error:
        _refuse(client, model, held, error, _previous(client, model, record, newest))
        raise
    finally:
        shutil.rmtree(arriving, ignore_errors=True)
    if release is None:  # moved while it was verified: the next look sees where to
        return WatchReport(version, _number(newest), False)
    failpoint("watch.published")
    registry.tell_version(
        client,
        held,
        {"release": str(release.number)},
        f"Released as number {release.number} on {release.published_at[:10]}.",
    )
    failpoint("watch.told")
    save_record(workspace, model, ChampionRecord(version, release.package_sha256, release.number))
    failpoint("watch.recorded")
    is_new = newest is None or newest.number != release.number
    return WatchReport(version, release.number, is_new)


def _release(
    workspace: Workspace,
    client: MlflowClient,
    model: str,
    held: Any,
    arriving: Path,
    build_engines: bool,
) -> Release | None:
    """Verify what the alias names and publish it; None where the alias has moved meanwhile."""
    from visionloop.evaluation import registry
    from visionloop.evaluation.champion import fetch_version
    from visionloop.evaluation.gate import report_hash, verify_gate_report
    from visionloop.serving.engines.record import load_manifest
    from visionloop.serving.package import load_package
    from visionloop.serving.releases.store import publish, read_index
    from visionloop.serving.signing import signing_key, trusted_keys

    keys = trusted_keys()
    package_folder, gate_folder = fetch_version(client, held, into=arriving)
    failpoint("watch.fetched")
    package = load_package(package_folder, trusted_keys=keys)
    known = {
        one.package_sha256
        for one in read_index(workspace.releases, trusted_keys=keys)
        if one.model == model
    }
    verify_gate_report(
        gate_folder,
        package_sha256=package.sha256,
        trusted_keys=keys,
        may_be_expired=package.sha256 in known,
    )
    named, found = held.tags.get(registry.REPORT_TAG, ""), report_hash(gate_folder)
    if named != found:
        raise RefusedError(
            f"version {held.version} of {model}",
            f"its tag '{registry.REPORT_TAG}' names gate report '{named}', this one is {found}",
            "visionloop evaluate promote registers package and report together",
        )
    failpoint("watch.verified")
    engines = _engines_for(workspace, package_folder, package.sha256, arriving, build_engines)
    now = registry.alias_holder(client, model, ALIAS)
    if now is None or str(now.version) != str(held.version):
        return None
    if engines is not None:
        manifest = load_manifest(engines, package_sha256=package.sha256, trusted_keys=keys)
        for line in manifest.missing:
            say_step(f"this release {line}")
    failpoint("watch.before_publish")
    return publish(
        releases=workspace.releases,
        model=model,
        package=package_folder,
        gate_report=gate_folder,
        engines=engines,
        signing_key=signing_key(),
    )


def _refuse(
    client: MlflowClient, model: str, held: Any, error: VisionloopError, previous: str | None
) -> None:
    """Say why on the version, then take the alias back; the words first, or they would be lost."""
    from visionloop.evaluation import registry

    why = "; ".join(error.problems)
    is_judged_bad = held.tags.get("gate") == "refused" and "why" in held.tags
    short = str(held.tags["why"]) if is_judged_bad else why[:80]
    registry.tell_version(
        client,
        held,
        {"release": "refused", "why": short},
        f"Not released: {why}. {f'Next: {error.next_step}.' if error.next_step else ''}".strip(),
    )
    failpoint("watch.refusal_told")
    now = registry.alias_holder(client, model, ALIAS)
    if now is None or str(now.version) != str(held.version):
        return  # somebody has moved it already; MLflow has no compare-and-set, so look just before
    failpoint("watch.before_return")
    if previous is None:
        client.delete_registered_model_alias(model, ALIAS)
        say_step(f"the alias {ALIAS} was taken from version {held.version}: no one is verified yet")
    elif previous != str(held.version):
        registry.set_alias(client, model, ALIAS, previous)
        say_step(f"the alias {ALIAS} went back from version {held.version} to {previous}")
    failpoint("watch.returned")


def _previous(
    client: MlflowClient, model: str, record: ChampionRecord | None, newest: Release | None
) -> str | None:
    """The last verified champion that still is in the registry: by record, else by the index."""
    from visionloop.evaluation import registry

    if record is not None and registry.has_version(client, model, record.version):
        return record.version
    if newest is None:
        return None
    version = registry.find_version(client, model, newest.package_sha256)
    return None if version is None else str(version.version)


def _engines_for(
    workspace: Workspace, package: Path, sha256: str, arriving: Path, build_engines: bool
) -> Path | None:
    """Engines of this very package: those built before, else built now; None where not possible."""
    manifest = workspace.engine / "engine.json"
    if manifest.is_file() and read_json(manifest).get("package_sha256") == sha256:
        return workspace.engine
    if not build_engines:
        return None
    from visionloop.serving.build import build

    try:
        return build(workspace=workspace, package=package, into=arriving / "engine").folder
    except VisionloopError as error:
        say_step(f"no engines travel with this release: {error.problems[0]}")
        return None


def _newest(workspace: Workspace) -> Release | None:
    from visionloop.serving.releases.store import newest
    from visionloop.serving.signing import trusted_keys

    return newest(workspace.releases, load_project(workspace.params).model, trusted_keys())


def _number(release: Release | None) -> int:
    return 0 if release is None else release.number
