"""``visionloop serve tune``: measure every form of a package on this device and choose one.

Backends, precisions, threads and input sizes are measured in turn, picture by picture, so that
what else the machine does falls on all of them alike. Of the forms that keep the target the one
that costs least processor time is chosen: the rest is room for cameras. More threads are not
taken to be faster: two that wait for each other can be slower than one.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from visionloop.core.config import load_block, load_project
from visionloop.core.errors import DataError, PackageError, VisionloopError
from visionloop.core.progress import say_step
from visionloop.core.targets import ParityTargets, load_targets
from visionloop.core.workspace import Workspace
from visionloop.serving import signing
from visionloop.serving.apart import call_apart
from visionloop.serving.backends.table import ENGINE_BACKENDS
from visionloop.serving.engines.record import load_manifest
from visionloop.serving.package import ModelPackage, load_package
from visionloop.serving.params import ServingParams, TuneParams
from visionloop.serving.tuning.device_profile import (
    Choice,
    DeviceProfile,
    MeasuredForm,
    profile_path,
    save_profile,
)
from visionloop.serving.tuning.forms import list_forms, shapes_of
from visionloop.serving.tuning.turns import measure_in_turn
from visionloop.serving.variants.fitted_input import fit_input
from visionloop.serving.variants.reference import (
    REFERENCE_NAME,
    Reference,
    load_reference,
    reference_of_folder,
)

__all__ = ["TuneReport", "choose", "tune"]

BUSY = 1.5
"""By the clock, of the processor's time of a single thread."""


@dataclass(frozen=True)
class TuneReport:
    """What was chosen.

    Attributes
    ----------
    path : Path
        The device profile.
    profile : DeviceProfile
    """

    path: Path
    profile: DeviceProfile


def tune(*, workspace: Workspace) -> TuneReport:
    """Measure the forms of the package (of the newest release, where there is no package here).

    Reads ``artifacts/package`` and ``artifacts/engine``, or the newest release; writes
    ``edge/device.json``, which the edge agent follows with ``serving.edge.backend: tuned``.

    Raises
    ------
    PackageError
        If there is no package, or none of its forms runs here.
    DataError
        If there is no image to measure on.
    """
    params: TuneParams = load_block(workspace.params, "serving", ServingParams).tune
    keys = signing.trusted_keys()
    package, folder = _find_package(workspace, keys)
    manifest = None
    if folder is not None:
        manifest = load_manifest(folder, package_sha256=package.sha256, trusted_keys=keys)
    targets = load_targets(workspace.targets) if workspace.targets.is_file() else None
    target_ms = params.target_ms or (targets.latency.per_frame_ms if targets else 50.0)
    limits = targets.parity if targets else ParityTargets()
    reference, images = _find_images(workspace, params.images)
    shapes = shapes_of(reference.samples, images)
    forms = list_forms(package, manifest, folder, params, shapes=shapes)
    say_step(f"serving: measuring {len(forms)} forms, {params.rounds} rounds in turn")
    rows = call_apart(
        measure_in_turn,
        {
            "package": str(package.path),
            "trusted_keys": [str(key) for key in keys],
            "forms": forms,
            "images": str(images),
            "reference": reference.model_dump(mode="json"),
            "rounds": params.rounds,
        },
        timeout_s=params.timeout_s,
    )
    measured = [MeasuredForm(**row) for row in rows]
    choice, is_met, why = choose(measured, target_ms=target_ms, limits=limits)
    spec = package.manifest.input
    if (choice.width, choice.height) in {fit_input(spec, *shape) for shape in shapes}:
        why.append(
            f"the input of {choice.width} x {choice.height} fits the pictures that are here; a "
            "camera of another shape would be shrunk further: measure again where one comes"
        )
    profile = DeviceProfile(
        package_sha256=package.sha256,
        machine=f"{platform.machine()}, {os.cpu_count()} cores",
        target_ms=target_ms,
        is_met=is_met,
        choice=choice,
        why=why,
        measured=measured,
    )
    return TuneReport(save_profile(profile_path(workspace), profile), profile)


def choose(
    measured: Sequence[MeasuredForm], *, target_ms: float, limits: ParityTargets
) -> tuple[Choice, bool, list[str]]:
    """The form to run, whether it keeps the target, and why it was chosen.

    Parameters
    ----------
    measured : sequence of MeasuredForm
    target_ms : float
        Largest p95.
    limits : ParityTargets
        What a form may lose: a backend can answer nonsense where another one does not.

    Raises
    ------
    PackageError
        If no form runs.
    """
    able = [one for one in measured if not one.reason]
    if not able:
        reasons = sorted({one.reason for one in measured})
        raise PackageError("package", ["no form of it runs here", *reasons])
    refused = {_name(one): _why_not(one, limits) for one in able}
    good = [one for one in able if not refused[_name(one)]]
    if not good:
        raise PackageError("package", ["no form of it answers as FP32 does", *refused.values()])
    fitting = [one for one in good if one.p95_ms <= target_ms]
    best = (
        min(fitting, key=lambda one: one.cpu_ms)
        if fitting
        else min(good, key=lambda one: one.p95_ms)
    )
    name = _name(best)
    why = [
        f"{name}: p95 {best.p95_ms:.1f} ms (target {target_ms:g}), {best.cpu_ms:.1f} ms of the "
        "processor a picture: "
        + (
            f"the cheapest of {len(fitting)} forms that keep the target"
            if fitting
            else f"the fastest of {len(good)} forms; none keeps the target"
        )
    ]
    others = [one for one in able if _name(one) != name]
    others.sort(key=lambda one: one.cpu_ms)
    if others:
        why.append(
            f"next: {_name(others[0])}, p95 {others[0].p95_ms:.1f} ms, "
            f"{others[0].cpu_ms:.1f} ms of the processor"
        )
    for one in able:
        same = _name(one.model_copy(update={"threads": best.threads})) == name
        if same and one.threads != best.threads:
            ratio = one.p50_ms / best.p50_ms
            says = f"{ratio:.1f} times slower" if ratio > 1 else f"{1 / ratio:.1f} times faster"
            why.append(
                f"with {one.threads} threads in place of {best.threads} it is {says} (median) and "
                f"costs {one.cpu_ms / best.cpu_ms:.1f} times the processor time"
            )
    if busy := _how_busy(able):
        why.append(
            f"this device was busy: by the clock a picture took {busy:.1f} times what the "
            "processor worked for it; measure again when it is idle, or count on these times"
        )
    why += [f"{name} is refused: {reason}" for name, reason in refused.items() if reason]
    why += sorted({f"{_name(one)} was not run: {one.reason}" for one in measured if one.reason})
    fields = {name: getattr(best, name) for name in Choice.model_fields}
    return Choice(**fields), bool(fitting), why


def _how_busy(able: Sequence[MeasuredForm]) -> float:
    """How many times longer than its work a call of one thread took; 0 where it hardly waited.

    Engines wait for a GPU: they say nothing of the processor.
    """
    ratios = [
        one.p50_ms / one.cpu_ms
        for one in able
        if one.threads == 1 and one.backend not in ENGINE_BACKENDS and one.cpu_ms > 0
    ]
    found = median(ratios) if ratios else 0.0
    return found if found > BUSY else 0.0


def _name(form: Choice) -> str:
    threads = f"{form.threads} thread{'s' if form.threads > 1 else ''}"
    return f"{form.backend} {form.precision}, {threads}, {form.width} x {form.height}"


def _why_not(form: MeasuredForm, limits: ParityTargets) -> str:
    """Why a form that runs must not be chosen; empty where it may."""
    is_int8 = form.precision.startswith("int8")
    allowed = limits.max_metric_loss_int8 if is_int8 else limits.max_metric_loss
    if form.loss > allowed + 1e-9:
        return f"it costs {form.loss:.4f} of {form.metric}, more than {allowed}"
    if form.agreement < limits.minimum_agreement - 1e-9:
        return f"only {form.agreement:.0%} of its decisions are FP32's"
    return ""


def _find_package(workspace: Workspace, keys: Sequence[Path]) -> tuple[ModelPackage, Path | None]:
    """The package here with its engine folder, or those of the newest release."""
    if workspace.package.is_dir():
        package = load_package(workspace.package, trusted_keys=keys)
        folder = workspace.engine if workspace.engine.is_dir() else None
        if folder is not None:
            try:
                load_manifest(folder, package_sha256=package.sha256, trusted_keys=keys)
            except VisionloopError as error:
                say_step(f"artifacts/engine is left out: {error.problems[0]}")
                folder = None
        return package, folder
    from visionloop.serving.releases.store import newest

    model = load_project(workspace.params).model
    release = newest(workspace.releases, model, keys)
    if release is None:
        raise PackageError(
            str(workspace.package), "there is no package and no release", "visionloop train export"
        )
    return load_package(release.package, trusted_keys=keys), release.engine


def _find_images(workspace: Workspace, count: int) -> tuple[Reference, Path]:
    """Images with truth from the export, else collected ones, else those that the edge kept."""
    path = workspace.reports / "export" / REFERENCE_NAME
    if path.is_file():
        known = load_reference(path)
        there = [one for one in known.samples if (workspace.images / one.file_name).is_file()]
        val = [one for one in there if one.split == "val"] or there
        if val:
            return known.model_copy(update={"samples": val[:count]}), workspace.images
    for folder in (workspace.images, workspace.edge / "frames"):
        try:
            return reference_of_folder(folder, count), folder
        except DataError:
            continue
    raise DataError(
        str(workspace.images), "holds no images to measure on", "visionloop data import fills it"
    )
