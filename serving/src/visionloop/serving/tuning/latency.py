"""How long a predictor takes, one picture at a time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from visionloop.serving.predictor import Predictor, Timings

__all__ = ["Latency", "measure_latency"]


@dataclass(frozen=True)
class Latency:
    """Milliseconds from a decoded picture to its answer.

    Attributes
    ----------
    p50, p95, p99 : float
        Percentiles of the whole way.
    pre, infer, post : float
        Medians of the three parts: pre-processing, model, post-processing.
    calls : int
    backend : str
    """

    p50: float
    p95: float
    p99: float
    pre: float
    infer: float
    post: float
    calls: int
    backend: str

    def as_row(self) -> dict[str, float | int | str]:
        """The numbers by name."""
        return asdict(self)


def measure_latency(
    predictor: Predictor,
    images: Sequence[NDArray[np.uint8]],
    *,
    repeats: int = 50,
    warm_up: int = 5,
) -> Latency:
    """Time single pictures, in turn, after a warm-up.

    Parameters
    ----------
    predictor : Predictor
    images : sequence of uint8 arrays (H, W, 3), BGR
        At least one.
    repeats : int
        Timed calls.
    warm_up : int
        Calls before them that are not counted.
    """
    ask = _time_embedding if predictor.package.manifest.vision_task == "embedding" else _time_answer
    for call in range(warm_up):
        ask(predictor, images[call % len(images)])
    timings = [ask(predictor, images[i % len(images)]) for i in range(repeats)]
    p50, p95, p99 = np.percentile([t.total for t in timings], [50, 95, 99])
    return Latency(
        p50=float(p50),
        p95=float(p95),
        p99=float(p99),
        pre=float(np.median([t.pre for t in timings])),
        infer=float(np.median([t.infer for t in timings])),
        post=float(np.median([t.post for t in timings])),
        calls=repeats,
        backend=predictor.backend_name,
    )


def _time_answer(predictor: Predictor, image: NDArray[np.uint8]) -> Timings:
    return predictor.predict_timed([image])[1]


def _time_embedding(predictor: Predictor, image: NDArray[np.uint8]) -> Timings:
    """Of a package that only embeds: the whole way counts as the model's."""
    start = time.perf_counter()
    predictor.embed([image])
    return Timings(0.0, (time.perf_counter() - start) * 1e3, 0.0)
