"""Camera health in a decoding process: a look at a decoded frame about once a second."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from visionloop.serving.edge.health.judge import CameraHealth
from visionloop.serving.edge.health.look import FINE
from visionloop.serving.edge.health.params import HealthParams

__all__ = ["HealthWatch"]

SAVE_S = 600.0


class HealthWatch:
    """Judges one camera; looked at by its thread, asked by another.

    Parameters
    ----------
    camera : str
    params : HealthParams
    folder : Path
        What is learned is kept there, ``<camera>.npz``.
    """

    def __init__(self, camera: str, params: HealthParams, folder: Path) -> None:
        self._health = CameraHealth(camera, params)
        self._path = folder / f"{camera}.npz"
        self._params = params
        self._due = self._saved = 0.0
        self._lock = threading.Lock()
        self._raised: dict[str, str] = {}
        self._health.load(self._path)

    def look(self, picture: Any, now: float) -> None:
        """Judge a frame if it is time: an av.VideoFrame, or uint8 (H, W, 3) BGR."""
        if now < self._due:
            return
        self._due = now + 0.9 * self._params.every_s
        changes = self._health.look(_small_bgr(picture), now=now)
        with self._lock:
            for change in changes:
                if change.is_raised:
                    self._raised[change.condition] = change.reason
                else:
                    self._raised.pop(change.condition, None)
        if now - self._saved >= SAVE_S and self._health.measures is not None:
            if self._saved and not self._raised:
                with suppress(OSError):  # a full disk costs only what was learned of late
                    self._health.save(self._path)
            self._saved = now

    def raised(self) -> dict[str, str]:
        """Raised conditions with their reasons."""
        with self._lock:
            return dict(self._raised)


def _small_bgr(picture: Any) -> Any:
    """As small as health needs it; of an av.VideoFrame without making it large first."""
    if isinstance(picture, np.ndarray):
        return picture
    height, width = FINE
    return picture.reformat(
        width=width, height=height, format="bgr24", interpolation="AREA"
    ).to_ndarray()
