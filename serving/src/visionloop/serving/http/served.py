"""What is served: a verified release, a predictor for each lane, and how fast it is here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visionloop.core.errors import MissingExtraError, PackageError
from visionloop.core.files import read_json
from visionloop.core.progress import say_step
from visionloop.serving.engines import load_engine
from visionloop.serving.http.pace import Pace
from visionloop.serving.http.params import HttpParams
from visionloop.serving.package import ModelPackage, load_package
from visionloop.serving.predictor import Predictor
from visionloop.serving.release_index import load_index
from visionloop.serving.releases import Release, fetch_newest, read_index
from visionloop.serving.signing import trusted_keys

__all__ = ["Served", "Shelf"]

ROUNDS = 3


@dataclass(frozen=True, eq=False)
class Served:
    """A release at work.

    Attributes
    ----------
    release : Release
    package : ModelPackage
    predictors : tuple of Predictor
        One a lane.
    pace : Pace
        How long its batches take.
    """

    release: Release
    package: ModelPackage
    predictors: tuple[Predictor, ...]
    pace: Pace

    @property
    def name(self) -> str:
        """For people and logs."""
        return f"release {self.release.number} of '{self.release.model}'"


class Shelf:
    """Takes releases from the folder of releases.

    Parameters
    ----------
    folder : Path
        Of all releases.
    model : str
    vision_task : str
        A release of another task is refused; empty takes that of the first release.
    state : Path
        File that remembers the newest index that was seen.
    params : HttpParams
    lanes : int
    """

    def __init__(
        self,
        folder: Path,
        *,
        model: str,
        vision_task: str,
        state: Path,
        params: HttpParams,
        lanes: int,
    ) -> None:
        self._folder, self._model, self._vision_task = folder, model, vision_task
        self._state, self._params, self._lanes = state, params, lanes
        self.fallback_problem = ""

    def load(self, used: Served | None) -> Served:
        """The newest release, verified and warm; ``used`` again if that is what it is.

        At the start, when nothing is in use, a newest release that cannot be used does not
        keep the server from serving the one before it; ``fallback_problem`` says why.

        Raises
        ------
        PackageError
            If the newest release cannot be used (and, at the start, none before it).
        """
        try:
            release, package = fetch_newest(
                releases=self._folder, model=self._model, state=self._state
            )
            if used is not None and _is_same(used.release, release):
                self.fallback_problem = ""
                return used
            served = self._open(release, package)
        except PackageError as error:
            if used is not None:
                raise
            return self._open_older(error)
        self.fallback_problem = ""
        return served

    def _open_older(self, problem: PackageError) -> Served:
        """The index is verified again here; a forged or an old one gives nothing."""
        seen = read_json(self._state)["serial"] if self._state.is_file() else 0
        if load_index(self._folder, trusted_keys()).serial < seen:
            raise problem
        rows = [row for row in read_index(self._folder) if row.model == self._model]
        for release in reversed(rows[:-1]):
            try:
                package = load_package(release.package)
                if package.sha256 != release.package_sha256:
                    continue
                served = self._open(release, package)
            except PackageError:
                continue
            self.fallback_problem = str(problem)
            return served
        raise problem

    def _open(self, release: Release, package: ModelPackage) -> Served:
        task = package.manifest.vision_task
        wanted = self._vision_task or task
        if task != wanted or task == "embedding":
            raise PackageError(
                str(release.package),
                f"is a package for {task}; this server answers {wanted}",
                "release a package of the same vision task, or serve it under another model name",
            )
        predictors = tuple(self._make_predictor(release, package) for _ in range(self._lanes))
        budget = self._params.latency_budget_ms
        pace = Pace(None if budget is None else budget / 1e3)
        _warm_up(predictors, pace, self._params.max_batch)
        self._vision_task = task
        return Served(release, package, predictors, pace)

    def _make_predictor(self, release: Release, package: ModelPackage) -> Predictor:
        """The backend that was asked for; where it cannot run here, ONNX Runtime, and say so."""
        params = self._params
        if params.backend == "tensorrt":
            try:
                if release.engine is None:
                    raise PackageError(str(release.folder), "holds no engine")
                _, engine = load_engine(release.engine, package_sha256=package.sha256)
                return Predictor(
                    package, backend="tensorrt", model=engine, batch_size=params.max_batch
                )
            except (PackageError, MissingExtraError) as error:
                say_step(f"http: ONNX Runtime serves instead of TensorRT: {error.problems[0]}")
        return Predictor(package, threads=params.threads, batch_size=params.max_batch)


def _is_same(one: Release, other: Release) -> bool:
    return (one.number, one.package_sha256) == (other.number, other.package_sha256)


def _warm_up(predictors: tuple[Predictor, ...], pace: Pace, max_batch: int) -> None:
    """Every predictor answers once, so that the first request is not slow; the first one is timed.

    Raises
    ------
    PackageError
        If the model does not answer, or with numbers that are not finite.
    """
    spec = predictors[0].package.manifest.input
    noise = np.random.default_rng(0).integers(0, 256, (spec.height, spec.width, 3), np.uint8)
    for predictor in predictors:
        predictor.predict([noise])
    size = 1
    while size <= max_batch:
        for _ in range(ROUNDS):
            began = time.monotonic()
            predictors[0].predict([noise] * size)
            pace.observe(size, time.monotonic() - began, is_alone=True)
        size *= 2
