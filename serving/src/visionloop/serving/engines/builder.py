"""Builds TensorRT engines: one builder for ``tensorrt`` and ``tensorrt_rtx``.

TensorRT-RTX builds for a named GPU architecture on a machine without a GPU; TensorRT from
JetPack builds on the device itself. Networks are strongly typed: the precision is that of the
ONNX file. Call it apart: a native crash is possible.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from visionloop.core.files import sha256_of_bytes, sha256_of_file, write_bytes
from visionloop.serving.backends.tensorrt_backend import TensorRtLibrary, find_tensorrt
from visionloop.serving.engines.record import RTX_NOTE, engine_key

__all__ = ["build_engine", "describe_network"]


def build_engine(
    *,
    onnx: str,
    engine: str,
    precision: str,
    compute_capability: str,
    max_batch: int,
    kind: str = "",
) -> dict[str, Any]:
    """Build an engine with the installed TensorRT.

    Parameters
    ----------
    onnx, engine : str
        Paths: the model to read and the engine to write.
    precision : str
        What the ONNX file is, for the manifest.
    compute_capability : str
        GPU architecture such as ``"8.0"``, for TensorRT-RTX; TensorRT builds for the
        GPU that it runs on.
    max_batch : int
        Largest batch, where the model takes any number; a model with a fixed one keeps it.
    kind : str
        ``tensorrt`` or ``tensorrt_rtx``; empty takes what is installed.

    Returns
    -------
    dict
        Fields of :class:`EngineFacts`; ``built`` is False with a reason where TensorRT is not
        installed or refuses the model.
    """
    found: dict[str, Any] = {"precision": precision, "onnx_sha256": sha256_of_file(Path(onnx))}
    library = find_tensorrt(kind)
    if library is None:
        return {**found, "built": False, "reason": "TensorRT is not installed on this machine"}
    found |= {"kind": library.kind, "tensorrt_version": library.version}
    start = time.monotonic()
    try:
        content = _build(library, Path(onnx), compute_capability, max_batch, found)
    except _RefusedError as error:
        return {**found, "built": False, "reason": str(error)}
    write_bytes(Path(engine), content)
    key = engine_key(
        onnx_sha256=found["onnx_sha256"],
        precision=precision,
        kind=library.kind,
        tensorrt_version=library.version,
        compute_capability=found["compute_capability"],
        max_batch=max_batch,
    )
    return {
        **found,
        "built": True,
        "engine_sha256": sha256_of_bytes(content),
        "engine_bytes": len(content),
        "seconds": round(time.monotonic() - start, 3),
        "key": key,
        "note": RTX_NOTE if library.kind == "tensorrt_rtx" else "",
    }


class _RefusedError(Exception):
    """TensorRT does not take the model, or cannot build for that GPU."""


def _build(
    library: TensorRtLibrary,
    onnx: Path,
    compute_capability: str,
    max_batch: int,
    found: dict[str, Any],
) -> bytes:
    """The engine; ``found`` learns capability, shapes and layers, also of what then fails."""
    trt = library.module
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx.read_bytes()):
        errors = [str(parser.get_error(i)) for i in range(parser.num_errors)]
        raise _RefusedError("; ".join(errors)[:500])
    config = builder.create_builder_config()
    found["compute_capability"], reason = _set_target(library, config, compute_capability)
    if reason:
        raise _RefusedError(reason)
    found["shapes"] = _set_profile(builder, network, config, max_batch)
    found["layers"] = describe_network(network)
    serialised = builder.build_serialized_network(network, config)
    if serialised is None:
        raise _RefusedError("TensorRT could not build this model")
    return bytes(serialised)


def describe_network(network: Any) -> dict[str, dict[str, int]]:
    """Layers of the network definition by type and by the type of their first output.

    An engine cannot be inspected without a GPU; this shows that the builder was given HALF and
    INT8 where it should have been.
    """
    counts: dict[str, dict[str, int]] = {}
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if not layer.num_outputs:
            continue
        kind = str(layer.type).rpartition(".")[2]
        precision = str(layer.get_output(0).dtype).rpartition(".")[2]
        row = counts.setdefault(kind, {})
        row[precision] = row.get(precision, 0) + 1
    return {kind: dict(sorted(counts[kind].items())) for kind in sorted(counts)}


def _strongly_typed(trt: Any) -> int:
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _set_target(library: TensorRtLibrary, config: Any, wanted: str) -> tuple[str, str]:
    """The compute capability that is built for, and why that cannot be."""
    if library.kind != "tensorrt_rtx":
        from visionloop.serving.backends.tensorrt_backend import gpu_capability

        return gpu_capability(), ""
    trt = library.module
    capability = getattr(trt.ComputeCapability, "SM" + wanted.replace(".", ""), None)
    if capability is None:
        return "", f"this TensorRT cannot build for compute capability {wanted}"
    config.num_compute_capabilities = 1
    config.set_compute_capability(capability, 0)
    return wanted, ""


def _set_profile(
    builder: Any, network: Any, config: Any, max_batch: int
) -> dict[str, dict[str, list[int]]]:
    """Give free dimensions a range from 1 to ``max_batch``, tuned for 1; returns the shapes."""
    profile = builder.create_optimization_profile()
    shapes = {}
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        sizes = [int(size) for size in tensor.shape]
        low = [1 if size < 0 else size for size in sizes]
        high = [max_batch if size < 0 else size for size in sizes]
        if low != sizes:
            profile.set_shape(tensor.name, low, low, high)
        shapes[str(tensor.name)] = {"min": low, "opt": low, "max": high}
    config.add_optimization_profile(profile)
    return shapes
