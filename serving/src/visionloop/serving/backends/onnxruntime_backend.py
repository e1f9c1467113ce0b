"""ONNX Runtime on the CPU: the backend that every machine has."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import PackageError

__all__ = ["OnnxRuntimeBackend"]

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

    def __init__(self, model: bytes, *, subject: str, threads: int | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = ERRORS_ONLY
        options.inter_op_num_threads = 1
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            text = " ".join(str(error).split())[:300]
            raise PackageError(subject, f"ONNX Runtime cannot load it: {text}") from None
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


def _sizes(shape: list[int | str | None]) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) and size > 0 else None for size in shape)
