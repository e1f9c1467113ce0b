"""The things that stages hand to each other: frozen, validated, numpy only.

A *sample* is one image with its metadata. An *annotation* is human truth on a
sample. *Detections* and *ClassProbabilities* are a model's answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Annotation",
    "Answer",
    "AttributeProbabilities",
    "ClassProbabilities",
    "Detections",
    "Frame",
    "Prediction",
    "Sample",
]

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Sample:
    """One image with its metadata.

    Attributes
    ----------
    sample_id : str
        SHA-256 of the image file's bytes, hexadecimal.
    file_name : str
        Name below the image folder, ``<sample_id>.<suffix>``.
    width, height : int
        Pixels.
    camera, site : str
        Where the image was taken.
    captured_at : str
        UTC, RFC 3339, for example ``2026-03-01T06:00:00Z``.
    attributes : dict
        Any further metadata column, for example ``{"cell_type": "mono"}``.
    """

    sample_id: str
    file_name: str
    width: int
    height: int
    camera: str = ""
    site: str = ""
    captured_at: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Annotation:
    """Human truth on a sample: a class for the whole image, or a box of a class.

    Attributes
    ----------
    sample_id : str
        The sample it belongs to.
    class_name : str
        Its class. The empty string says "looked at, nothing there" (detection).
    xyxy : tuple of 4 floats or None
        Box corners in pixels ``(x1, y1, x2, y2)``; None for a whole-image class.
    annotator : str
        Who said so.
    source : str
        ``"expert"`` (came with the data) or ``"studio"`` (Label Studio).
    action : str
        What the annotator did with the draft: ``accepted``, ``adjusted``, ``added``,
        ``relabelled``, or empty where there was no draft.
    lead_time : float
        Seconds spent, 0 where unknown.
    polygon : tuple of rings
        Outline in pixels inside the box: each ring is ``(x1, y1, x2, y2, ...)`` of at least
        three points, several rings where the object is in several parts. Empty for a plain box.
    probabilities : tuple of (class name, probability)
        How sure people are of a whole-image class (a soft label): in [0, 1], summing to 1;
        ``class_name`` is the most probable one. Empty where the class is simply stated.
    """

    sample_id: str
    class_name: str
    xyxy: tuple[float, float, float, float] | None = None
    annotator: str = ""
    source: str = "expert"
    action: str = ""
    lead_time: float = 0.0
    polygon: tuple[tuple[float, ...], ...] = ()
    probabilities: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, eq=False)
class Detections:
    """Boxes of one image, N of them.

    Attributes
    ----------
    xyxy : float32 array (N, 4)
        Corners in pixels of the original image.
    class_id : int64 array (N,)
        Index into the package's class list.
    confidence : float32 array (N,)
        In [0, 1].
    mask : bool array (N, H, W) or None
    tracker_id : int64 array (N,) or None

    Raises
    ------
    ValueError
        If shapes disagree, a number is not finite, or a confidence is outside [0, 1].
    """

    xyxy: NDArray[np.float32]
    class_id: NDArray[np.int64]
    confidence: NDArray[np.float32]
    mask: NDArray[np.bool_] | None = None
    tracker_id: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        xyxy = np.asarray(self.xyxy, dtype=np.float32).reshape(-1, 4)
        class_id = np.asarray(self.class_id, dtype=np.int64).reshape(-1)
        confidence = np.asarray(self.confidence, dtype=np.float32).reshape(-1)
        if not len(xyxy) == len(class_id) == len(confidence):
            raise ValueError(
                f"{len(xyxy)} boxes, {len(class_id)} classes, {len(confidence)} confidences"
            )
        if not (np.isfinite(xyxy).all() and np.isfinite(confidence).all()):
            raise ValueError("boxes and confidences must be finite")
        if len(confidence) and not (confidence.min() >= 0 and confidence.max() <= 1):
            raise ValueError("confidences must lie in [0, 1]")
        for name in ("mask", "tracker_id"):
            extra = getattr(self, name)
            if extra is not None and len(extra) != len(xyxy):
                raise ValueError(f"{len(extra)} rows of {name} for {len(xyxy)} boxes")
        object.__setattr__(self, "xyxy", xyxy)
        object.__setattr__(self, "class_id", class_id)
        object.__setattr__(self, "confidence", confidence)

    def __len__(self) -> int:
        return len(self.xyxy)

    def __getitem__(self, index: Any) -> Detections:
        """Select boxes by slice, integer array or boolean array."""
        return Detections(
            self.xyxy[index],
            self.class_id[index],
            self.confidence[index],
            None if self.mask is None else self.mask[index],
            None if self.tracker_id is None else self.tracker_id[index],
        )

    @classmethod
    def empty(cls) -> Detections:
        """No boxes."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32))


@dataclass(frozen=True, eq=False)
class ClassProbabilities:
    """The probabilities of one image's classes.

    Attributes
    ----------
    probabilities : float32 array (C,)
        In [0, 1], summing to 1, in the order of the package's class list.

    Raises
    ------
    ValueError
        If a number is not finite or they do not sum to 1 within 0.001.
    """

    probabilities: NDArray[np.float32]

    def __post_init__(self) -> None:
        values = np.asarray(self.probabilities, dtype=np.float32).reshape(-1)
        if not np.isfinite(values).all():
            raise ValueError("probabilities must be finite")
        if abs(float(values.sum()) - 1) > 1e-3:
            raise ValueError(f"probabilities sum to {float(values.sum()):.4f}, not 1")
        object.__setattr__(self, "probabilities", values)

    @property
    def class_id(self) -> int:
        """Index of the most probable class."""
        return int(self.probabilities.argmax())

    @property
    def confidence(self) -> float:
        """Probability of the most probable class."""
        return float(self.probabilities.max())


@dataclass(frozen=True, eq=False)
class AttributeProbabilities:
    """The probabilities of one image's attributes, each of which may hold or not.

    Attributes
    ----------
    probabilities : float32 array (C,)
        Each in [0, 1], in the order of the package's class list; they need not sum to 1.

    Raises
    ------
    ValueError
        If a number is not finite or outside [0, 1].
    """

    probabilities: NDArray[np.float32]

    def __post_init__(self) -> None:
        values = np.asarray(self.probabilities, dtype=np.float32).reshape(-1)
        if not np.isfinite(values).all():
            raise ValueError("probabilities must be finite")
        if len(values) and not (values.min() >= 0 and values.max() <= 1):
            raise ValueError("probabilities must lie in [0, 1]")
        object.__setattr__(self, "probabilities", values)


Answer = ClassProbabilities | AttributeProbabilities | Detections


@dataclass(frozen=True, eq=False)
class Prediction:
    """A model's answer on one image.

    Attributes
    ----------
    answer : ClassProbabilities, AttributeProbabilities or Detections
    embedding : float32 array (D,) or None
        The model's feature vector of the image, where the package gives one.
    heatmap : float32 array (h, w) or None
        Where the image is anomalous, in [0, 1], on the model's grid over the whole input
        picture; where the package gives one.
    """

    answer: Answer
    embedding: NDArray[np.float32] | None = None
    heatmap: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a source.

    Attributes
    ----------
    image : uint8 array (H, W, 3), BGR
    camera, site : str
    sequence : int
        Counts the frames of this source from 0.
    captured_at : str
        UTC, RFC 3339.
    monotonic : float
        Seconds of the monotonic clock when it was read.
    attributes : dict
        Metadata that the source gives its frames, for example ``{"cell_type": "poly"}``.
    encoded : bytes or None
        The file the picture came from, where there is one: kept as it is, a frame has
        the sample id of that file.
    """

    image: Image
    camera: str
    site: str
    sequence: int
    captured_at: str
    monotonic: float
    attributes: dict[str, Any] = field(default_factory=dict)
    encoded: bytes | None = None
