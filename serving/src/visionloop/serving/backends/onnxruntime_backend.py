"""ONNX Runtime: the backend that every machine has; CUDA and TensorRT by its providers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import MissingExtraError, PackageError

__all__ = ["CudaBackend", "OnnxRuntimeBackend", "TensorRtProviderBackend"]

ERRORS_ONLY = 3


class OnnxRuntimeBackend:
    """Runs an ONNX model; see :class:`visionloop.serving.backends.table.Backend`.

    Parameters
    ----------
    model : bytes
        ONNX. Loaded from bytes: a model that names other files finds none.
    subject : str
        Names the model in errors.
    threads : int or None
        Threads of one call; None lets ONNX Runtime choose.

    Raises
    ------
    PackageError
        If ONNX Runtime cannot load the model, or it has more than one input.
    """

    provider = "CPUExecutionProvider"

    def __init__(self, model: bytes, *, subject: str, threads: int | None = None) -> None:
        import onnxruntime

        known = onnxruntime.get_available_providers()
        if self.provider not in known:
            raise MissingExtraError(
                "ONNX Runtime",
                f"{self.provider} is not in the installed ONNX Runtime ({', '.join(known)})",
                "install onnxruntime-gpu in place of onnxruntime, or choose another backend",
            )

        options = onnxruntime.SessionOptions()
        options.log_severity_level = ERRORS_ONLY
        options.inter_op_num_threads = 1
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=[self.provider])
        except Exception as error:
            text = " ".join(str(error).split())[:300]
            raise PackageError(subject, f"ONNX Runtime cannot load it: {text}") from None
        if self.provider not in self._session.get_providers():
            # ONNX Runtime falls back to the CPU without an error; whoever asked must know.
            raise PackageError(subject, f"{self.provider} cannot run on this machine")
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            raise PackageError(subject, f"has {len(inputs)} inputs instead of one image")
        self._input = inputs[0].name
        self.input_shape = _sizes(inputs[0].shape)
        self.output_shapes = {row.name: _sizes(row.shape) for row in self._session.get_outputs()}

    def run(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Outputs by name of a batch float32 (B, 3, height, width)."""
        names = list(self.output_shapes)
        answers = self._session.run(names, {self._input: batch})
        return {name: np.asarray(a, np.float32) for name, a in zip(names, answers, strict=True)}


class CudaBackend(OnnxRuntimeBackend):
    """The same on a GPU by CUDA (``onnxruntime-gpu``)."""

    provider = "CUDAExecutionProvider"


class TensorRtProviderBackend(OnnxRuntimeBackend):
    """The same on a GPU by TensorRT inside ONNX Runtime, which builds its engine at start."""

    provider = "TensorrtExecutionProvider"


def _sizes(shape: list[int | str | None]) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) and size > 0 else None for size in shape)
