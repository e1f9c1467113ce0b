"""The gate before the network: is there anything to look at?

A frame is compared with a background that follows slowly, on a small grey picture in which
sensor noise has averaged out. What changes too slowly for that is found by the full look,
which is due after a fixed time whatever the gate says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.serving.edge_params import GateParams

__all__ = ["Gate", "Reason", "small_grey"]

Reason = Literal["", "motion", "full", "follow", "every"]

WIDTH, HEIGHT = 160, 90
NOISE_FACTOR = 6.0
"""Differences below so many times their median are noise."""

Grey = NDArray[np.uint8]


class Gate:
    """Decides for one camera; times are those of the monotonic clock.

    Parameters
    ----------
    params : GateParams
    region : sequence of 4 floats
        The part of the picture in which motion counts, x1, y1, x2, y2 in 0 to 1.
    ignored : sequence of polygons
        In 0 to 1; motion in them does not count.
    """

    def __init__(
        self,
        params: GateParams,
        *,
        region: Sequence[float] = (0, 0, 1, 1),
        ignored: Sequence[Sequence[Sequence[float]]] = (),
    ) -> None:
        self._params = params
        self._counts = _mask(region, ignored)
        self._background: NDArray[np.float32] | None = None
        self._updated = 0.0
        self._last_motion = -np.inf
        self._last_look = -np.inf
        self._follow_until = -np.inf
        self.pace_share = 1.0

    def follow(self, until: float) -> None:
        """Something is there: frames are looked at until then even if nothing moves."""
        self._follow_until = max(self._follow_until, until)

    def is_active(self, now: float) -> bool:
        """Whether something moved within ``quiet_s``: all frames must be decoded."""
        if not self._params.enabled:
            return True
        return now - self._last_motion <= self._params.quiet_s

    def is_due(self, now: float) -> bool:
        """Whether the rate allows a look; ask before :meth:`judge`."""
        period = 1.0 / (self._params.active_fps * self.pace_share)
        return now - self._last_look >= 0.9 * period

    def judge(self, grey: Grey, now: float) -> Reason:
        """Whether this frame is to be analysed, and why; empty if not.

        Parameters
        ----------
        grey : uint8 array (90, 160)
            From :func:`small_grey`.
        now : float
            Seconds.
        """
        moves = self._moves(grey, now)
        if moves:
            self._last_motion = now
        reason = self._reason(moves, now)
        if reason:
            self._last_look = now
        return reason

    def _reason(self, moves: bool, now: float) -> Reason:
        if not self._params.enabled:
            return "every"
        if now - self._last_look >= self._params.full_look_s:
            return "full"
        if moves or now - self._last_motion <= self._params.quiet_s:
            return "motion"
        return "follow" if now <= self._follow_until else ""

    def _moves(self, grey: Grey, now: float) -> bool:
        frame = grey.astype(np.float32)
        if self._background is None or self._background.shape != frame.shape:
            self._background, self._updated = frame, now
            return False
        difference = np.abs(frame - self._background)
        level = max(self._params.minimum_change, NOISE_FACTOR * float(np.median(difference)))
        moved = (difference >= level) & self._counts
        weight = 1 - np.exp(-(now - self._updated) / self._params.absorb_s)
        cv2.accumulateWeighted(frame, self._background, float(weight))
        self._updated = now
        return float(moved.mean()) >= self._params.minimum_area


def small_grey(picture: Any) -> Grey:
    """The small grey picture that the gate compares.

    Parameters
    ----------
    picture : av.VideoFrame, or uint8 array (H, W, 3) BGR
        Of planar YUV frames the brightness plane is read in place.

    Returns
    -------
    uint8 array (90, 160)
    """
    if isinstance(picture, np.ndarray):
        small = cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.uint8)
    if picture.format.name in ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "gray"):
        plane = picture.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        whole = rows[:, : plane.width]
    else:
        whole = picture.to_ndarray(format="gray")
    return np.asarray(cv2.resize(whole, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)


def _mask(
    region: Sequence[float], ignored: Sequence[Sequence[Sequence[float]]]
) -> NDArray[np.bool_]:
    scale = np.array([WIDTH, HEIGHT])
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    x1, y1, x2, y2 = np.rint(np.asarray(region).reshape(2, 2) * scale).astype(int).ravel()
    mask[y1:y2, x1:x2] = 1
    for polygon in ignored:
        corners = np.rint(np.asarray(polygon) * scale).astype(np.int32)
        cv2.fillPoly(mask, [corners], 0)
    return mask.astype(bool)
