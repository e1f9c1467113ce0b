"""Latency of a package: p50, p95 and mean with intervals, here or on a device of a profile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from visionloop.core.errors import ConfigError
from visionloop.core.files import write_json
from visionloop.core.plugins import nearest_hint
from visionloop.core.workspace import Workspace
from visionloop.evaluation.answers import answer_samples, machine_name
from visionloop.evaluation.inputs import load_inputs
from visionloop.evaluation.measurements import DeviceLatency, Latency

__all__ = ["latency", "summarise_latency"]

DRAWS = 1000


def latency(
    *, workspace: Workspace, device: str, backend: str = "onnxruntime", images: int = 100
) -> tuple[Path, Latency]:
    """Time ``artifacts/package`` on this machine and write ``reports/latency/<device>.json``.

    It is run on a device of that profile; the file is then copied to where the gate judges.

    Raises
    ------
    ConfigError
        If ``targets.yaml`` sets no limit for the profile, or there is no such backend.
    DataError, PackageError
        See :func:`visionloop.evaluation.inputs.load_inputs`.
    """
    from visionloop.serving.predictor import Predictor

    inputs = load_inputs(workspace)
    known = inputs.targets.latency.devices
    if device not in known:
        raise ConfigError(
            f"device profile '{device}'",
            "targets.yaml sets no limit for it in latency.devices",
            nearest_hint(device, known) if known else "add it there first",
        )
    threads = inputs.params.evaluate.threads
    predictor = Predictor(inputs.package, backend=backend, threads=threads)
    test = inputs.version.split("test")
    rows = test.iloc[np.arange(images) % len(test)].reset_index(drop=True)
    _, milliseconds = answer_samples(
        predictor,
        inputs.version,
        rows,
        minimum_confidence=inputs.params.evaluate.min_confidence,
        description=f"timing on {device}",
    )
    measured = summarise_latency(milliseconds, threads, backend)
    content = DeviceLatency(device=device, package=inputs.package.sha256, latency=measured)
    path = workspace.reports / "latency" / f"{device}.json"
    return write_json(path, content.model_dump(mode="json")), measured


def summarise_latency(milliseconds: Sequence[float], threads: int, backend: str) -> Latency:
    """Percentiles and mean of single calls, with bootstrap intervals of p95 and mean."""
    values = np.asarray(milliseconds, np.float64)
    drawn = np.random.default_rng(0).choice(values, size=(DRAWS, len(values)))
    p95 = np.quantile(np.quantile(drawn, 0.95, axis=1), [0.025, 0.975])
    mean = np.quantile(drawn.mean(axis=1), [0.025, 0.975])
    return Latency(
        p50_ms=float(np.quantile(values, 0.5)),
        p95_ms=float(np.quantile(values, 0.95)),
        mean_ms=float(values.mean()),
        images=len(values),
        threads=threads,
        backend=backend,
        machine=machine_name(),
        p95_low=float(p95[0]),
        p95_high=float(p95[1]),
        mean_low=float(mean[0]),
        mean_high=float(mean[1]),
    )
