"""TensorRT engines: building them ahead of time, and the manifest that goes with them.

TensorRT-RTX builds for a named GPU architecture on a machine without a GPU; TensorRT
from JetPack builds on the device itself. Both take the precision from the ONNX file.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from visionloop.core.config import StrictModel
from visionloop.core.errors import PackageError
from visionloop.core.files import sha256_of_bytes
from visionloop.serving import signing

__all__ = [
    "ENGINE_MANIFEST",
    "ENGINE_SIGNATURE",
    "EngineManifest",
    "build_engine",
    "load_engine",
]

ENGINE_MANIFEST = "engine.json"
ENGINE_SIGNATURE = "engine.sig"
ENGINE_NAME = "model.engine"
FP16_NAME = "model-fp16.onnx"


class EngineManifest(StrictModel):
    """``engine.json``: what was built from which model, for which TensorRT and GPU."""

    format_version: Literal[1] = 1
    package_sha256: str
    precision: Literal["fp32", "fp16"]
    onnx_sha256: str
    onnx_file: str
    parity: dict[str, int | float]
    built: bool
    reason: str = ""
    kind: str = ""
    tensorrt_version: str = ""
    compute_capability: str = ""
    input_shapes: dict[str, list[int]] = Field(default={})
    layers: dict[str, int] = Field(default={})
    engine_file: str = ""
    engine_sha256: str = ""
    engine_bytes: int = 0
    seconds: float = 0.0


def build_engine(
    *, onnx: str, engine: str, compute_capability: str, max_batch: int
) -> dict[str, Any]:
    """Build an engine with the installed TensorRT. Call it apart: a native crash is possible.

    Parameters
    ----------
    onnx, engine : str
        Paths: the model to read and the engine to write.
    compute_capability : str
        GPU architecture such as ``"8.0"``, for TensorRT-RTX; TensorRT builds for the
        GPU that it runs on.
    max_batch : int
        Largest batch, where the model takes any number.

    Returns
    -------
    dict
        Fields of :class:`EngineManifest`; ``built`` is False with a reason where
        TensorRT is not installed or refuses the model.
    """
    from visionloop.serving.backends.tensorrt_backend import find_tensorrt

    library = find_tensorrt()
    if library is None:
        return {"built": False, "reason": "TensorRT is not installed on this machine"}
    trt = library.module
    found: dict[str, Any] = {"kind": library.kind, "tensorrt_version": library.version}
    start = time.monotonic()
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    strongly_typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(strongly_typed)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(Path(onnx).read_bytes()):
        errors = [str(parser.get_error(i)) for i in range(parser.num_errors)]
        return {**found, "built": False, "reason": "; ".join(errors)[:500]}
    config = builder.create_builder_config()
    if library.kind == "tensorrt_rtx":
        config.num_compute_capabilities = 1
        wanted = getattr(trt.ComputeCapability, "SM" + compute_capability.replace(".", ""), None)
        if wanted is None:
            reason = f"this TensorRT cannot build for compute capability {compute_capability}"
            return {**found, "built": False, "reason": reason}
        config.set_compute_capability(wanted, 0)
        found["compute_capability"] = compute_capability
    found["input_shapes"] = _set_profile(builder, network, config, max_batch)
    found["layers"] = _count_layers(network)
    serialised = builder.build_serialized_network(network, config)
    if serialised is None:
        return {**found, "built": False, "reason": "TensorRT could not build this model"}
    content = bytes(serialised)
    Path(engine).write_bytes(content)
    found |= {"engine_sha256": sha256_of_bytes(content), "engine_bytes": len(content)}
    return {**found, "built": True, "seconds": round(time.monotonic() - start, 3)}


def _set_profile(builder: Any, network: Any, config: Any, max_batch: int) -> dict[str, list[int]]:
    """Give free dimensions a range from 1 to ``max_batch``; returns the largest shapes."""
    profile = builder.create_optimization_profile()
    largest = {}
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        sizes = [int(size) for size in tensor.shape]
        low = [1 if size < 0 else size for size in sizes]
        high = [max_batch if size < 0 else size for size in sizes]
        if low != sizes:
            profile.set_shape(tensor.name, low, low, high)
        largest[str(tensor.name)] = high
    config.add_optimization_profile(profile)
    return largest


def _count_layers(network: Any) -> dict[str, int]:
    """Layers by the type of their first output: HALF shows that FP16 is really there."""
    counts: dict[str, int] = {}
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.num_outputs:
            name = str(layer.get_output(0).dtype).rpartition(".")[2]
            counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))


def load_engine(
    folder: Path, *, package_sha256: str, trusted_keys: Sequence[Path] | None = None
) -> tuple[EngineManifest, bytes]:
    """Verify an engine folder and read the engine that fits this machine's TensorRT.

    Raises
    ------
    PackageError
        If the folder was changed, belongs to another package, holds no engine, or was
        built with another TensorRT than the one installed here.
    """
    from visionloop.serving.backends.tensorrt_backend import find_tensorrt

    keys = list(trusted_keys) if trusted_keys is not None else signing.trusted_keys()
    signing.verify_folder(folder, keys=keys, signature_name=ENGINE_SIGNATURE)
    try:
        manifest = EngineManifest.model_validate_json((folder / ENGINE_MANIFEST).read_bytes())
    except (OSError, ValidationError) as error:
        raise PackageError(str(folder), f"engine.json cannot be read: {error}") from None
    if manifest.package_sha256 != package_sha256:
        raise PackageError(str(folder), "the engine was built from another package")
    if not manifest.built:
        raise PackageError(str(folder), f"holds no engine: {manifest.reason}")
    library = find_tensorrt()
    here = (library.kind, library.version) if library else ("no TensorRT", "")
    if here != (manifest.kind, manifest.tensorrt_version):
        raise PackageError(
            str(folder),
            f"was built by {manifest.kind} {manifest.tensorrt_version}; here is {' '.join(here)}",
            "build it here: visionloop serve build",
        )
    content = (folder / manifest.engine_file).read_bytes()
    if sha256_of_bytes(content) != manifest.engine_sha256:
        raise PackageError(str(folder), "the engine does not have the SHA-256 of engine.json")
    return manifest, content
