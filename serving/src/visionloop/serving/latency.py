"""How long a predictor takes, one picture at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from visionloop.serving.predictor import Predictor

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
    for call in range(warm_up):
        predictor.predict([images[call % len(images)]])
    timings = [predictor.predict_timed([images[i % len(images)]])[1] for i in range(repeats)]
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
