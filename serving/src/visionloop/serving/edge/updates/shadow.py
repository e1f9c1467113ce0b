"""The shadow: a new model answers beside the old one, on the same frames."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Prediction
from visionloop.core.errors import PackageError
from visionloop.serving.edge.updates.model import LoadedModel
from visionloop.serving.edge_params import EdgeParams
from visionloop.serving.variants.parity import compare_predictions

__all__ = ["Shadow"]


class Shadow:
    """Lets the new model answer beside the old one, on the same frames.

    Parameters
    ----------
    model : LoadedModel
        The new one.
    params : EdgeParams
    """

    def __init__(self, model: LoadedModel, params: EdgeParams) -> None:
        self.model, self._params = model, params.updates
        self._end = time.monotonic() + self._params.shadow_s
        self._agreed: list[float] = []
        self._old_s = self._new_s = 0.0
        self.fault = ""

    def look(
        self, images: Sequence[NDArray[np.uint8]], answers: Sequence[Prediction], seconds: float
    ) -> None:
        """Compare on a batch that the old model answered in ``seconds``."""
        start = time.perf_counter()
        try:
            mine = self.model.predictor.predict(images)
        except PackageError as error:
            self.fault = f"fails in the shadow: {error.problems[0]}"
            return
        self._new_s += time.perf_counter() - start
        self._old_s += seconds
        for old, new in zip(answers, mine, strict=True):
            if type(old.answer) is type(new.answer):
                self._agreed.append(compare_predictions([old], [new]).agreement)
            else:
                self._agreed.append(0.0)

    def verdict(self) -> str | None:
        """None while it goes on; an empty string if the new one may serve; else why not."""
        if self.fault:
            return self.fault
        if len(self._agreed) < self._params.shadow_frames and time.monotonic() < self._end:
            return None
        if self._old_s and self._new_s > self._params.max_slowdown * self._old_s:
            return f"is {self._new_s / self._old_s:.1f} times as slow as the old one"
        agreement = float(np.mean(self._agreed)) if self._agreed else 1.0
        if agreement < self._params.minimum_agreement:
            return f"agrees with the old one on {agreement:.0%} only"
        return ""

    @property
    def old_ms(self) -> float:
        """Milliseconds that the old model took for a frame; infinite where none was seen."""
        return 1e3 * self._old_s / len(self._agreed) if self._agreed else float("inf")

    @property
    def facts(self) -> dict[str, float]:
        """What the shadow measured."""
        return {
            "shadow_frames": len(self._agreed),
            "agreement": round(float(np.mean(self._agreed)), 4) if self._agreed else 1.0,
            "slowdown": round(self._new_s / self._old_s, 3) if self._old_s else 1.0,
        }
