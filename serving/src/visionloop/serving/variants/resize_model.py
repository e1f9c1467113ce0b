"""The same network on smaller or larger pictures, where its graph takes them."""

from __future__ import annotations

from dataclasses import replace

from visionloop.core.errors import PackageError
from visionloop.serving.manifest import ImageInput
from visionloop.serving.package import ModelPackage
from visionloop.serving.variants.detector_grid import resize_grid

__all__ = ["at_size", "resize_model"]


def resize_model(
    package: ModelPackage, content: bytes, width: int, height: int
) -> tuple[ModelPackage, bytes]:
    """A package and its ONNX for another input size; the weights stay what they were.

    Whether the answers are still good has to be measured: nothing was trained at this size.

    Raises
    ------
    PackageError
        If the graph holds the size in other constants than a YOLO's grid (positions of patches).
    """
    import onnx

    spec = package.manifest.input
    if (spec.width, spec.height) == (width, height):
        return package, content
    model = onnx.load_model_from_string(content)
    sizes = model.graph.input[0].type.tensor_type.shape.dim
    for place, size in ((2, height), (3, width)):
        sizes[place].ClearField("dim_param")
        sizes[place].dim_value = size
    resize_grid(model, (spec.width, spec.height), (width, height))
    del model.graph.value_info[:]
    for output in model.graph.output:  # the old sizes may be wrong now: let the runtime find them
        for place in range(1, len(output.type.tensor_type.shape.dim)):
            output.type.tensor_type.shape.dim[place].Clear()
    try:
        onnx.checker.check_model(model)
        onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        first = str(error).splitlines()[0][:160]
        raise PackageError(
            str(package.path),
            f"its graph is fixed at {spec.width} x {spec.height} ({first})",
            "export it at the size that is wanted: training.image_size",
        ) from None
    return at_size(package, width, height), model.SerializeToString()


def at_size(package: ModelPackage, width: int, height: int) -> ModelPackage:
    """A package whose manifest says another input size, for a model of that size."""
    spec = package.manifest.input
    changed: ImageInput = spec.model_copy(update={"width": width, "height": height})
    return replace(package, manifest=package.manifest.model_copy(update={"input": changed}))
