"""Releases: ``releases/<model>/<n>/`` (package, gate report, engines) and a signed index.

Numbers only grow; a device refuses an index that is older than the one it saw last.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from visionloop.core.errors import DataError, InputError, PackageError
from visionloop.core.failpoints import failpoint
from visionloop.core.files import read_json, replace_folder, sha256_of_folder, write_json
from visionloop.serving import signing
from visionloop.serving.engines.record import ENGINE_MANIFEST, ENGINE_SIGNATURE
from visionloop.serving.package import ModelPackage, load_package
from visionloop.serving.releases.files import write_files
from visionloop.serving.releases.index import (
    INDEX_NAME,
    IndexEntry,
    load_index,
    locked,
    save_index,
)

__all__ = [
    "Release",
    "fetch_newest",
    "fetch_older",
    "newest",
    "publish",
    "read_index",
    "verify_release",
]

GATE_SIGNATURE = "gate.sig"


@dataclass(frozen=True)
class Release:
    """One release of a model.

    Attributes
    ----------
    model : str
    number : int
        1, 2, ...
    folder : Path
        Holds ``package``, ``gate`` and, where engines were built, ``engine``.
    package_sha256 : str
    published_at : str
        UTC, RFC 3339.
    """

    model: str
    number: int
    folder: Path
    package_sha256: str
    published_at: str

    @property
    def package(self) -> Path:
        """The signed model package."""
        return self.folder / "package"

    @property
    def gate_report(self) -> Path:
        """The signed gate report."""
        return self.folder / "gate"

    @property
    def engine(self) -> Path | None:
        """The signed engine folder, or None where there is none."""
        folder = self.folder / "engine"
        return folder if folder.is_dir() else None


def publish(
    *,
    releases: Path,
    model: str,
    package: Path,
    gate_report: Path,
    engines: Path | None = None,
    signing_key: Path | None = None,
    trusted_keys: Sequence[Path] | None = None,
) -> Release:
    """Copy a verified package into a new release and put it into the signed index.

    The release becomes visible with the index, at once and as a whole. A package that is
    already the newest release of its model is not released again.

    Parameters
    ----------
    releases : Path
        Folder of all releases.
    model : str
        Name of the registered model.
    package : Path
    gate_report : Path
        Folder signed as ``gate.sig``, or ``gate.json`` in it. Whether the verdict allows
        the release is checked by the caller, who knows the gate.
    engines : Path or None
        Folder signed as ``engine.sig``.
    signing_key, trusted_keys
        None takes those of the environment.

    Raises
    ------
    PackageError
        If the package, the gate report, the engines or the index do not verify.
    DataError
        If the index is gone although there are releases.
    """
    key = signing_key if signing_key is not None else signing.signing_key()
    keys = list(trusted_keys) if trusted_keys is not None else signing.trusted_keys()
    gate_folder = gate_report.parent if gate_report.is_file() else gate_report
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", model):
        raise InputError(f"model name '{model}'", "must be letters, digits, '.', '_' and '-'")
    with locked(releases / ".lock"):
        index = load_index(releases, keys)
        last = index.newest(model)
        loaded = load_package(package, trusted_keys=keys)
        if last is not None and last.package_sha256 == loaded.sha256:
            return _release(releases, last)
        number = last.number + 1 if last is not None else 1
        _refuse_lost_index(releases / model, number)
        with replace_folder(releases / model / str(number)) as staging:
            entry = _fill(staging, model, number, package, gate_folder, engines, keys)
            write_files(staging)
        failpoint("releases.before_index")
        changed = index.model_copy(
            update={"serial": index.serial + 1, "releases": [*index.releases, entry]}
        )
        save_index(releases, changed, key)
    return _release(releases, entry)


def read_index(releases: Path, *, trusted_keys: Sequence[Path] | None = None) -> list[Release]:
    """All releases, by model and number; empty where nothing was released yet.

    Raises
    ------
    PackageError
        If the index was changed, or is not signed by a trusted key.
    """
    keys = list(trusted_keys) if trusted_keys is not None else signing.trusted_keys()
    entries = sorted(load_index(releases, keys).releases, key=lambda e: (e.model, e.number))
    return [_release(releases, entry) for entry in entries]


def newest(
    releases: Path, model: str, trusted_keys: Sequence[Path] | None = None
) -> Release | None:
    """The newest release of a model, or None."""
    rows = [r for r in read_index(releases, trusted_keys=trusted_keys) if r.model == model]
    return rows[-1] if rows else None


def fetch_newest(
    *,
    releases: Path,
    model: str,
    state: Path,
    trusted_keys: Sequence[Path] | None = None,
) -> tuple[Release, ModelPackage]:
    """What a device does: take the newest release, verify it, and never go back.

    Parameters
    ----------
    releases : Path
    model : str
    state : Path
        File in which the device remembers the newest index that it saw.

    Raises
    ------
    PackageError
        If there is no release, the index or package does not verify, they do not
        belong together, or the index is older than the last one seen (a replay).
    """
    keys = list(trusted_keys) if trusted_keys is not None else signing.trusted_keys()
    index = load_index(releases, keys)
    entry = index.newest(model)
    if entry is None:
        raise PackageError(
            str(releases), f"holds no release of '{model}'", "visionloop watch --once makes one"
        )
    seen = _read_seen(state)
    if index.serial < seen["serial"] or entry.number < seen["numbers"].get(model, 0):
        raise PackageError(
            str(releases / INDEX_NAME),
            f"is older (serial {index.serial}) than what this device saw ({seen['serial']})",
            "an old index was put back; publish a new release instead",
        )
    release, package = verify_release(releases, entry, keys)
    numbers = {**seen["numbers"], model: entry.number}
    newest = {"serial": index.serial, "numbers": numbers}
    if newest != seen:
        with suppress(OSError):  # full or read-only: what was seen before still counts
            write_json(state, newest)
    return release, package


def fetch_older(
    *,
    releases: Path,
    model: str,
    state: Path,
    trusted_keys: Sequence[Path] | None = None,
) -> Iterator[tuple[Release, ModelPackage]]:
    """The releases before the newest one that verify, newest first.

    For a start while the newest release cannot be used. An index older than the last one
    seen gives none.

    Raises
    ------
    PackageError
        If the index was changed, or is not signed by a trusted key.
    """
    keys = list(trusted_keys) if trusted_keys is not None else signing.trusted_keys()
    index = load_index(releases, keys)
    if index.serial < _read_seen(state)["serial"]:
        return
    entries = sorted((e for e in index.releases if e.model == model), key=lambda e: -e.number)
    for entry in entries[1:]:
        try:
            yield verify_release(releases, entry, keys)
        except PackageError:
            continue


def _read_seen(state: Path) -> dict[str, Any]:
    """Serial of the newest index that was seen, and the newest number of each model."""
    seen: dict[str, Any] = read_json(state) if state.is_file() else {"serial": 0, "numbers": {}}
    return seen


def verify_release(
    releases: Path, entry: IndexEntry, keys: Sequence[Path] | None = None
) -> tuple[Release, ModelPackage]:
    """Package and engines of a release are signed, and those that the index names.

    Raises
    ------
    PackageError
        If they are not.
    """
    keys = list(keys) if keys is not None else signing.trusted_keys()
    release = _release(releases, entry)
    package = load_package(release.package, trusted_keys=keys)
    if package.sha256 != entry.package_sha256:
        raise PackageError(str(release.package), "is not the package that the index names")
    if release.engine is None and entry.engine_sha256 is not None:
        raise PackageError(str(release.folder), "holds no engines, but the index names some")
    if release.engine is not None and sha256_of_folder(release.engine) != entry.engine_sha256:
        raise PackageError(str(release.engine), "are not the engines that the index names")
    return release, package


def _fill(
    staging: Path,
    model: str,
    number: int,
    package: Path,
    gate_folder: Path,
    engines: Path | None,
    keys: Sequence[Path],
) -> IndexEntry:
    """Copy first, then verify the copies: nobody can change them in between."""
    shutil.copytree(package, staging / "package", symlinks=True)
    shutil.copytree(gate_folder, staging / "gate", symlinks=True)
    copied = load_package(staging / "package", trusted_keys=keys)
    signing.verify_folder(staging / "gate", keys=keys, signature_name=GATE_SIGNATURE)
    engine_sha256 = None
    if engines is not None:
        shutil.copytree(engines, staging / "engine", symlinks=True)
        signing.verify_folder(staging / "engine", keys=keys, signature_name=ENGINE_SIGNATURE)
        built_from = read_json(staging / "engine" / ENGINE_MANIFEST).get("package_sha256")
        if built_from != copied.sha256:
            raise PackageError(
                str(engines), "was built from another package", "visionloop serve build"
            )
        engine_sha256 = sha256_of_folder(staging / "engine")
    return IndexEntry(
        model=model,
        number=number,
        package_sha256=copied.sha256,
        gate_sha256=sha256_of_folder(staging / "gate"),
        engine_sha256=engine_sha256,
        published_at=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def _release(releases: Path, entry: IndexEntry) -> Release:
    folder = releases / entry.model / str(entry.number)
    return Release(entry.model, entry.number, folder, entry.package_sha256, entry.published_at)


def _refuse_lost_index(folder: Path, number: int) -> None:
    """A number beyond the next one means that the index was lost or set back."""
    found = [int(p.name) for p in folder.glob("*") if p.name.isdigit()] if folder.is_dir() else []
    if max(found, default=0) > number:
        raise DataError(
            str(folder),
            f"holds release {max(found)}, but the index would go on with {number}",
            "bring back index.json; numbers must never be used twice",
        )
