"""The engine of a release for the device at hand: taken over, found in the cache, or built.

Nothing foreign is loaded here before a process of its own has loaded it and compared its
answers with those of ONNX Runtime.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from visionloop.core.errors import PackageError, VisionloopError
from visionloop.core.progress import say_step
from visionloop.serving import signing
from visionloop.serving.apart import call_apart
from visionloop.serving.backends.table import ENGINE_BACKENDS
from visionloop.serving.engines.cache import EngineCache
from visionloop.serving.engines.record import load_engine, load_manifest, read_variant
from visionloop.serving.failover import FailoverPredictor
from visionloop.serving.package import MODEL_NAME, ModelPackage, load_package
from visionloop.serving.params import BuildParams
from visionloop.serving.predictor import Predictor
from visionloop.serving.releases.golden import GOLDEN_NAME, check_golden
from visionloop.serving.tuning.device_profile import Choice, load_profile
from visionloop.serving.variants.close_calls import NEAR_THRESHOLD
from visionloop.serving.variants.parity import SEARCH_CONFIDENCE, compare_predictions
from visionloop.serving.variants.resize_model import at_size, resize_model

__all__ = ["check_engine", "open_tuned", "prepare_engine", "start_with_engine"]

PREFERRED = ("int8", "fp16")
"""Precisions to build where the release's own engine does not fit."""


def start_with_engine(
    package: ModelPackage,
    engine_folder: Path | None,
    *,
    cache: Path,
    threads: int | None = None,
    backend: str = "tensorrt",
    params: BuildParams | None = None,
    trusted_keys: Sequence[Path] | None = None,
) -> FailoverPredictor:
    """Serve at once, and by TensorRT as soon as there is an engine of this device.

    Parameters
    ----------
    package : ModelPackage
    engine_folder : Path or None
        Of the release; None where it holds none.
    cache : Path
        Folder of the engines that were built here.
    threads : int or None
        Of ONNX Runtime.
    backend : str
        ``tensorrt`` or ``tensorrt_rtx``.
    params : BuildParams or None
        Largest batch and time limit.
    trusted_keys : sequence of Path or None
        Public keys; None takes those of ``VISIONLOOP_TRUSTED_KEYS``.
    """
    keys = list(trusted_keys) if trusted_keys is not None else signing.trusted_keys()

    def prepare() -> Predictor:
        content = prepare_engine(
            package, engine_folder, cache=cache, backend=backend, params=params, trusted_keys=keys
        )
        return Predictor(package, backend=backend, model=content)

    say_step(f"ONNX Runtime serves while the {backend} engine is prepared")
    return FailoverPredictor(Predictor(package, threads=threads), prepare)


def open_tuned(
    package: ModelPackage,
    engine_folder: Path | None,
    *,
    profile: Path,
    cache: Path,
    spare: int,
    batch_size: int = 8,
) -> Predictor | FailoverPredictor:
    """The form that ``visionloop serve tune`` chose; without a fitting profile, ONNX Runtime.

    A form that answers the release's golden images otherwise than FP32 does not serve either:
    it was measured on other pictures.

    Parameters
    ----------
    package : ModelPackage
    engine_folder : Path or None
        Of the release.
    profile : Path
        ``device.json``.
    cache : Path
        Folder of this device's engines.
    spare : int
        Threads of ONNX Runtime where there is no profile.
    batch_size : int
        Most pictures in one call.
    """
    try:
        known = load_profile(profile)
        if known.package_sha256 != package.sha256:
            raise PackageError("device.json", "was measured with another package")
        if known.choice.backend in ENGINE_BACKENDS:
            return start_with_engine(
                package, engine_folder, cache=cache, threads=spare, backend=known.choice.backend
            )
        tuned = _open_choice(package, engine_folder, known.choice, batch_size)
        golden = engine_folder / GOLDEN_NAME if engine_folder is not None else None
        if golden is not None and golden.is_dir():
            check_golden(golden, tuned, against=_fp32_at_size(package, known.choice))
        return tuned
    except VisionloopError as error:
        say_step(
            f"ONNX Runtime serves, not the tuned form: {error.problems[0]}; visionloop serve tune"
        )
        return Predictor(package, threads=spare, batch_size=batch_size)


def _fp32_at_size(package: ModelPackage, choice: Choice) -> Predictor | None:
    """At another input than the package's the shipped answers are others: FP32's count there."""
    spec = package.manifest.input
    if (choice.width, choice.height) == (spec.width, spec.height):
        return None
    resized, content = resize_model(package, package.read_model(), choice.width, choice.height)
    return Predictor(resized, threads=1, model=content, batch_size=1)


def _open_choice(
    package: ModelPackage, engine_folder: Path | None, choice: Choice, batch_size: int
) -> Predictor:
    content = package.read_model()
    if choice.precision != "fp32":
        if engine_folder is None:
            raise PackageError(str(package.path), f"its release holds no {choice.precision}")
        manifest = load_manifest(
            engine_folder, package_sha256=package.sha256, trusted_keys=signing.trusted_keys()
        )
        size = (choice.width, choice.height)
        if manifest.variant(choice.precision, size) is not None:  # made for this very input
            content = read_variant(engine_folder, manifest, choice.precision, size)
            return _open(at_size(package, *size), choice, content, batch_size)
        content = read_variant(engine_folder, manifest, choice.precision)
    resized, content = resize_model(package, content, choice.width, choice.height)
    return _open(resized, choice, content, batch_size)


def _open(package: ModelPackage, choice: Choice, content: bytes, batch_size: int) -> Predictor:
    return Predictor(
        package,
        backend=choice.backend,
        threads=choice.threads,
        model=content,
        batch_size=batch_size,
    )


def prepare_engine(
    package: ModelPackage,
    engine_folder: Path | None,
    *,
    cache: Path,
    backend: str = "tensorrt",
    params: BuildParams | None = None,
    trusted_keys: Sequence[Path],
) -> bytes:
    """An engine that this device loads and whose answers are right.

    Raises
    ------
    VisionloopError
        If there is none and none can be built, or it does not run here.
    """
    wanted = params or BuildParams()
    reasons = []
    if engine_folder is not None:
        try:
            _, content = load_engine(
                engine_folder,
                package_sha256=package.sha256,
                trusted_keys=trusted_keys,
                backend=backend,
            )
            _check(package, content, backend, trusted_keys, wanted)
            return content
        except VisionloopError as error:
            reasons.append("; ".join(error.problems))
            say_step(f"the release's engine cannot be used: {reasons[-1]}; building one here")
    content = _build_here(package, engine_folder, cache, backend, wanted, trusted_keys)
    _check(package, content, backend, trusted_keys, wanted)
    return content


def check_engine(
    *, package: str, trusted_keys: list[str], engine: str, backend: str
) -> dict[str, float]:
    """Load an engine and compare its answers with ONNX Runtime's on drawn pictures. Call it apart.

    Raises
    ------
    PackageError
        If it cannot be loaded, fails, or decides differently.
    """
    loaded = load_package(Path(package), trusted_keys=[Path(key) for key in trusted_keys])
    spec = loaded.manifest.input
    rng = np.random.default_rng(0)
    pictures = [
        (rng.random((spec.height, spec.width, 3)) * level).astype(np.uint8) for level in (60, 255)
    ]
    fast = Predictor(loaded, backend=backend, model=Path(engine).read_bytes())
    standby = Predictor(loaded, threads=1)
    if loaded.manifest.vision_task == "embedding":
        a, b = standby.embed(pictures), fast.embed(pictures)
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        agreement = float(((a * b).sum(axis=1) / np.maximum(norms, 1e-12)).min())
    else:
        low = SEARCH_CONFIDENCE
        agreement = compare_predictions(
            standby.predict(pictures, minimum_confidence=low),
            fast.predict(pictures, minimum_confidence=low),
            near=NEAR_THRESHOLD,
        ).agreement
    if agreement < 0.9:
        raise PackageError(engine, f"only {agreement:.0%} of its answers are ONNX Runtime's")
    return {"agreement": agreement}


def _check(
    package: ModelPackage,
    content: bytes,
    backend: str,
    keys: Sequence[Path],
    params: BuildParams,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        engine = Path(folder) / "model.engine"
        engine.write_bytes(content)
        arguments = {
            "package": str(package.path),
            "trusted_keys": [str(key) for key in keys],
            "engine": str(engine),
            "backend": backend,
        }
        call_apart(check_engine, arguments, timeout_s=params.timeout_s)


def _build_here(
    package: ModelPackage,
    engine_folder: Path | None,
    cache: Path,
    backend: str,
    params: BuildParams,
    keys: Sequence[Path],
) -> bytes:
    """Build the best accepted variant of the release; without one, the package's FP32 model."""
    sources = [("fp32", package.path / MODEL_NAME)]
    if engine_folder is not None:
        try:
            manifest = load_manifest(
                engine_folder, package_sha256=package.sha256, trusted_keys=keys
            )
            accepted = [manifest.variant(precision) for precision in PREFERRED]
            found = [(v.precision, engine_folder / v.onnx_file) for v in accepted if v]
            sources = [*found, *sources]
        except PackageError as error:
            say_step(f"the release's variants cannot be used: {error.problems[0]}")
    reasons = []
    for precision, onnx in sources:
        facts, content = EngineCache(cache).provide(
            onnx=onnx,
            precision=precision,
            compute_capability=params.compute_capability,
            max_batch=params.max_batch,
            timeout_s=params.timeout_s,
            kind="tensorrt_rtx" if backend == "tensorrt_rtx" else "",
        )
        if content is not None:
            return content
        reasons.append(f"{precision}: {facts.reason}")
    raise PackageError(str(package.path), [f"no engine could be built: {one}" for one in reasons])
