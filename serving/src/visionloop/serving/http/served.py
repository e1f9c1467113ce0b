"""What is served: a verified release, a predictor for each lane, and how fast it is here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visionloop.core.errors import PackageError
from visionloop.serving.backends.table import ENGINE_BACKENDS, TUNED
from visionloop.serving.engines.device import open_tuned, start_with_engine
from visionloop.serving.failover import FailoverPredictor
from visionloop.serving.http.pace import WORTH, Pace
from visionloop.serving.http.params import HttpParams
from visionloop.serving.package import ModelPackage
from visionloop.serving.params import BuildParams
from visionloop.serving.predictor import Predictor
from visionloop.serving.releases.golden import GOLDEN_NAME, check_golden
from visionloop.serving.releases.store import Release, fetch_newest, fetch_older

__all__ = ["Served", "Shelf"]

ROUNDS = 3
AnyPredictor = Predictor | FailoverPredictor


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
    predictors: tuple[AnyPredictor, ...]
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
    profile : Path
        The device profile, for ``backend: tuned``.
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
        profile: Path,
        lanes: int,
    ) -> None:
        self._profile = profile
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
        older = fetch_older(releases=self._folder, model=self._model, state=self._state)
        for release, package in older:
            try:
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
        golden = release.engine and release.engine / GOLDEN_NAME
        if golden is not None and golden.is_dir():
            check_golden(golden, predictors[0])
        self._vision_task = task
        return Served(release, package, predictors, pace)

    def _make_predictor(self, release: Release, package: ModelPackage) -> AnyPredictor:
        """With an engine backend, ONNX Runtime serves until the engine of this machine is ready."""
        params = self._params
        cache = self._state.parent / "engines"
        if params.backend == TUNED:
            return open_tuned(
                package,
                release.engine,
                profile=self._profile,
                cache=cache,
                spare=params.threads,
                batch_size=params.max_batch,
            )
        if params.backend in ENGINE_BACKENDS:
            return start_with_engine(
                package,
                release.engine,
                cache=cache,
                threads=params.threads,
                backend=params.backend,
                params=BuildParams(max_batch=params.max_batch),
            )
        return Predictor(
            package, backend=params.backend, threads=params.threads, batch_size=params.max_batch
        )


def _is_same(one: Release, other: Release) -> bool:
    return (one.number, one.package_sha256) == (other.number, other.package_sha256)


def _warm_up(predictors: tuple[AnyPredictor, ...], pace: Pace, max_batch: int) -> None:
    """Every predictor answers once, so that the first request is not slow; the first one is timed.

    Larger batches are tried while they are faster by picture: measuring others would only keep
    the processors from those who are being answered.

    Raises
    ------
    PackageError
        If the model does not answer, or with numbers that are not finite.
    """
    spec = predictors[0].package.manifest.input
    noise = np.random.default_rng(0).integers(0, 256, (spec.height, spec.width, 3), np.uint8)
    for predictor in predictors:
        predictor.predict([noise])
    size, before = 1, float("inf")
    while size <= max_batch:
        for _ in range(ROUNDS):
            began = time.monotonic()
            predictors[0].predict([noise] * size)
            pace.observe(size, time.monotonic() - began, is_alone=True)
        by_picture = pace.seconds(size) / size
        if by_picture > WORTH * before:
            return
        size, before = size * 2, by_picture
