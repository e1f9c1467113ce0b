"""How much arithmetic each layer of an ONNX model is: what INT8 could save there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["share_arithmetic"]


def share_arithmetic(model: Any, layers: Sequence[str]) -> dict[str, float]:
    """Share of each layer in the multiplications of all of them.

    Parameters
    ----------
    model : onnx.ModelProto
        One input, of known height and width.
    layers : sequence of str
        Names of convolutions and products of matrices.

    Returns
    -------
    dict of str to float
        Summing to 1.
    """
    wanted = set(layers)
    shapes = _measure_shapes(model, layers)
    counts = {
        node.name: _multiplications(node, shapes)
        for node in model.graph.node
        if node.name in wanted
    }
    total = sum(counts.values()) or 1.0
    return {name: counts[name] / total for name in layers}


def _measure_shapes(model: Any, layers: Sequence[str]) -> dict[str, list[int]]:
    """Shapes by name: of the weights, and of what goes in and out of the layers for one picture.

    They are seen in a run: inference of shapes ends where a graph computes sizes.
    """
    import onnx
    import onnxruntime

    wanted = set(layers)
    shapes = {one.name: list(one.dims) for one in model.graph.initializer}
    single = onnx.ModelProto()
    single.CopyFrom(model)
    source = single.graph.input[0]
    sizes = [size.dim_value or 1 for size in source.type.tensor_type.shape.dim]
    shown = {one.name for one in single.graph.output}
    for node in model.graph.node:
        if node.name in wanted:
            for name in (node.input[0], node.input[1], node.output[0]):
                if name not in shapes and name not in shown and name != source.name:
                    shown.add(name)
                    single.graph.output.append(onnx.ValueInfoProto(name=name))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        single.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [one.name for one in session.get_outputs()]
    values = session.run(names, {source.name: np.zeros(sizes, np.float32)})
    shapes[source.name] = sizes
    shapes |= {name: list(value.shape) for name, value in zip(names, values, strict=True)}
    return shapes


def _multiplications(node: Any, shapes: dict[str, list[int]]) -> float:
    first, second, output = (
        shapes[name] for name in (node.input[0], node.input[1], node.output[0])
    )
    if node.op_type == "ConvTranspose":
        return float(np.prod(second)) * float(np.prod(first[2:]))
    if node.op_type == "Conv":
        return float(np.prod(second)) * float(np.prod(output[2:]))
    inner = second[-1] if _is_transposed(node) else second[-2 if len(second) > 1 else 0]
    return float(np.prod(output)) * inner


def _is_transposed(node: Any) -> bool:
    """Of Gemm: whether the second matrix is stored with its rows as columns."""
    return any(one.name == "transB" and one.i for one in node.attribute)
