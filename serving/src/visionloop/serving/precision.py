"""FP16 variants of ONNX models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["write_fp16"]

KEPT_IN_FP32 = ["LayerNormalization", "ReduceL2", "Clip"]
"""Operators that stay in FP32 beside the library's own list: without LayerNormalization
ONNX Runtime 1.32 crashed on loading a CLIP tower."""


def write_fp16(*, source: str, target: str) -> None:
    """Convert weights and arithmetic to FP16; inputs and outputs stay float32.

    TensorRT networks are strongly typed: the precision is that of the ONNX file. Call
    it apart (:func:`visionloop.serving.apart.run_apart`).

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
