"""The table of backends, and what each must offer."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["BACKENDS", "ENGINE_BACKENDS", "TUNED", "Backend"]

_ONNX = "visionloop.serving.backends.onnxruntime_backend"
_OPENVINO = "visionloop.serving.backends.openvino_backend"
_TENSORRT = "visionloop.serving.backends.tensorrt_backend"

BACKENDS = {
    "onnxruntime": f"{_ONNX}:OnnxRuntimeBackend",
    "onnxruntime-cuda": f"{_ONNX}:CudaBackend",
    "onnxruntime-tensorrt": f"{_ONNX}:TensorRtProviderBackend",
    "openvino": f"{_OPENVINO}:OpenVinoBackend",
    "openvino-bf16": f"{_OPENVINO}:OpenVinoBf16Backend",
    "tensorrt": f"{_TENSORRT}:TensorRtBackend",
    "tensorrt_rtx": f"{_TENSORRT}:TensorRtxBackend",
}
"""Name to class; each is built with ``(model, subject=..., threads=...)``: the bytes of an
ONNX model, or, for ``tensorrt`` and ``tensorrt_rtx``, of an engine."""

ENGINE_BACKENDS = ("tensorrt", "tensorrt_rtx")
"""Backends that take an engine in place of an ONNX model."""


TUNED = "tuned"
"""In place of a row: the one that ``visionloop serve tune`` chose on the device at hand."""


class Backend(Protocol):
    """Runs a model.

    Attributes
    ----------
    input_shape : tuple of (int or None)
        (batch, 3, height, width); None where any size is taken.
    output_shapes : dict of str to tuple of (int or None)
        By output name.
    """

    input_shape: tuple[int | None, ...]
    output_shapes: dict[str, tuple[int | None, ...]]

    def run(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Outputs by name of a batch float32 (B, 3, height, width)."""
        ...
