"""The model that serves: a verified release, loaded."""

from __future__ import annotations

from dataclasses import dataclass

from visionloop.core.errors import MissingExtraError, PackageError
from visionloop.core.progress import say_step
from visionloop.serving.edge_params import EdgeParams
from visionloop.serving.engines import load_engine
from visionloop.serving.manifest import Manifest
from visionloop.serving.package import ModelPackage
from visionloop.serving.predictor import Predictor
from visionloop.serving.releases import Release

__all__ = ["LoadedModel", "load_model"]


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A release whose package was verified, and what runs it."""

    number: int
    package: ModelPackage
    predictor: Predictor

    @property
    def manifest(self) -> Manifest:
        """Of its package."""
        return self.package.manifest


def load_model(params: EdgeParams, release: Release, package: ModelPackage) -> LoadedModel:
    """Load with the backend that was asked for; where it cannot run here, with ONNX Runtime,
    and say so.

    Raises
    ------
    PackageError
        If ONNX Runtime cannot load the package.
    """
    if params.backend == "tensorrt":
        try:
            if release.engine is None:
                raise PackageError(str(release.folder), "holds no engine")
            _, engine = load_engine(release.engine, package_sha256=package.sha256)
            predictor = Predictor(package, backend="tensorrt", model=engine)
            return LoadedModel(release.number, package, predictor)
        except (PackageError, MissingExtraError) as error:
            say_step(f"edge: ONNX Runtime serves instead of TensorRT: {error.problems[0]}")
    return LoadedModel(release.number, package, Predictor(package, threads=params.threads))
