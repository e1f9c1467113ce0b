"""The places of a detector's grid that an exported graph holds as constants.

YOLO heads add the centre of each cell to the distances that the network answers, and multiply by
the cell's side. Tracing writes both down for one input size; for another they are other numbers,
known without the network. Whatever else such a graph computes from sizes, it asks for them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["resize_grid"]

STRIDES = ((8, 16, 32), (8, 16, 32, 64))
"""Pixels of the input between cells: heads with three levels, and with four."""


def resize_grid(model: Any, old: tuple[int, int], new: tuple[int, int]) -> int:
    """Replace the constants that are the grid of the old input by those of the new one.

    A constant counts only if every number of it is the grid's.

    Parameters
    ----------
    model : onnx.ModelProto
        Changed in place.
    old, new : (int, int)
        Width and height of the input.

    Returns
    -------
    int
        How many constants were replaced; 0 for graphs without a grid.
    """
    pairs = [
        (before, after)
        for strides in STRIDES
        if _divides(old, strides) and _divides(new, strides)
        for before, after in zip(_grid(old, strides), _grid(new, strides), strict=True)
    ]
    return sum(_replace(tensor, pairs) for tensor in _constants(model.graph))


def _divides(size: tuple[int, int], strides: tuple[int, ...]) -> bool:
    return not any(side % strides[-1] for side in size)


def _grid(
    size: tuple[int, int], strides: tuple[int, ...]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Centres (2, N) in cells of their level, x first, and sides (1, N) in pixels."""
    centres, sides = [], []
    for stride in strides:
        y, x = np.mgrid[: size[1] // stride, : size[0] // stride] + 0.5
        centres.append(np.stack([x.ravel(), y.ravel()]))
        sides.append(np.full((1, x.size), stride))
    return (
        np.concatenate(centres, axis=1).astype(np.float32),
        np.concatenate(sides, axis=1).astype(np.float32),
    )


def _constants(graph: Any) -> list[Any]:
    inside = [
        attribute.t
        for node in graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    ]
    return [*graph.initializer, *inside]


def _replace(tensor: Any, pairs: list[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> bool:
    from onnx import numpy_helper

    for before, after in pairs:
        places = before.shape[1]
        if not tensor.dims or tensor.dims[-1] != places or np.prod(tensor.dims) != before.size:
            continue
        values = numpy_helper.to_array(tensor)
        if np.issubdtype(values.dtype, np.floating) and np.array_equal(
            values.reshape(before.shape), before
        ):
            shape = (*tensor.dims[:-1], after.shape[1])
            changed = after.reshape(shape).astype(values.dtype)
            tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
            return True
    return False
