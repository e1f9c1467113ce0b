"""``visionloop serve build``: a package's FP16 variant, its parity, and a TensorRT engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionloop.core.config import ProjectParams, load_blocks
from visionloop.core.errors import DataError, VisionloopError
from visionloop.core.files import replace_folder, sha256_of_file, write_json
from visionloop.core.progress import say_step
from visionloop.core.workspace import Workspace
from visionloop.serving import signing
from visionloop.serving.apart import run_apart
from visionloop.serving.engines import (
    ENGINE_MANIFEST,
    ENGINE_NAME,
    ENGINE_SIGNATURE,
    FP16_NAME,
    EngineManifest,
    build_engine,
)
from visionloop.serving.golden import GOLDEN_NAME, write_golden
from visionloop.serving.images import IMAGE_SUFFIXES
from visionloop.serving.package import MODEL_NAME, load_package
from visionloop.serving.params import BuildParams, ServingParams
from visionloop.serving.parity import compare_package_with
from visionloop.serving.precision import write_fp16
from visionloop.serving.predictor import Predictor

__all__ = ["BuildReport", "build"]


@dataclass(frozen=True)
class BuildReport:
    """What was built.

    Attributes
    ----------
    folder : Path
        Holds ``model-fp16.onnx``, ``engine.json``, its signature, and the engine.
    manifest : EngineManifest
    """

    folder: Path
    manifest: EngineManifest


def build(*, workspace: Workspace) -> BuildReport:
    """Convert the package to FP16, compare on real images, build an engine, sign all of it.

    Reads ``artifacts/package`` and a fixed sample of ``data/raw/images``; writes
    ``artifacts/engine``. Where TensorRT is absent, or FP16 is too far from FP32, no
    engine is built and ``engine.json`` says why.

    Raises
    ------
    PackageError
        If the package is not in order.
    DataError
        If there is no image to compare on.
    VisionloopError
        If the conversion fails.
    """
    blocks = load_blocks(workspace.params, {"project": ProjectParams, "serving": ServingParams})
    params: BuildParams = blocks["serving"].build
    keys, key = signing.trusted_keys(), signing.signing_key()
    package = load_package(workspace.package, trusted_keys=keys)
    images = _sample_images(workspace.images, params.parity_images)
    with replace_folder(workspace.engine) as staging:
        fp16 = staging / FP16_NAME
        say_step("serving: converting the package to FP16")
        _apart(write_fp16, {"source": str(package.path / MODEL_NAME), "target": str(fp16)}, params)
        say_step(f"serving: comparing FP16 with FP32 on {len(images)} images")
        compared = {
            "package": str(package.path),
            "trusted_keys": [str(path) for path in keys],
            "model": str(fp16),
            "images": [str(image) for image in images],
        }
        parity = _apart(compare_package_with, compared, params)
        manifest = EngineManifest(
            package_sha256=package.sha256,
            precision="fp16",
            onnx_sha256=sha256_of_file(fp16),
            onnx_file=FP16_NAME,
            parity=parity,
            **_build_engine(fp16, staging / ENGINE_NAME, parity, params),
        )
        if package.manifest.vision_task != "embedding":
            golden = images[: params.golden_images]
            write_golden(staging / GOLDEN_NAME, Predictor(package, threads=1), golden)
        write_json(staging / ENGINE_MANIFEST, manifest.model_dump(mode="json"))
        signing.sign_folder(staging, key=key, signature_name=ENGINE_SIGNATURE)
    return BuildReport(workspace.engine, manifest)


def _build_engine(
    fp16: Path, engine: Path, parity: dict[str, int | float], params: BuildParams
) -> dict[str, Any]:
    """Fields of the manifest that tell about the engine; a failure is a reason, not an end."""
    if parity["max_difference"] > params.fp16_max_difference:
        return {
            "built": False,
            "reason": f"FP16 differs from FP32 by {parity['max_difference']:.4f}, "
            f"more than {params.fp16_max_difference}",
        }
    say_step("serving: building the TensorRT engine")
    wanted = {
        "onnx": str(fp16),
        "engine": str(engine),
        "compute_capability": params.compute_capability,
        "max_batch": params.max_batch,
    }
    try:
        found: dict[str, Any] = _apart(build_engine, wanted, params)
    except VisionloopError as error:
        found = {"built": False, "reason": "; ".join(error.problems)}
    if found["built"]:
        found["engine_file"] = ENGINE_NAME
    else:
        engine.unlink(missing_ok=True)
    return found


def _apart(function: Any, arguments: dict[str, Any], params: BuildParams) -> Any:
    name = f"{function.__module__}:{function.__name__}"
    return run_apart(name, arguments, timeout_s=params.timeout_s)


def _sample_images(folder: Path, count: int) -> list[Path]:
    """The first images in the order of their names: names are hashes, so a random draw."""
    files = [p for p in sorted(folder.glob("*")) if p.suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        raise DataError(
            str(folder), "holds no images to compare FP16 on", "visionloop data import fills it"
        )
    return files[:count]
