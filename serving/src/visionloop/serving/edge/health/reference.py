"""What a camera shows when it is well: learned, kept, followed."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionloop.core.files import write_bytes
from visionloop.serving.edge.health.measures import Measures, Smoothed, likeness_of

__all__ = ["Learned", "load_learned", "save_learned"]

ANCHOR_S = 43_200.0
"""Contrast and detail are also held against what they were over about half a day."""
FIRST_FOLLOW_S = 30.0
LEARN_WEIGHT = 0.3
CHANGE_GROWTH, CHANGE_FALL = 1.01, 0.97
CHANGE_START = 1e9
LIKENESS_LOOKS = 20.0
"""The usual likeness of blocks is that of about so many looks."""


@dataclass(eq=False)
class Learned:
    """What was learned about one camera.

    Attributes
    ----------
    reference : Smoothed or None
        Of the mode that the camera is in; None while it is learned.
    contrast_drift, detail_drift : float
        What the reference has followed since the anchor: 0.5 is half the contrast.
    usual_change : float
        A low value of the difference between two looks, in grey levels.
    usual_chroma : float or None
        Mean colour by day.
    """

    is_infrared: bool = False
    forming: list[Smoothed] = field(default_factory=list)
    followed_s: float = 0.0
    references: dict[bool, Smoothed] = field(default_factory=dict)
    anchors: dict[bool, tuple[float, float]] = field(default_factory=dict)
    likeness: dict[bool, NDArray[np.float32]] = field(default_factory=dict)
    usual_change: float = CHANGE_START
    usual_chroma: float | None = None

    @property
    def reference(self) -> Smoothed | None:
        """The reference of the present mode."""
        return self.references.get(self.is_infrared)

    @property
    def usual_likeness(self) -> NDArray[np.float32] | None:
        """How alike blocks are to the reference while all is well: float32 (6, 10)."""
        return self.likeness.get(self.is_infrared)

    @property
    def contrast_drift(self) -> float:
        """Contrast of the reference by that of its anchor."""
        return self._drift(0)

    @property
    def detail_drift(self) -> float:
        """Detail of the reference by that of its anchor, beyond contrast."""
        return self._drift(1) / max(self._drift(0), 1e-3)

    def learn(self, one: Smoothed, seen: Measures, looks: int) -> None:
        """Take in one of the first looks; after enough of them there is a reference."""
        chroma = seen.chroma
        if seen.change is not None:
            self.usual_change = min(self.usual_change, seen.change)
        self.forming.append(one.copy())
        if not self.is_infrared and chroma is not None:
            old = chroma if self.usual_chroma is None else self.usual_chroma
            self.usual_chroma = old + LEARN_WEIGHT * (chroma - old)
        if len(self.forming) >= looks:
            reference = _median(self.forming)
            self.references[self.is_infrared] = reference
            self.anchors[self.is_infrared] = _strength(reference)
            alike = [likeness_of(look, reference) for look in self.forming]
            self.likeness[self.is_infrared] = np.median(np.stack(alike), axis=0)
            self.forming, self.followed_s = [], 0.0

    def follow(self, one: Smoothed, seen: Measures, passed: float, follow_s: float) -> None:
        """Move the reference towards a healthy look."""
        reference = self.references[self.is_infrared]
        likeness = self.likeness[self.is_infrared]
        likeness += (seen.likeness - likeness) / LIKENESS_LOOKS
        # What passed by in the first looks is forgotten soon.
        self.followed_s += passed
        reference.mix(one, min(1.0, passed / min(follow_s, FIRST_FOLLOW_S + self.followed_s)))
        share = min(1.0, passed / ANCHOR_S)
        old, new = self.anchors[self.is_infrared], _strength(reference)
        self.anchors[self.is_infrared] = (
            old[0] + share * (new[0] - old[0]),
            old[1] + share * (new[1] - old[1]),
        )

    def note_change(self, change: float | None) -> None:
        """Learn how much two looks differ at the least: the least of the last minutes."""
        if change is None:
            return
        # It sinks slowly: a camera that freezes must not teach that it always stood still.
        least = 0.0 if self.usual_change >= CHANGE_START else CHANGE_FALL * self.usual_change
        self.usual_change = max(least, min(change, self.usual_change * CHANGE_GROWTH))

    def switch(self, *, is_infrared: bool) -> None:
        """The camera changed its mode; the other mode's reference counts, or is learned."""
        self.is_infrared = is_infrared
        self.forming, self.followed_s = [], 0.0

    def forget(self) -> None:
        """Learn anew."""
        self.references.clear()
        self.anchors.clear()
        self.likeness.clear()
        self.forming, self.followed_s = [], 0.0

    def _drift(self, which: int) -> float:
        reference, anchor = self.reference, self.anchors.get(self.is_infrared)
        if reference is None or anchor is None:
            return 1.0
        return _strength(reference)[which] / max(anchor[which], 1e-6)


def save_learned(path: Path, learned: Learned) -> None:
    """Write what was learned about a camera, durably (NumPy's format, no pickles)."""
    content: dict[str, Any] = {
        "scalars": np.array(
            [
                learned.usual_change,
                np.nan if learned.usual_chroma is None else learned.usual_chroma,
                learned.is_infrared,
            ]
        )
    }
    for mode, reference in learned.references.items():
        name = "infrared" if mode else "colour"
        content[f"{name}_structure"] = reference.structure
        content[f"{name}_detail"] = reference.detail
        content[f"{name}_likeness"] = learned.likeness[mode]
        levels = (reference.noise, reference.light, reference.white, *learned.anchors[mode])
        content[f"{name}_levels"] = np.array(levels)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **content)
    write_bytes(path, buffer.getvalue())


def load_learned(path: Path) -> Learned | None:
    """Read what was learned; None where there is nothing that can be used."""
    try:
        with np.load(path, allow_pickle=False) as content:
            learned = Learned()
            change, chroma, mode = (float(value) for value in content["scalars"])
            learned.usual_change, learned.is_infrared = change, bool(mode)
            learned.usual_chroma = None if np.isnan(chroma) else chroma
            for name, is_infrared in (("colour", False), ("infrared", True)):
                if f"{name}_structure" not in content:
                    continue
                noise, light, white, *anchor = (float(v) for v in content[f"{name}_levels"])
                structure = np.asarray(content[f"{name}_structure"], np.float32)
                detail = np.asarray(content[f"{name}_detail"], np.float32)
                likeness = np.asarray(content[f"{name}_likeness"], np.float32)
                learned.likeness[is_infrared] = likeness
                learned.references[is_infrared] = Smoothed(structure, detail, noise, light, white)
                learned.anchors[is_infrared] = (anchor[0], anchor[1])
            return learned
    except (OSError, ValueError, KeyError, IndexError, EOFError):
        return None
    except Exception as error:  # zipfile's BadZipFile and zlib's error have no common parent
        if type(error).__name__ in ("BadZipFile", "error"):
            return None
        raise


def _median(looks: list[Smoothed]) -> Smoothed:
    """Without what was there in a minority of the looks."""

    def middle(values: list[Any]) -> Any:
        return np.median(np.stack(values), axis=0).astype(np.float32)

    return Smoothed(
        structure=middle([one.structure for one in looks]),
        detail=middle([one.detail for one in looks]),
        noise=float(middle([one.noise for one in looks])),
        light=float(middle([one.light for one in looks])),
        white=float(middle([one.white for one in looks])),
    )


def _strength(reference: Smoothed) -> tuple[float, float]:
    """Contrast and fine detail of a reference, by its light."""
    light = reference.light + 4
    contrast = float(np.sqrt((reference.structure**2).mean())) / light
    fine = float(np.sqrt(max(float(reference.detail.mean()) - reference.noise, 1e-3))) / light
    return contrast, fine
