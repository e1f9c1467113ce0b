"""OpenVINO on Intel and AMD processors: runs FP32 and INT8 ONNX; needs the ``openvino`` extra."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import PackageError

__all__ = ["OpenVinoBackend"]


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

    def __init__(self, model: bytes, *, subject: str, threads: int | None = None) -> None:
        import openvino

        options: dict[str, object] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",  # not bfloat16 behind our back: it was not compared
        }
        if threads is not None:
            options |= {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": "1"}
        try:
            core = openvino.Core()
            self._compiled = core.compile_model(core.read_model(model, b""), "CPU", options)
        except RuntimeError as error:
            text = " ".join(str(error).split())[:300]
            raise PackageError(subject, f"OpenVINO cannot load it: {text}") from None
        if len(self._compiled.inputs) != 1:
            raise PackageError(subject, f"has {len(self._compiled.inputs)} inputs, not one image")
        self._requests = threading.local()  # a request serves one thread at a time
        self.input_shape = _sizes(self._compiled.input(0).partial_shape)
        self.output_shapes = {
            port.any_name: _sizes(port.partial_shape) for port in self._compiled.outputs
        }

    def run(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Outputs by name of a batch float32 (B, 3, height, width)."""
        request = getattr(self._requests, "request", None)
        if request is None:
            request = self._requests.request = self._compiled.create_infer_request()
        found = request.infer([batch], share_inputs=True)
        return {name: np.array(found[name], np.float32) for name in self.output_shapes}


def _sizes(shape: object) -> tuple[int | None, ...]:
    return tuple(
        int(size.get_length()) if size.is_static else None
        for size in shape  # type: ignore[attr-defined]
    )
