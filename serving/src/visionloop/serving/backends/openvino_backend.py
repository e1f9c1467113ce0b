"""OpenVINO on Intel and AMD processors: runs FP32 and INT8 ONNX; needs the ``openvino`` extra."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import PackageError

__all__ = ["OpenVinoBackend", "OpenVinoBf16Backend"]


class OpenVinoBackend:
    """Runs an ONNX model; see :class:`visionloop.serving.backends.table.Backend`.

    Pairs of QuantizeLinear and DequantizeLinear become INT8 arithmetic where the processor has
    it (VNNI), which ONNX Runtime does for fewer of them.

    Parameters
    ----------
    model : bytes
        ONNX.
    subject : str
        Names the model in errors.
    threads : int or None
        Threads of one call; None lets OpenVINO choose.

    Raises
    ------
    PackageError
        If OpenVINO cannot load the model, or it has more than one input.
    """

    arithmetic = "f32"

    def __init__(self, model: bytes, *, subject: str, threads: int | None = None) -> None:
        import openvino

        self._options: dict[str, object] = {
            "PERFORMANCE_HINT": "LATENCY",
            # Said, since OpenVINO would take bfloat16 behind our back where there is any.
            "INFERENCE_PRECISION_HINT": self.arithmetic,
        }
        if threads is not None:
            self._options |= {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": "1"}
        self._core = openvino.Core()
        can = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if self.arithmetic == "bf16" and "BF16" not in can:
            raise PackageError(subject, "this processor has no bfloat16 arithmetic")
        try:
            self._model = self._core.read_model(model, b"")
            self._compiled = {0: self._compile(self._model)}
        except RuntimeError as error:
            text = " ".join(str(error).split())[:300]
            raise PackageError(subject, f"OpenVINO cannot load it: {text}") from None
        if len(self._model.inputs) != 1:
            raise PackageError(subject, f"has {len(self._model.inputs)} inputs, not one image")
        self._requests = threading.local()  # a request serves one thread at a time
        self.input_shape = _sizes(self._model.input(0).partial_shape)
        self.output_shapes = {
            port.any_name: _sizes(port.partial_shape) for port in self._model.outputs
        }

    def run(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Outputs by name of a batch float32 (B, 3, height, width)."""
        found = self._request_for(batch.shape).infer([batch], share_inputs=True)
        return {name: np.array(found[name], np.float32) for name in self.output_shapes}

    def _request_for(self, shape: tuple[int, ...]) -> Any:
        """Single pictures have a model of their own: known sizes make it about a tenth faster."""
        size = 1 if shape[0] == 1 and self.input_shape[0] is None else 0
        requests: dict[Any, Any] = self._requests.__dict__  # of this thread
        if size not in requests:
            if size not in self._compiled:
                fixed = self._model.clone()
                fixed.reshape(list(shape))
                self._compiled[size] = self._compile(fixed)
            requests[size] = self._compiled[size].create_infer_request()
        return requests[size]

    def _compile(self, model: Any) -> Any:
        return self._core.compile_model(model, "CPU", self._options)


class OpenVinoBf16Backend(OpenVinoBackend):
    """The same in bfloat16, on processors that have it: nearly as fast as INT8, nothing to
    calibrate, and closer to FP32."""

    arithmetic = "bf16"


def _sizes(shape: object) -> tuple[int | None, ...]:
    return tuple(
        int(size.get_length()) if size.is_static else None
        for size in shape  # type: ignore[attr-defined]
    )
