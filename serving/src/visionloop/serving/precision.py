"""FP16 variants of ONNX models."""

from __future__ import annotations

from pathlib import Path

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

    model = float16.convert_float_to_float16(
        onnx.load(source),
        keep_io_types=True,
        op_block_list=[*float16.DEFAULT_OP_BLOCK_LIST, *KEPT_IN_FP32],
    )
    onnx.checker.check_model(model)
    Path(target).write_bytes(model.SerializeToString(deterministic=True))
