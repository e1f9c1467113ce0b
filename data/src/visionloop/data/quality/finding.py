"""A finding: one row with a reason, and what kinds there are."""

from __future__ import annotations

from dataclasses import dataclass

from visionloop.core.files import canonical_json, sha256_of_bytes

__all__ = ["ANNOTATION_KINDS", "MEANING", "Finding"]

MEANING = {
    "schema": "a row that does not follow the schema",
    "corrupt": "an image that cannot be read",
    "dark": "a dark image",
    "bright": "an overexposed image",
    "blurred": "a blurred image",
    "low_information": "an image with next to nothing on it",
    "odd_size": "an image of unusual size",
    "odd_shape": "an image of unusual proportions",
    "near_duplicate": "a pair of near-duplicates",
    "duplicate": "a pair with the same picture in other bytes",
    "conflict": "contradicting annotations of one view",
    "leak": "a sample outside training whose group is in training",
    "reserved_twin": "a near-duplicate of a test sample, which split will leave out",
    "box": "a box that makes no sense",
    "foreign_class": "a class that the file's name does not say",
    "class": "a class with too few annotations",
    "class_in_part": "a class that a site or camera lacks",
    "imbalance": "classes out of balance",
    "change": "a change against the version before",
    "label_issue": "a doubtful class",
    "missing": "a box that seems to be missing",
    "spurious": "a box where nothing seems to be",
    "shifted": "a box that seems to be misplaced",
    "swapped": "a box that seems to have another class",
}
"""Kind to what one finding of it is."""

ANNOTATION_KINDS = ("label_issue", "missing", "spurious", "shifted", "swapped")
"""Kinds that ``visionloop data label-issues`` finds."""


@dataclass(frozen=True)
class Finding:
    """Something found.

    Attributes
    ----------
    kind : str
        A row of ``MEANING``.
    sample_id : str
        Empty where it concerns the whole.
    reason : str
        One sentence.
    severity : float
        In [0, 1], larger is worse.
    is_breach : bool
        Breaks the contract by itself.
    suggestion : str
        A class that fits better, or empty.
    xyxy : tuple of 4 floats or None
        The box concerned, in pixels.
    """

    kind: str
    sample_id: str
    reason: str
    severity: float
    is_breach: bool = False
    suggestion: str = ""
    xyxy: tuple[float, float, float, float] | None = None

    @property
    def finding_id(self) -> str:
        """Ten hexadecimal digits by which people name it; the same in every run."""
        box = [round(value) for value in self.xyxy or ()]
        return sha256_of_bytes(canonical_json([self.kind, self.sample_id, self.reason, box]))[:10]
