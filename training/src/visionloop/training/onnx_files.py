"""ONNX files with the same bytes for the same network, on every machine.

torch writes module names, stack traces and absolute source paths into the metadata of
nodes, and numbers intermediate values by global counters: all of that is removed or
numbered again, so that the SHA-256 of a model depends on the network alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from visionloop.core.files import write_bytes

__all__ = ["INPUT_NAME", "export_dynamic", "export_traced", "fix_batch", "normalise_onnx"]

INPUT_NAME = "image"
PRODUCER = "visionloop"


def export_dynamic(
    network: torch.nn.Module, path: Path, *, height: int, width: int, outputs: Sequence[str]
) -> None:
    """Export by ``torch.export`` (opset 18), with any batch size.

    Parameters
    ----------
    network : Module
        In evaluation mode; float32 (B, 3, height, width) to a tuple of tensors.
    outputs : sequence of str
        Names of the tensors.
    """
    batch = torch.export.Dim("batch", min=1, max=1024)
    _export(
        network,
        path,
        torch.zeros(2, 3, height, width),
        outputs,
        dynamo=True,
        opset_version=18,
        dynamic_shapes=({0: batch},),
        external_data=False,
        verbose=False,
    )


def export_traced(
    network: torch.nn.Module, path: Path, *, height: int, width: int, outputs: Sequence[str]
) -> None:
    """Export by tracing (opset 17), with any batch size; for networks torch.export fixes to one."""
    axes = {name: {0: "batch"} for name in (INPUT_NAME, *outputs)}
    _export(
        network,
        path,
        torch.zeros(1, 3, height, width),
        outputs,
        dynamo=False,
        opset_version=17,
        dynamic_axes=axes,
        do_constant_folding=True,
    )


def fix_batch(path: Path, batch: int) -> None:
    """Make a graph that takes any number of pictures take this many, for engines that want it."""
    import onnx

    model = onnx.load_model_from_string(path.read_bytes())
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].ClearField("dim_param")
        value.type.tensor_type.shape.dim[0].dim_value = batch
    write_bytes(path, normalise_onnx(model.SerializeToString()))


def normalise_onnx(content: bytes) -> bytes:
    """Remove metadata, documentation and producer; number nodes and values in order."""
    import onnx

    model = onnx.load_model_from_string(content)
    model.producer_name, model.producer_version, model.doc_string = PRODUCER, "", ""
    del model.metadata_props[:]
    graph = model.graph
    graph.name, graph.doc_string = "model", ""
    del graph.metadata_props[:]
    del graph.value_info[:]
    names: dict[str, str] = {}
    for value in (*graph.input, *graph.output):
        names[value.name] = value.name
        value.doc_string = ""
        del value.metadata_props[:]
    for number, tensor in enumerate(graph.initializer):
        names[tensor.name] = tensor.name = f"weight_{number}"
        tensor.doc_string = ""
        del tensor.metadata_props[:]
    for number, node in enumerate(graph.node):
        _normalise_node(node, number, names)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _normalise_node(node: Any, number: int, names: dict[str, str]) -> None:
    node.name, node.doc_string = f"{node.op_type}_{number}", ""
    del node.metadata_props[:]
    inputs = [names[name] if name else "" for name in node.input]
    outputs = []
    for place, name in enumerate(node.output):
        if name:
            names.setdefault(name, f"value_{number}_{place}")
        outputs.append(names.get(name, ""))
    node.input[:], node.output[:] = inputs, outputs


def _export(
    network: torch.nn.Module,
    path: Path,
    example: torch.Tensor,
    outputs: Sequence[str],
    **options: Any,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".exported.onnx")
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # a fused attention that ONNX does not know
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network,
                (example,),
                str(temporary),
                input_names=[INPUT_NAME],
                output_names=list(outputs),
                **options,
            )
        write_bytes(path, normalise_onnx(temporary.read_bytes()))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        temporary.unlink(missing_ok=True)
