"""FP16 and INT8 forms of ONNX models: what TensorRT, OpenVINO and ONNX Runtime all take.

TensorRT networks are strongly typed: the precision is that of the ONNX file. INT8 is said by
pairs of QuantizeLinear and DequantizeLinear around convolutions and products of matrices;
everything else, and the layers that are named, stays float32. Inputs and outputs stay float32.
Everything here belongs into a process of its own (:mod:`visionloop.serving.apart`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["QUANTIZED_OPERATORS", "Quantizer", "write_fp16", "write_full_int8"]

KEPT_IN_FP32 = ["LayerNormalization", "ReduceL2", "Clip"]
"""Operators that stay in FP32 beside the library's own list: without LayerNormalization
ONNX Runtime 1.32 crashed on loading a CLIP tower."""

QUANTIZED_OPERATORS = ["Conv", "ConvTranspose", "MatMul", "Gemm"]
"""Of all operators, TensorRT's parser refuses pairs around others in traced exports."""

SYMMETRIC = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "OpTypesToExcludeOutputQuantization": QUANTIZED_OPERATORS,
}
"""What TensorRT asks for; with quantized biases its parser refuses most models. Outputs are not
rounded: what follows a layer (an activation) sees float32 and is fused with it, and the next
layer rounds its own input."""


def write_fp16(*, source: str, target: str) -> None:
    """Convert weights and arithmetic to FP16; inputs and outputs stay float32.

    Parameters
    ----------
    source, target : str
        Paths of ONNX files.
    """
    import onnx
    from onnxruntime.transformers import float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = onnx.load(source)
    _separate_outputs(model)
    model = float16.convert_float_to_float16(
        model,
        keep_io_types=True,
        op_block_list=[*float16.DEFAULT_OP_BLOCK_LIST, *KEPT_IN_FP32],
    )
    OnnxModel(model).topological_sort()  # the converter adds its casts at the end
    onnx.checker.check_model(model)
    Path(target).write_bytes(model.SerializeToString(deterministic=True))


class Quantizer:
    """Measures the ranges of a model once, and writes INT8 forms of it as often as asked.

    Parameters
    ----------
    source : Path
        ONNX, float32.
    batches : iterable of float32 arrays (B, 3, height, width)
        Pre-processed calibration images; the ranges are the means over the batches of their
        smallest and largest values: one odd picture does not widen them for all.
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
    kinds : list of lists of str
        Layers that are often sensitive wherever they are: the first with the last, and
        convolutions of single channels.
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
        from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

        self._operators, self._is_symmetric = list(operators), symmetric
        with tempfile.TemporaryDirectory() as folder:
            prepared = Path(folder) / "prepared.onnx"
            _prepare(source, prepared)
            self._model = onnx.load(prepared)
            calibrator = create_calibrator(
                prepared,
                self._operators,
                augmented_model_path=str(Path(folder) / "augmented.onnx"),
                calibrate_method=CalibrationMethod.MinMax,
                extra_options={"symmetric": symmetric, "moving_average": True},
            )
            calibrator.collect_data(_Reader(self._model.graph.input[0].name, batches))
            self._ranges = calibrator.compute_data()
        nodes = [n for n in self._model.graph.node if n.op_type in self._operators]
        self.layers = [node.name for node in nodes]
        self.kinds = [self.layers[:1] + self.layers[-1:], [n.name for n in nodes if _is_deep(n)]]

    def write(self, target: Path, *, kept_in_float: Sequence[str] = ()) -> None:
        """Write the INT8 form in which these layers stay float32."""
        content = self.make(kept_in_float=kept_in_float)
        Path(target).write_bytes(content)

    def make(self, *, kept_in_float: Sequence[str] = ()) -> bytes:
        """The INT8 form as bytes."""
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
            self._ranges,
            wanted,
            [],
            self._operators,
            SYMMETRIC | {"ActivationSymmetric": self._is_symmetric},
        )
        quantizer.quantize_model()
        return bytes(quantizer.model.model.SerializeToString(deterministic=True))


def write_full_int8(*, source: Path, target: Path, batches: Iterable[NDArray[np.float32]]) -> None:
    """What a one-line export does: every operator of the library's list, nothing kept in float.

    For comparison only; no release holds it.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    name = onnx.load(source, load_external_data=False).graph.input[0].name
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        _prepare(source, prepared)
        quantize_static(
            prepared,
            target,
            _Reader(name, batches),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
        )


def _is_deep(node: Any) -> bool:
    """Whether a node is a convolution of single channels (depthwise)."""
    return any(one.name == "group" and one.i > 1 for one in node.attribute)


def _prepare(source: Path, target: Path) -> None:
    """Infer shapes and fold constants; nodes without a name get one, since layers are named."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(str(source), str(target), skip_symbolic_shape=True)
    model = onnx.load(target)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    onnx.save(model, target)


class _Reader:
    """Batches in the form that ONNX Runtime's calibrator reads."""

    def __init__(self, name: str, batches: Iterable[NDArray[np.float32]]) -> None:
        self._name, self._batches = name, iter(batches)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {self._name: batch}

    def __iter__(self) -> _Reader:
        return self

    def __next__(self) -> dict[str, NDArray[np.float32]]:
        found = self.get_next()
        if found is None:
            raise StopIteration
        return found

    def __len__(self) -> int:
        return 0

    def set_range(self, start_index: int, end_index: int) -> None:
        raise NotImplementedError("ranges of the reader are not used")


def _separate_outputs(model: Any) -> None:
    """Give each output that the graph itself goes on with (an embedding) a name of its own.

    The converter renames the producer of an output and forgets the other consumers, which
    makes an invalid graph.
    """
    from onnx import helper

    graph = model.graph
    consumed = {name for node in graph.node for name in node.input}
    for output in graph.output:
        if output.name not in consumed:
            continue
        inner = f"{output.name}_inside"
        for node in graph.node:
            for names in (node.input, node.output):
                renamed = [inner if name == output.name else name for name in names]
                del names[:]
                names.extend(renamed)
        graph.node.append(helper.make_node("Identity", [inner], [output.name]))
