"""FP16 and INT8 forms of ONNX models: what TensorRT, OpenVINO and ONNX Runtime all take.

TensorRT networks are strongly typed: the precision is that of the ONNX file. INT8 is said by
pairs of QuantizeLinear and DequantizeLinear around convolutions and products of matrices;
everything else, and the layers that are named, stays float32. Inputs and outputs stay float32.
Everything here belongs into a process of its own (:mod:`visionloop.serving.apart`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["prepare_for_rounding", "write_fp16", "write_full_int8"]

KEPT_IN_FP32 = ["LayerNormalization", "ReduceL2", "Clip"]
"""Operators that stay in FP32 beside the library's own list: without LayerNormalization
ONNX Runtime 1.32 crashed on loading a CLIP tower."""


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


def write_full_int8(*, source: Path, target: Path, batches: Iterable[NDArray[np.float32]]) -> None:
    """What a one-line export does: every operator of the library's list, nothing kept in float.

    For comparison only; no release holds it.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    name = onnx.load(source, load_external_data=False).graph.input[0].name
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        prepare_for_rounding(source, prepared)
        quantize_static(
            prepared,
            target,
            _Reader(name, batches),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
        )


def prepare_for_rounding(source: Path, target: Path) -> None:
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
