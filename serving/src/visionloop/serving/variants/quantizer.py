"""INT8 forms of ONNX models by pairs of QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionloop.serving.variants.layer_costs import share_arithmetic
from visionloop.serving.variants.precision import prepare_for_rounding

__all__ = ["QUANTIZED_OPERATORS", "RANGES", "Quantizer"]

QUANTIZED_OPERATORS = ["Conv", "ConvTranspose", "MatMul", "Gemm"]
"""Of all operators, TensorRT's parser refuses pairs around others in traced exports."""

RANGES = ("mean", "widest")
"""How a range is made of the calibration images: the means of their smallest and largest values
(one odd picture does not widen it for all), or the smallest and largest of all."""

CHEAP = 0.001
"""Layers with less of the arithmetic stay in float: INT8 gains nothing there, and they are often
those that lose most: the last one, and the one that turns distributions into coordinates."""

SYMMETRIC = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "OpTypesToExcludeOutputQuantization": QUANTIZED_OPERATORS,
}
"""What TensorRT asks for; with quantized biases its parser refuses most models. Outputs are not
rounded: what follows a layer (an activation) sees float32 and is fused with it, and the next
layer rounds its own input."""


class Quantizer:
    """Measures the ranges of a model once, and writes INT8 forms of it as often as asked.

    Parameters
    ----------
    source : Path
        ONNX, float32.
    batches : iterable of float32 arrays (B, 3, height, width)
        Pre-processed calibration images.
    operators : sequence of str
        Operators to quantize.
    symmetric : bool
        Signed activations around zero, as TensorRT wants them; False: unsigned ones with a
        zero point, as processors want them. What a processor makes of signed ones is not to be
        trusted: OpenVINO 2026.4 answered nonsense with them on a processor with VNNI.

    Attributes
    ----------
    layers : list of str
        Names of the nodes that can be quantized, in the order of the graph.
    cheap : list of str
        Layers that stay float32 in any case: they are no work.
    costs : dict of str to float
        Share of each layer in the arithmetic of all.
    """

    def __init__(
        self,
        source: Path,
        batches: Iterable[NDArray[np.float32]],
        *,
        operators: Sequence[str] = QUANTIZED_OPERATORS,
        symmetric: bool = True,
    ) -> None:
        import onnx

        self._operators, self._is_symmetric = list(operators), symmetric
        with tempfile.TemporaryDirectory() as folder:
            prepared = Path(folder) / "prepared.onnx"
            prepare_for_rounding(source, prepared)
            self._model = onnx.load(prepared)
            self._extremes = _measure(prepared, self._operators, batches)
        nodes = [n for n in self._model.graph.node if n.op_type in self._operators]
        every = [node.name for node in nodes]
        self.costs = share_arithmetic(self._model, every)
        self.cheap = [name for name in every if self.costs[name] < CHEAP]
        self.layers = [name for name in every if self.costs[name] >= CHEAP]

    def make(self, *, kept_in_float: Sequence[str] = (), ranges: str = "mean") -> bytes:
        """The INT8 form, as bytes, in which these layers stay float32 beside the cheap ones.

        Parameters
        ----------
        kept_in_float : sequence of str
        ranges : str
            One of ``RANGES``.
        """
        import onnx
        from onnxruntime.quantization import QDQQuantizer, QuantType

        copy = onnx.ModelProto()
        copy.CopyFrom(self._model)
        wanted = [name for name in self.layers if name not in set(kept_in_float)]
        if not wanted:
            return bytes(copy.SerializeToString(deterministic=True))
        quantizer = QDQQuantizer(
            copy,
            True,  # a scale for each channel of the weights
            False,
            QuantType.QInt8,
            QuantType.QInt8 if self._is_symmetric else QuantType.QUInt8,
            self._make_ranges(ranges),
            wanted,
            [],
            self._operators,
            SYMMETRIC | {"ActivationSymmetric": self._is_symmetric},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()  # its pairs are added at the end: no valid ONNX
        return bytes(quantizer.model.model.SerializeToString(deterministic=True))

    def _make_ranges(self, ranges: str) -> Any:
        from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData

        found = {}
        for name, values in self._extremes.items():
            if ranges == "mean":
                low, high = values.mean(axis=0)
            else:
                low, high = values[:, 0].min(), values[:, 1].max()
            if self._is_symmetric:
                high = max(abs(low), abs(high))
                low = -high
            found[name] = (np.float32(low), np.float32(high))
        return TensorsData(CalibrationMethod.MinMax, found)


def _measure(
    prepared: Path, operators: Sequence[str], batches: Iterable[NDArray[np.float32]]
) -> dict[str, NDArray[np.float64]]:
    """Smallest and largest value of each tensor, a row a batch."""
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    calibrator = create_calibrator(
        prepared,
        list(operators),
        augmented_model_path=str(prepared.with_name("augmented.onnx")),
        calibrate_method=CalibrationMethod.MinMax,
    )
    session = calibrator.infer_session
    source = session.get_inputs()[0].name
    ends = ("_ReduceMin", "_ReduceMax")
    outputs = [one.name for one in session.get_outputs() if one.name.endswith(ends)]
    rows = [[float(v.min()) for v in session.run(outputs, {source: batch})] for batch in batches]
    if not rows:
        raise ValueError("there is no image to measure ranges on")
    values = np.array(rows)
    found: dict[str, NDArray[np.float64]] = {}
    for place, name in enumerate(outputs):
        tensor, _, end = name.rpartition("_")
        column = found.setdefault(tensor, np.zeros((len(rows), 2)))
        column[:, int(end == "ReduceMax")] = values[:, place]
    return found
