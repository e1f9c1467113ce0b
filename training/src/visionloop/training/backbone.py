"""The verb ``backbone``: the frozen network whose features everybody shares, as a package."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from visionloop.core.config import ProjectParams, load_blocks
from visionloop.core.errors import InputError, RefusedError
from visionloop.core.progress import say_step
from visionloop.core.workspace import Workspace
from visionloop.serving.manifest import Lineage, Manifest, ModelOutputs
from visionloop.serving.package import load_package, write_package
from visionloop.serving.signing import signing_key
from visionloop.training.params import TrainingParams
from visionloop.training.weights import FoundWeights, find_weights

__all__ = ["BackboneReport", "export_backbone"]

MAX_RELATIVE_DIFFERENCE = 1e-3


@dataclass(frozen=True)
class BackboneReport:
    """What ``backbone`` made.

    Attributes
    ----------
    package : Path
    package_sha256 : str
    weights_source : str
    was_there : bool
        Whether the package of these weights existed already and was kept.
    """

    package: Path
    package_sha256: str
    weights_source: str
    was_there: bool


def export_backbone(*, workspace: Workspace) -> BackboneReport:
    """Export the backbone of ``training.backbone`` to ``artifacts/backbone``.

    Images go in, average-pooled features (B, D) come out. A package of the same weights
    and input that verifies is kept, so embeddings made with it stay valid.

    Raises
    ------
    DataError
        If the weights cannot be found.
    InputError
        If there is no signing key.
    RefusedError
        If the package does not answer like the network.
    """
    blocks = load_blocks(workspace.params, {"project": ProjectParams, "training": TrainingParams})
    project, params = blocks["project"], blocks["training"]
    weights = find_weights(params.backbone.weights, allow_scratch=params.allow_scratch)
    manifest = _manifest(weights, params.backbone.image_size)
    kept = _kept_sha256(workspace.backbone, manifest)
    if kept:
        return BackboneReport(workspace.backbone, kept, weights.source, True)
    signing_key()  # a missing key is said before the work, not after
    say_step(f"exporting the backbone; weights: {weights.source}")
    sha256 = _export(workspace.backbone, weights, manifest, project.seed)
    return BackboneReport(workspace.backbone, sha256, weights.source, False)


def _export(folder: Path, weights: FoundWeights, manifest: Manifest, seed: int) -> str:
    import numpy as np

    from visionloop.training.export import candidate_package
    from visionloop.training.families.timm_networks import make_backbone
    from visionloop.training.onnx_files import export_dynamic
    from visionloop.training.parity import compare_embeddings

    network = make_backbone(weights, seed=seed, image_size=manifest.input.width)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export.") as temporary:
        model = Path(temporary) / "model.onnx"
        height, width = manifest.input.height, manifest.input.width
        export_dynamic(network, model, height=height, width=width, outputs=["embedding"])
        with candidate_package(Path(temporary) / "package", model, manifest) as candidate:
            images = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)
            difference = compare_embeddings(network, candidate, list(images))
        if not difference <= MAX_RELATIVE_DIFFERENCE:
            raise RefusedError(
                f"backbone {weights.name}", f"package and network differ by {difference:.2g}"
            )
        return write_package(folder, model=model, manifest=manifest)


def _manifest(weights: FoundWeights, image_size: int) -> Manifest:
    return Manifest(
        name="backbone",
        vision_task="embedding",
        family="efficientnet",
        input=weights.picture_input(image_size),
        outputs=ModelOutputs(answer="embedding", kind="embedding"),
        lineage=Lineage(weights=weights.lineage),
        licence=weights.row.licence,
    )


def _kept_sha256(folder: Path, wanted: Manifest) -> str:
    """SHA-256 of the package that is there, empty if it is not the wanted one."""
    if not folder.is_dir():
        return ""
    try:
        package = load_package(folder)
    except InputError:
        return ""
    found = package.manifest.model_copy(update={"files": {}})
    return package.sha256 if found == wanted else ""
