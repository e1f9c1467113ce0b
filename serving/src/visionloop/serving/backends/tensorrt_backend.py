"""TensorRT: ``tensorrt`` from JetPack or ``tensorrt_rtx``; one API, two runtimes.

An engine is tied to the version of TensorRT and to the GPU's architecture. Callers
check its manifest first (:mod:`visionloop.serving.engines.record`); what cannot run raises
:class:`PackageError`, and ONNX Runtime serves instead.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import MissingExtraError, PackageError

__all__ = [
    "TensorRtBackend",
    "TensorRtLibrary",
    "TensorRtxBackend",
    "find_tensorrt",
    "gpu_capability",
]

MODULES = {
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "tensorrt_rtx",
    "tensorrt_rtx_bindings": "tensorrt_rtx",
}
"""Module to kind; the first that imports is used."""


@dataclass(frozen=True)
class TensorRtLibrary:
    """The TensorRT of this machine: imported module, kind and version."""

    module: Any
    kind: str
    version: str


def find_tensorrt(wanted: str = "") -> TensorRtLibrary | None:
    """The installed TensorRT, or None; ``wanted`` takes one kind only."""
    for name, kind in MODULES.items():
        if wanted and kind != wanted:
            continue
        try:
            module = importlib.import_module(name)
        except (ImportError, OSError, RuntimeError):
            continue
        if hasattr(module, "Builder"):
            return TensorRtLibrary(module, kind, str(module.__version__))
    return None


def gpu_capability() -> str:
    """Compute capability of the first GPU, for example ``"8.7"``; empty where there is none."""
    try:
        cuda = _import_cuda()
        attributes = cuda.cudaDeviceAttr
        numbers = [
            _unwrap(cuda.cudaDeviceGetAttribute(one, 0), "GPU")
            for one in (
                attributes.cudaDevAttrComputeCapabilityMajor,
                attributes.cudaDevAttrComputeCapabilityMinor,
            )
        ]
    except (MissingExtraError, PackageError, RuntimeError, OSError):
        return ""
    return ".".join(str(int(number)) for number in numbers)


class TensorRtBackend:
    """Runs an engine; see :class:`visionloop.serving.backends.table.Backend`.

    Parameters
    ----------
    model : bytes
        A serialised engine. Engines are as trusted as code: take them from a verified
        folder only.
    subject : str
        Names the engine in errors.
    threads : int or None
        Not used: the work is on the GPU.

    Raises
    ------
    MissingExtraError
        If TensorRT or the CUDA bindings are not installed.
    PackageError
        If this machine cannot run the engine.
    """

    kind = ""

    def __init__(self, model: bytes, *, subject: str, threads: int | None = None) -> None:
        library = find_tensorrt(self.kind)
        if library is None:
            raise MissingExtraError(
                "backend 'tensorrt'",
                "TensorRT is not installed",
                "JetPack brings it; on a PC: pip install 'visionloop[serving]'",
            )
        self._subject = subject
        self._trt = library.module
        self._cuda = _import_cuda()
        _check_gpu(self._cuda, subject)
        self._runtime = self._trt.Runtime(self._trt.Logger(self._trt.Logger.ERROR))
        self._engine = self._runtime.deserialize_cuda_engine(model)
        if self._engine is None:
            raise PackageError(
                subject,
                f"{library.kind} {library.version} on this GPU cannot load the engine",
                "build it here again: visionloop serve build",
            )
        self._context = self._engine.create_execution_context()
        self._buffers: dict[str, tuple[Any, int]] = {}
        self._stream = self._call(self._cuda.cudaStreamCreate())
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        is_input = {
            n: self._engine.get_tensor_mode(n) == self._trt.TensorIOMode.INPUT for n in names
        }
        self._input = next(name for name in names if is_input[name])
        self.input_shape = _sizes(self._engine.get_tensor_shape(self._input))
        self.output_shapes = {
            name: _sizes(self._engine.get_tensor_shape(name))
            for name in names
            if not is_input[name]
        }

    def run(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Outputs by name of a batch float32 (B, 3, height, width)."""
        batch = np.ascontiguousarray(batch, np.float32)
        if not self._context.set_input_shape(self._input, batch.shape):
            raise PackageError(self._subject, f"the engine does not take a batch of {len(batch)}")
        outputs = {
            name: np.empty(tuple(self._context.get_tensor_shape(name)), np.float32)
            for name in self.output_shapes
        }
        to_device = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        to_host = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        for name, array in {self._input: batch, **outputs}.items():
            self._context.set_tensor_address(name, int(self._device_buffer(name, array.nbytes)))
        self._copy(self._buffers[self._input][0], batch.ctypes.data, batch.nbytes, to_device)
        if not self._context.execute_async_v3(int(self._stream)):
            raise PackageError(self._subject, "the engine failed on this batch")
        for name, array in outputs.items():
            self._copy(array.ctypes.data, self._buffers[name][0], array.nbytes, to_host)
        self._call(self._cuda.cudaStreamSynchronize(self._stream))
        return outputs

    def _device_buffer(self, name: str, size: int) -> Any:
        """Memory on the GPU for a tensor; kept for the next call, made anew where it must grow."""
        if name not in self._buffers or self._buffers[name][1] < size:
            if name in self._buffers:
                self._cuda.cudaFree(self._buffers.pop(name)[0])
            self._buffers[name] = (self._call(self._cuda.cudaMalloc(size)), size)
        return self._buffers[name][0]

    def __del__(self) -> None:
        for buffer, _ in getattr(self, "_buffers", {}).values():
            self._cuda.cudaFree(buffer)

    def _copy(self, target: Any, source: Any, size: int, kind: Any) -> None:
        self._call(self._cuda.cudaMemcpyAsync(target, source, size, kind, self._stream))

    def _call(self, answer: tuple[Any, ...]) -> Any:
        return _unwrap(answer, self._subject)


class TensorRtxBackend(TensorRtBackend):
    """The same, by ``tensorrt_rtx`` alone where both are installed."""

    kind = "tensorrt_rtx"


def _import_cuda() -> Any:
    for name in ("cuda.bindings.runtime", "cuda.cudart"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise MissingExtraError(
        "backend 'tensorrt'", "cuda-python is not installed", "pip install cuda-python"
    )


def _check_gpu(cuda: Any, subject: str) -> None:
    error, *rest = cuda.cudaGetDeviceCount()
    if int(error) != 0 or not rest[0]:
        raise PackageError(subject, f"no usable GPU for this engine ({error.name})")


def _unwrap(answer: tuple[Any, ...], subject: str) -> Any:
    error, *values = answer
    if int(error) != 0:
        raise PackageError(subject, f"CUDA failed: {error.name}")
    return values[0] if values else None


def _sizes(shape: Any) -> tuple[int | None, ...]:
    return tuple(int(size) if int(size) > 0 else None for size in shape)
