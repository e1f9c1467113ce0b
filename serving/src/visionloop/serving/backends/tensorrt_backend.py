"""TensorRT: ``tensorrt`` from JetPack or ``tensorrt_rtx``; one API, two runtimes.

An engine is tied to the version of TensorRT and to the GPU's architecture. Callers
check its manifest first (:mod:`visionloop.serving.engines`); what cannot run raises
:class:`PackageError`, and ONNX Runtime serves instead.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import MissingExtraError, PackageError

__all__ = ["TensorRtBackend", "TensorRtLibrary", "find_tensorrt"]

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


def find_tensorrt() -> TensorRtLibrary | None:
    """The installed TensorRT, or None."""
    for name, kind in MODULES.items():
        try:
            module = importlib.import_module(name)
        except (ImportError, OSError, RuntimeError):
            continue
        if hasattr(module, "Builder"):
            return TensorRtLibrary(module, kind, str(module.__version__))
    return None


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

    def __init__(self, model: bytes, *, subject: str, threads: int | None = None) -> None:
        library = find_tensorrt()
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
        buffers: list[Any] = []
        try:
            for name, array in {self._input: batch, **outputs}.items():
                buffers.append(self._call(self._cuda.cudaMalloc(array.nbytes)))
                self._context.set_tensor_address(name, int(buffers[-1]))
            self._copy(buffers[0], batch.ctypes.data, batch.nbytes, to_device)
            if not self._context.execute_async_v3(int(self._stream)):
                raise PackageError(self._subject, "the engine failed on this batch")
            for buffer, array in zip(buffers[1:], outputs.values(), strict=True):
                self._copy(array.ctypes.data, buffer, array.nbytes, to_host)
            self._call(self._cuda.cudaStreamSynchronize(self._stream))
        finally:
            for buffer in buffers:
                self._cuda.cudaFree(buffer)
        return outputs

    def _copy(self, target: Any, source: Any, size: int, kind: Any) -> None:
        self._call(self._cuda.cudaMemcpyAsync(target, source, size, kind, self._stream))

    def _call(self, answer: tuple[Any, ...]) -> Any:
        return _unwrap(answer, self._subject)


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
