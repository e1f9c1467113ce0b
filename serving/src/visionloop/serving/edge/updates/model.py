"""The model that serves: a verified release, loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from visionloop.serving.backends.table import ENGINE_BACKENDS, TUNED
from visionloop.serving.edge_params import EdgeParams
from visionloop.serving.engines.device import open_tuned, start_with_engine
from visionloop.serving.failover import FailoverPredictor
from visionloop.serving.manifest import Manifest
from visionloop.serving.package import ModelPackage
from visionloop.serving.predictor import Predictor
from visionloop.serving.releases.store import Release
from visionloop.serving.tuning.device_profile import PROFILE_NAME

__all__ = ["LoadedModel", "load_model"]


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A release whose package was verified, and what runs it."""

    number: int
    package: ModelPackage
    predictor: Predictor | FailoverPredictor

    @property
    def manifest(self) -> Manifest:
        """Of its package."""
        return self.package.manifest


def load_model(
    params: EdgeParams, release: Release, package: ModelPackage, *, cache: Path
) -> LoadedModel:
    """Load so that it serves at once: by ONNX Runtime, until an engine of this device is ready.

    Parameters
    ----------
    params : EdgeParams
    release : Release
    package : ModelPackage
    cache : Path
        Folder of the TensorRT engines that were built on this device.

    Raises
    ------
    PackageError
        If ONNX Runtime cannot load the package.
    """
    if params.backend == TUNED:
        return LoadedModel(
            release.number,
            package,
            open_tuned(
                package,
                release.engine,
                profile=cache.parent / PROFILE_NAME,
                cache=cache,
                spare=params.threads,
            ),
        )
    if params.backend in ENGINE_BACKENDS:
        predictor: Predictor | FailoverPredictor = start_with_engine(
            package, release.engine, cache=cache, threads=params.threads, backend=params.backend
        )
    else:
        predictor = Predictor(package, backend=params.backend, threads=params.threads)
    return LoadedModel(release.number, package, predictor)
