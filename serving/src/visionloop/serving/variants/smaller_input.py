"""The package's model at a smaller input, for a device that cannot afford the full one for a while.

The weights are those of the package; only the size is another one, so its answers are measured
before it may ship. Graphs that hold their size in constants have no smaller form.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visionloop.core.errors import VisionloopError
from visionloop.core.files import sha256_of_file
from visionloop.core.progress import say_step
from visionloop.serving.apart import call_apart
from visionloop.serving.engines.record import SmallerFacts
from visionloop.serving.package import ModelPackage, load_package
from visionloop.serving.params import BuildParams
from visionloop.serving.variants.compare import compare_variant
from visionloop.serving.variants.fitted_input import STEP
from visionloop.serving.variants.reference import Reference, divide
from visionloop.serving.variants.resize_model import resize_model

__all__ = ["SMALLER_NAME", "make_smaller", "resize_and_compare", "smaller_size"]

SMALLER_NAME = "model-smaller.onnx"


def make_smaller(
    package: ModelPackage,
    *,
    folder: Path,
    images: Path,
    reference: Reference,
    keys: Sequence[Path],
    params: BuildParams,
) -> SmallerFacts | None:
    """Write ``model-smaller.onnx`` where it is good enough; None where none is asked for.

    Parameters
    ----------
    package : ModelPackage
    folder : Path
        Where it is written.
    images : Path
        Folder of the reference's images.
    reference : Reference
    keys : sequence of Path
        Trusted public keys.
    params : BuildParams
    """
    if not params.smaller_share or package.manifest.vision_task == "embedding":
        return None
    spec = package.manifest.input
    width, height = smaller_size(spec.width, spec.height, params.smaller_share)
    facts = SmallerFacts(width=width, height=height, accepted=False)
    if (width, height) == (spec.width, spec.height):
        return facts.model_copy(update={"reasons": [f"the input has {width} x {height} already"]})
    say_step(f"serving: making the smaller input of {width} x {height}")
    compared = divide(reference.samples, parity=params.parity_images)[1]
    target = folder / SMALLER_NAME
    arguments = {
        "package": str(package.path),
        "trusted_keys": [str(path) for path in keys],
        "target": str(target),
        "size": [width, height],
        "images": str(images),
        "reference": reference.model_copy(update={"samples": compared}).model_dump(mode="json"),
    }
    try:
        row = call_apart(resize_and_compare, arguments, timeout_s=params.timeout_s)
    except VisionloopError as error:
        target.unlink(missing_ok=True)
        reasons = [f"it could not be made or run: {'; '.join(error.problems)}"]
        return facts.model_copy(update={"reasons": reasons})
    found = facts.model_copy(
        update={
            "parity": row,
            "onnx_sha256": sha256_of_file(target),
            "onnx_bytes": target.stat().st_size,
        }
    )
    if row["loss"] > params.smaller_loss:
        target.unlink()
        text = f"{row['metric']} falls by {row['loss']:.4f}, more than {params.smaller_loss}"
        say_step(f"serving: the smaller input is refused: {text}")
        return found.model_copy(update={"reasons": [text]})
    return found.model_copy(update={"accepted": True, "onnx_file": SMALLER_NAME})


def smaller_size(width: int, height: int, share: float) -> tuple[int, int]:
    """A share of both sides, in multiples of 32 pixels, never larger than they are."""
    new_width, new_height = (
        min(side, max(STEP, round(side * share / STEP) * STEP)) for side in (width, height)
    )
    return new_width, new_height


def resize_and_compare(
    *,
    package: str,
    trusted_keys: list[str],
    target: str,
    size: list[int],
    images: str,
    reference: dict[str, Any],
) -> dict[str, Any]:
    """Write the resized model and compare it with the package. Call it apart.

    Raises
    ------
    PackageError
        If the graph is fixed at its size.
    """
    loaded = load_package(Path(package), trusted_keys=[Path(key) for key in trusted_keys])
    _, content = resize_model(loaded, loaded.read_model(), size[0], size[1])
    Path(target).write_bytes(content)
    row = compare_variant(
        package=package,
        trusted_keys=trusted_keys,
        model=target,
        images=images,
        reference=reference,
        size=size,
    )
    return {name: row[name] for name in row if name not in ("pairs", "worst")}
