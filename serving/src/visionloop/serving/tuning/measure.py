"""Time and memory of each form of a package on this machine, each in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from visionloop.core.errors import VisionloopError
from visionloop.serving.apart import call_apart
from visionloop.serving.backends.tensorrt_backend import gpu_capability
from visionloop.serving.package import ModelPackage, load_package
from visionloop.serving.params import BuildParams

__all__ = ["measure_form", "measure_forms"]


def measure_form(
    *,
    package: str,
    trusted_keys: list[str],
    model: str,
    images: list[str],
    backend: str,
    threads: int | None,
    calls: int,
) -> dict[str, float]:
    """Load one form and time it, one picture a call. Call it apart: memory is the process's own.

    Returns
    -------
    dict
        ``p50_ms``, ``p95_ms``, ``p99_ms`` from picture to answer, their parts ``pre_ms``,
        ``infer_ms``, ``post_ms``; ``memory_mb``: how much the process grew by loading and
        running it; ``load_ms``.
    """
    import time

    from visionloop.serving.images import read_image
    from visionloop.serving.predictor import Predictor
    from visionloop.serving.tuning.latency import measure_latency

    loaded = load_package(Path(package), trusted_keys=[Path(key) for key in trusted_keys])
    pictures = [read_image(Path(one)) for one in images]
    content = Path(model).read_bytes()
    before, start = _resident_mb(), time.perf_counter()
    predictor = Predictor(loaded, backend=backend, threads=threads, model=content, batch_size=1)
    load_ms = (time.perf_counter() - start) * 1e3
    found = measure_latency(predictor, pictures, repeats=calls)
    return {
        "p50_ms": round(found.p50, 3),
        "p95_ms": round(found.p95, 3),
        "p99_ms": round(found.p99, 3),
        "pre_ms": round(found.pre, 3),
        "infer_ms": round(found.infer, 3),
        "post_ms": round(found.post, 3),
        "load_ms": round(load_ms, 1),
        "memory_mb": round(_resident_mb() - before, 1),
    }


def measure_forms(
    package: ModelPackage,
    *,
    keys: Sequence[Path],
    models: Mapping[str, str],
    engines: Mapping[str, str],
    images: Sequence[Path],
    params: BuildParams,
) -> list[dict[str, Any]]:
    """A row a form: ONNX files by precision in ONNX Runtime, engines in TensorRT.

    A form that cannot run here (an engine without a GPU) has a ``reason`` in place of figures.
    """
    forms = [(precision, "onnxruntime", path) for precision, path in models.items()]
    forms += [(precision, "tensorrt", path) for precision, path in engines.items()]
    rows = []
    for precision, backend, path in forms:
        row: dict[str, Any] = {"precision": precision, "backend": backend}
        if backend == "tensorrt" and not gpu_capability():
            rows.append({**row, "reason": "no usable GPU for this engine on this machine"})
            continue
        arguments = {
            "package": str(package.path),
            "trusted_keys": [str(key) for key in keys],
            "model": path,
            "images": [str(one) for one in images],
            "backend": backend,
            "threads": 1,
            "calls": params.latency_calls,
        }
        try:
            row |= call_apart(measure_form, arguments, timeout_s=params.timeout_s)
        except VisionloopError as error:
            row["reason"] = "; ".join(error.problems)
        rows.append(row)
    return rows


def _resident_mb() -> float:
    """Resident memory of this process in megabytes, from Linux's own account."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0
