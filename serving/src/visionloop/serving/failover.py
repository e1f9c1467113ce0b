"""A predictor that never stops: ONNX Runtime serves at once, a faster backend takes over later.

What is missing, foreign or broken about an engine is found and mended in the background, in
processes of their own; if the faster backend fails while it serves, the frame at hand is
answered by ONNX Runtime, and so are those after it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Prediction
from visionloop.core.errors import VisionloopError
from visionloop.core.progress import say_step
from visionloop.serving.package import ModelPackage
from visionloop.serving.predictor import Timings

if TYPE_CHECKING:
    from visionloop.serving.predictor import Predictor

__all__ = ["FailoverPredictor"]

Images = Sequence[NDArray[np.uint8]]


class FailoverPredictor:
    """Answers as :class:`Predictor` does, from whichever backend can.

    Parameters
    ----------
    standby : Predictor
        Always able to serve: ONNX Runtime.
    prepare : callable
        Makes the faster predictor; called in a thread of its own, may take minutes, and raises
        what keeps it from being made.
    attempts : int
        So many times it is prepared; after that the standby serves until the next start.
    say : callable
        Told what changed, in one line.

    Attributes
    ----------
    package : ModelPackage
    why_standby : str
        Why the standby serves; empty while the faster backend does.
    """

    def __init__(
        self,
        standby: Predictor,
        prepare: Callable[[], Predictor],
        *,
        attempts: int = 2,
        say: Callable[[str], None] = say_step,
    ) -> None:
        self.package: ModelPackage = standby.package
        self.why_standby = "the engine is being prepared"
        self._standby, self._prepare, self._say = standby, prepare, say
        self._fast: Predictor | None = None
        self._left = attempts
        self._lock = threading.Lock()
        self._is_preparing = False
        self._start()

    @property
    def backend_name(self) -> str:
        """The backend that serves now."""
        return (self._fast or self._standby).backend_name

    @property
    def is_preparing(self) -> bool:
        """Whether the faster backend is being made in the background."""
        return self._is_preparing

    def wait(self, seconds: float) -> bool:
        """Wait until nothing is prepared any more; whether that came in time."""
        end = time.monotonic() + seconds
        while self._is_preparing and time.monotonic() < end:
            time.sleep(0.01)
        return not self._is_preparing

    def predict(
        self, images: Images, *, minimum_confidence: float | None = None
    ) -> list[Prediction]:
        """See :meth:`Predictor.predict`."""
        return self.predict_timed(images, minimum_confidence=minimum_confidence)[0]

    def predict_timed(
        self, images: Images, *, minimum_confidence: float | None = None
    ) -> tuple[list[Prediction], Timings]:
        """See :meth:`Predictor.predict_timed`."""
        fast = self._fast
        if fast is not None:
            try:
                return fast.predict_timed(images, minimum_confidence=minimum_confidence)
            except VisionloopError as error:
                self._give_up(fast, error)
        return self._standby.predict_timed(images, minimum_confidence=minimum_confidence)

    def embed(self, images: Images) -> NDArray[np.float32]:
        """See :meth:`Predictor.embed`."""
        fast = self._fast
        if fast is not None:
            try:
                return fast.embed(images)
            except VisionloopError as error:
                self._give_up(fast, error)
        return self._standby.embed(images)

    def _give_up(self, failed: Predictor, error: VisionloopError) -> None:
        """The faster backend failed on a frame: the standby takes over, and it is made anew."""
        with self._lock:
            if self._fast is not failed:
                return
            self._fast, self.why_standby = None, "; ".join(error.problems)
        self._say(f"{self._standby.backend_name} serves instead: {self.why_standby}")
        self._start()

    def _start(self) -> None:
        with self._lock:
            if self._is_preparing or self._left < 1:
                return
            self._left, self._is_preparing = self._left - 1, True
        threading.Thread(target=self._run, name="prepare-engine", daemon=True).start()

    def _run(self) -> None:
        try:
            fast = self._prepare()
        except VisionloopError as error:
            self.why_standby = "; ".join(error.problems)
            self._say(f"{self._standby.backend_name} serves: {self.why_standby}")
        except Exception as error:  # a thread must not die unheard
            self.why_standby = f"{type(error).__name__}: {error}"
            self._say(f"{self._standby.backend_name} serves: {self.why_standby}")
        else:
            self.why_standby = ""
            self._fast = fast
            self._say(f"{fast.backend_name} serves from now on")
        finally:
            self._is_preparing = False
