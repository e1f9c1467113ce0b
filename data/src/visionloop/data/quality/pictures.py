"""Pictures that are odd by themselves: what cleanvision sees, in our words."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from visionloop.data.quality.finding import Finding

if TYPE_CHECKING:
    import pandas

__all__ = ["find_odd_pictures"]

CHECKS = {
    "dark": ("dark", "is darker than cleanvision allows"),
    "light": ("bright", "is brighter than cleanvision allows"),
    "low_information": ("low_information", "holds next to no information"),
    "odd_size": ("odd_size", "is of another size than the rest"),
    "odd_aspect_ratio": ("odd_shape", "has unusual proportions"),
}
"""cleanvision's name of a check to our kind and what one finding says."""
USUAL = 0.2
"""Share of the pictures from which on a look is that of the product and not odd."""


def find_odd_pictures(
    samples: pandas.DataFrame, images: Path, readable: Sequence[str]
) -> list[Finding]:
    """Run cleanvision's checks (see ``CHECKS``) over the images that can be read.

    Its checks for duplicates are left out (ours join pairs into groups), and so is blur: its
    limit calls smooth surfaces blurred; ``blurred_below`` is one that people set. Its scores are
    in [0, 1], 1 is good; the severity is what is missing to 1, at most .5: these are hints.
    What a fifth of the pictures or more look like is told once and not for each: bare boards are
    all "dark" and "low-information" to it.
    """
    from cleanvision import Imagelab

    names = dict(zip(samples["sample_id"], samples["file_name"], strict=True))
    places = {str(images / names[one]): one for one in readable}
    if not places:
        return []
    lab = Imagelab(filepaths=sorted(places), verbose=False)
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bars ignore "verbose"
        lab.find_issues({name: {} for name in CHECKS}, n_jobs=1, verbose=False)
    found = []
    for name, (kind, meaning) in CHECKS.items():
        odd = lab.issues[lab.issues[f"is_{name}_issue"]]
        if len(odd) > max(1, USUAL * len(places)):
            reason = (
                f"{len(odd)} of {len(places)} pictures: the picture {meaning}; so they look here"
            )
            found.append(Finding(kind, "", reason, 0.05))
            continue
        for place, row in odd.iterrows():
            one, score = places[str(place)], float(row[f"{name}_score"])
            detail = f" ({_size(samples, one)} pixels)" if kind.startswith("odd") else ""
            reason = f"the picture {meaning}{detail}: score {score:.2f}"
            found.append(Finding(kind, one, reason, 0.5 * (1 - score)))
    return found


def _size(samples: pandas.DataFrame, sample_id: str) -> str:
    row = samples.loc[samples["sample_id"] == sample_id].iloc[0]
    return f"{int(row['width'])} x {int(row['height'])}"
