"""``engine.json``: which precision variants and TensorRT engines belong to a package, and why not.

The folder travels with a release: accepted variants (ONNX), engines built ahead of time, and
the reasons for what is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from visionloop.core.config import StrictModel
from visionloop.core.errors import PackageError
from visionloop.core.files import canonical_json, sha256_of_bytes, sha256_of_file
from visionloop.serving import signing

__all__ = [
    "ENGINE_MANIFEST",
    "ENGINE_PRECISIONS",
    "ENGINE_SIGNATURE",
    "EngineFacts",
    "EngineManifest",
    "Precision",
    "SmallerFacts",
    "VariantFacts",
    "engine_key",
    "load_engine",
    "load_manifest",
    "read_smaller",
    "read_variant",
]

ENGINE_MANIFEST = "engine.json"
ENGINE_SIGNATURE = "engine.sig"

Precision = Literal["fp32", "fp16", "int8", "int8-cpu"]
"""``int8`` has signed activations, for TensorRT; ``int8-cpu`` unsigned ones, for processors."""

ENGINE_PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
"""Of which TensorRT builds engines: it refuses the zero points of ``int8-cpu``."""

RTX_NOTE = (
    "built ahead of time by TensorRT-RTX on a machine without a GPU: proves parser, builder and "
    "precision, not the speed of a Jetson, whose compute capability it cannot build for"
)


class VariantFacts(StrictModel):
    """One precision variant of the package's model."""

    precision: Precision
    accepted: bool
    width: int = Field(default=0, description="of a fitted input; 0: the package's own")
    height: int = 0
    reasons: list[str] = Field(default=[], description="why it was refused")
    onnx_file: str = Field(default="", description="empty where it was refused")
    onnx_sha256: str = ""
    onnx_bytes: int = 0
    parity: dict[str, int | float | str] = Field(
        default={}, description="against FP32 at the package's own input"
    )
    kept_in_float: list[str] = Field(default=[], description="layers of INT8 that stay float32")
    layers: int = Field(default=0, description="layers that INT8 could quantize")
    calibration: list[str] = Field(default=[], description="images, chosen for coverage")
    seconds: float = 0.0

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of a fitted input; None for the package's own."""
        return (self.width, self.height) if self.width else None

    @property
    def name(self) -> str:
        """For people."""
        fitted = f" for {self.width} x {self.height}" if self.width else ""
        return f"{self.precision}{fitted}"


class SmallerFacts(StrictModel):
    """The model at a smaller input, for a device under pressure."""

    width: int = Field(gt=0)
    height: int = Field(gt=0)
    accepted: bool
    reasons: list[str] = Field(default=[], description="why it was refused")
    onnx_file: str = Field(default="", description="empty where it was refused")
    onnx_sha256: str = ""
    onnx_bytes: int = 0
    parity: dict[str, int | float | str] = Field(default={}, description="against the full input")


class EngineFacts(StrictModel):
    """One TensorRT engine, or why there is none."""

    precision: Precision
    onnx_sha256: str
    built: bool
    reason: str = ""
    kind: str = Field(default="", description="tensorrt or tensorrt_rtx")
    tensorrt_version: str = ""
    compute_capability: str = ""
    shapes: dict[str, dict[str, list[int]]] = Field(
        default={}, description="input to its smallest (min), usual (opt) and largest (max) shape"
    )
    layers: dict[str, dict[str, int]] = Field(
        default={}, description="of the network definition: layer type, data type, count"
    )
    engine_file: str = ""
    engine_sha256: str = ""
    engine_bytes: int = 0
    seconds: float = 0.0
    key: str = Field(default="", description="of the cache: see engine_key")
    from_cache: bool = False
    note: str = ""


class EngineManifest(StrictModel):
    """The whole of ``engine.json``."""

    format_version: Literal[2] = 2
    package_sha256: str
    model_sha256: str = Field(default="", description="of the package's own FP32 ONNX")
    variants: list[VariantFacts] = Field(default=[])
    engines: list[EngineFacts] = Field(default=[])
    smaller: SmallerFacts | None = Field(default=None, description="null: none was asked for")
    measured: list[dict[str, float | int | str]] = Field(
        default=[], description="milliseconds and memory of each form on the machine that built"
    )

    @property
    def built(self) -> list[EngineFacts]:
        """The engines that are there."""
        return [one for one in self.engines if one.built]

    @property
    def missing(self) -> list[str]:
        """What a release goes without, and why, one line each."""
        lines = [
            f"goes without {one.name}: {'; '.join(one.reasons)}"
            for one in self.variants
            if not one.accepted
        ]
        if self.smaller is not None and not self.smaller.accepted:
            lines.append(f"goes without a smaller input: {'; '.join(self.smaller.reasons)}")
        return lines + [
            f"goes without an engine of {one.precision}: {one.reason}"
            for one in self.engines
            if not one.built
        ]

    def variant(self, precision: str, size: tuple[int, int] | None = None) -> VariantFacts | None:
        """The accepted variant of a precision at a fitted input (None: the own), or None."""
        wanted = (precision, size, True)
        found = (v for v in self.variants if (v.precision, v.size, v.accepted) == wanted)
        return next(found, None)


def engine_key(
    *,
    onnx_sha256: str,
    precision: str,
    kind: str,
    tensorrt_version: str,
    compute_capability: str,
    max_batch: int,
) -> str:
    """Under which an engine is cached: it is another one if any of these is another.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    facts = [onnx_sha256, precision, kind, tensorrt_version, compute_capability, str(max_batch)]
    return sha256_of_bytes(canonical_json(facts))[:32]


def load_manifest(
    folder: Path, *, package_sha256: str, trusted_keys: Sequence[Path] | None = None
) -> EngineManifest:
    """Verify an engine folder and read its manifest.

    Raises
    ------
    PackageError
        If the folder was changed or belongs to another package.
    """
    keys = list(trusted_keys) if trusted_keys is not None else signing.trusted_keys()
    signing.verify_folder(folder, keys=keys, signature_name=ENGINE_SIGNATURE)
    try:
        manifest = EngineManifest.model_validate_json((folder / ENGINE_MANIFEST).read_bytes())
    except (OSError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise PackageError(str(folder), f"engine.json cannot be read: {first}") from None
    if manifest.package_sha256 != package_sha256:
        raise PackageError(str(folder), "the engine was built from another package")
    return manifest


def read_variant(
    folder: Path,
    manifest: EngineManifest,
    precision: str,
    size: tuple[int, int] | None = None,
) -> bytes:
    """The ONNX bytes of an accepted variant, at the package's input or a fitted one.

    Raises
    ------
    PackageError
        If there is none, or its file is not the one of the manifest.
    """
    variant = manifest.variant(precision, size)
    if variant is None:
        refused = [v for v in manifest.variants if (v.precision, v.size) == (precision, size)]
        why = "; ".join(refused[0].reasons) if refused else "it was not asked for"
        raise PackageError(str(folder), f"holds no {precision} variant: {why}")
    return _read_onnx(folder / variant.onnx_file, variant.onnx_sha256)


def read_smaller(folder: Path, manifest: EngineManifest) -> tuple[SmallerFacts, bytes]:
    """The model at a smaller input, with its facts.

    Raises
    ------
    PackageError
        If there is none, or its file is not the one of the manifest.
    """
    facts = manifest.smaller
    if facts is None or not facts.accepted:
        why = "; ".join(facts.reasons) if facts else "it was not asked for"
        raise PackageError(str(folder), f"holds no smaller input: {why}")
    return facts, _read_onnx(folder / facts.onnx_file, facts.onnx_sha256)


def _read_onnx(path: Path, sha256: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PackageError(str(path), str(error.strerror)) from None
    if sha256_of_bytes(content) != sha256:
        raise PackageError(str(path), "does not have the SHA-256 it should")
    return content


def load_engine(
    folder: Path,
    *,
    package_sha256: str,
    trusted_keys: Sequence[Path] | None = None,
    backend: str = "tensorrt",
) -> tuple[EngineFacts, bytes]:
    """Verify an engine folder and read the engine that fits this machine.

    Parameters
    ----------
    folder : Path
    package_sha256 : str
    trusted_keys : sequence of Path or None
    backend : str
        ``tensorrt`` takes any TensorRT of this machine, ``tensorrt_rtx`` only that one.

    Raises
    ------
    PackageError
        If the folder was changed, belongs to another package, holds no engine, or none that
        was built by the TensorRT and for the GPU of this machine.
    """
    from visionloop.serving.backends.tensorrt_backend import find_tensorrt, gpu_capability

    manifest = load_manifest(folder, package_sha256=package_sha256, trusted_keys=trusted_keys)
    if not manifest.built:
        reasons = "; ".join(sorted({one.reason for one in manifest.engines})) or "none was built"
        raise PackageError(str(folder), f"holds no engine: {reasons}")
    library = find_tensorrt("tensorrt_rtx" if backend == "tensorrt_rtx" else "")
    here = (library.kind, library.version) if library else ("no TensorRT", "")
    gpu = gpu_capability()
    problems = []
    for one in manifest.built:
        if (one.kind, one.tensorrt_version) != here:
            made = f"{one.kind} {one.tensorrt_version}"
            problems.append(f"was built by {made}; here is {' '.join(here)}".rstrip())
        elif gpu and one.compute_capability and one.compute_capability != gpu:
            problems.append(f"was built for a GPU of {one.compute_capability}; here is {gpu}")
        elif sha256_of_file(folder / one.engine_file) != one.engine_sha256:
            problems.append("the engine does not have the SHA-256 of engine.json")
        else:
            return one, (folder / one.engine_file).read_bytes()
    raise PackageError(
        str(folder), sorted(set(problems)), "it is built here: visionloop serve build"
    )
