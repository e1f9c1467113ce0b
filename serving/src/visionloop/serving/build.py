"""``visionloop serve build``: precision variants, their parity, and TensorRT engines."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionloop.core.config import ProjectParams, load_blocks
from visionloop.core.errors import DataError, PackageError
from visionloop.core.files import replace_folder, write_json
from visionloop.core.progress import say_step
from visionloop.core.targets import ParityTargets, load_targets
from visionloop.core.workspace import Workspace
from visionloop.serving import signing
from visionloop.serving.engines.cache import EngineCache
from visionloop.serving.engines.record import (
    ENGINE_MANIFEST,
    ENGINE_PRECISIONS,
    ENGINE_SIGNATURE,
    EngineFacts,
    EngineManifest,
    VariantFacts,
)
from visionloop.serving.package import MODEL_NAME, ModelPackage, load_package
from visionloop.serving.params import BuildParams, ServingParams
from visionloop.serving.predictor import Predictor
from visionloop.serving.releases.golden import GOLDEN_NAME, write_golden
from visionloop.serving.tuning.measure import measure_forms
from visionloop.serving.variants.make import make_variants
from visionloop.serving.variants.parity_page import write_parity_page
from visionloop.serving.variants.reference import (
    REFERENCE_NAME,
    Reference,
    load_reference,
    readable,
    reference_of_folder,
)
from visionloop.serving.variants.smaller_input import make_smaller

__all__ = ["BuildReport", "build"]


@dataclass(frozen=True)
class BuildReport:
    """What was built.

    Attributes
    ----------
    folder : Path
        Holds accepted variants, engines, ``engine.json`` and its signature.
    page : Path
        The parity page.
    manifest : EngineManifest
    """

    folder: Path
    page: Path
    manifest: EngineManifest


def build(
    *, workspace: Workspace, package: Path | None = None, into: Path | None = None
) -> BuildReport:
    """Make FP16 and INT8, compare them with FP32, build engines of what passed, sign all of it.

    Reads ``artifacts/package`` and the images of ``reports/export/reference.json`` (where there
    is none, the first of ``data/raw/images``, with FP32's answers as truth); writes
    ``artifacts/engine`` and ``reports/parity``. A variant that loses more than ``targets.yaml``
    allows is left out, and so is its engine; ``engine.json`` says why.

    Parameters
    ----------
    package, into : Path or None
        Another package than ``artifacts/package``, and where its engines go.

    Raises
    ------
    PackageError
        If the package is not in order.
    DataError
        If there is no image to compare on.
    """
    blocks = load_blocks(workspace.params, {"project": ProjectParams, "serving": ServingParams})
    params: BuildParams = blocks["serving"].build
    limits = load_targets(workspace.targets).parity if workspace.targets.is_file() else None
    limits = limits or ParityTargets()
    keys, key = signing.trusted_keys(), signing.signing_key()
    loaded = load_package(package or workspace.package, trusted_keys=keys)
    _refuse_other_task(loaded, blocks["project"])
    reference = _find_reference(workspace, loaded, params)
    sources = _Sources(loaded, workspace.images, reference, keys, params)
    folder = into or workspace.engine
    with (
        replace_folder(folder) as staging,
        tempfile.TemporaryDirectory() as pictures,
    ):
        made = make_variants(
            loaded, folder=staging, pictures=Path(pictures), **sources.shared, limits=limits
        )
        cache = EngineCache(workspace.engine_cache)
        manifest = _make_manifest(sources, staging, [one.facts for one in made], cache)
        _write_golden(sources, staging / GOLDEN_NAME)
        write_json(staging / ENGINE_MANIFEST, manifest.model_dump(mode="json"))
        signing.sign_folder(staging, key=key, signature_name=ENGINE_SIGNATURE)
        page = write_parity_page(workspace.reports / "parity", loaded, manifest, made, limits)
    return BuildReport(folder, page, manifest)


@dataclass(frozen=True)
class _Sources:
    """What every step of a build starts from."""

    package: ModelPackage
    images: Path
    reference: Reference
    keys: list[Path]
    params: BuildParams

    @property
    def shared(self) -> dict[str, Any]:
        """Keyword arguments of the steps, beside the package."""
        return {
            "images": self.images,
            "reference": self.reference,
            "keys": self.keys,
            "params": self.params,
        }

    def first(self, count: int) -> list[Path]:
        """The first image files of the reference."""
        return [self.images / one.file_name for one in self.reference.samples[:count]]


def _make_manifest(
    sources: _Sources, folder: Path, variants: list[VariantFacts], cache: EngineCache
) -> EngineManifest:
    """Engines of the accepted variants, the smaller input, and the time that each form takes."""
    package, params = sources.package, sources.params
    accepted = [one for one in variants if one.accepted and one.size is None]
    engines = [
        _build_one(cache, folder, one.precision, one.onnx_file, params)
        for one in accepted
        if one.precision in ENGINE_PRECISIONS
    ]
    smaller = make_smaller(package, folder=folder, **sources.shared)
    files = {"fp32": str(package.path / MODEL_NAME)}
    files |= {one.precision: str(folder / one.onnx_file) for one in accepted}
    say_step("serving: measuring time and memory of each form")
    return EngineManifest(
        package_sha256=package.sha256,
        model_sha256=package.manifest.files[MODEL_NAME],
        variants=variants,
        engines=engines,
        smaller=smaller,
        measured=measure_forms(
            package,
            keys=sources.keys,
            models=files,
            engines={one.precision: str(folder / one.engine_file) for one in engines if one.built},
            images=sources.first(8),
            params=params,
        ),
    )


def _write_golden(sources: _Sources, folder: Path) -> None:
    """Embeddings alone have no answers that a device could check."""
    if sources.package.manifest.vision_task != "embedding":
        predictor = Predictor(sources.package, threads=1)
        write_golden(folder, predictor, sources.first(sources.params.golden_images))


def _build_one(
    cache: EngineCache, folder: Path, precision: str, onnx_file: str, params: BuildParams
) -> EngineFacts:
    """An engine from the cache, or a new one; a failure is a reason, not an end."""
    say_step(f"serving: building the TensorRT engine of {precision}")
    facts, content = cache.provide(
        onnx=folder / onnx_file,
        precision=precision,
        compute_capability=params.compute_capability,
        max_batch=params.max_batch,
        timeout_s=params.timeout_s,
    )
    if not facts.built or content is None:
        return facts
    name = f"model-{precision}.engine"
    (folder / name).write_bytes(content)
    return facts.model_copy(update={"engine_file": name})


def _refuse_other_task(package: ModelPackage, project: ProjectParams) -> None:
    """A package of another project must not be compared on this one's pictures."""
    manifest = package.manifest
    if manifest.vision_task not in (project.vision_task, "embedding"):
        raise PackageError(
            str(package.path),
            f"is for {manifest.vision_task}, the project for {project.vision_task}",
            "visionloop train export",
        )


def _find_reference(workspace: Workspace, package: ModelPackage, params: BuildParams) -> Reference:
    """The images of the export; their truth only where it is that of this package's data."""
    path = workspace.reports / "export" / REFERENCE_NAME
    if path.is_file():
        found = load_reference(path)
        there = readable(found.samples, workspace.images)
        if found.dataset_fingerprint != package.manifest.lineage.dataset_fingerprint:
            bare = {"class_id": None, "attributes": None, "xyxy": None, "box_class_id": None}
            there = [one.model_copy(update=bare) for one in there]
        if there:
            return found.model_copy(update={"samples": there})
    count = params.parity_images + params.calibration_images
    found = reference_of_folder(workspace.images, count)
    there = readable(found.samples, workspace.images)
    if not there:
        raise DataError(str(workspace.images), "holds no image that can be read")
    return found.model_copy(update={"samples": there})
