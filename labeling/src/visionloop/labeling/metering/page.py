"""The page of the meter, with its pictures drawn as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from visionloop.labeling.metering.costs import FEWEST, LookCost, Saving
from visionloop.labeling.metering.times import FACTOR, LONGEST, Timed
from visionloop.labeling.review.intervals import Estimate

__all__ = ["Curve", "curves_of", "write_meter_page"]

TEMPLATE = Path(__file__).parent / "templates" / "meter.html.j2"
WIDTH, HEIGHT, LEFT, BOTTOM = 960, 240, 52, 26
MOST_POINTS = 24
FEWEST_IN_A_POINT = 5
NAMES = {
    "first": "first look",
    "second": "second look",
    "review": "second opinion",
    "adjudicate": "settled",
}


@dataclass(frozen=True)
class Curve:
    """Seconds an image over the course of the work, as the picture draws it.

    Attributes
    ----------
    points : list of (x, y) in pixels
    top : float
        Seconds at the upper edge.
    changes : list of (x, name)
        Where drafts of another version began.
    by_hand : float or None
        Height of the line of drawing by hand, in pixels.
    spans : list of str
        First and last moment.
    """

    points: list[tuple[float, float]] = field(default_factory=list)
    top: float = 0.0
    changes: list[tuple[float, str]] = field(default_factory=list)
    by_hand: float | None = None
    spans: list[str] = field(default_factory=list)

    @property
    def line(self) -> str:
        """The points as SVG takes them."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in self.points)


def curves_of(rows: Sequence[Timed], by_hand: float | None) -> Curve | None:
    """Mean seconds of the first looks in equal portions of the work; None if it is too little.

    Control pictures are left out: they are the line that the curve is compared with.
    """
    first = [
        row
        for row in rows
        if row.decision.look == "first" and row.is_measured and not row.decision.is_control
    ]
    count = min(MOST_POINTS, len(first) // FEWEST_IN_A_POINT)
    if count < 2:
        return None
    first.sort(key=lambda row: (row.decision.decided_at, row.decision.annotation))
    portions = np.array_split(np.arange(len(first)), count)
    means = [float(np.mean([first[number].seconds for number in one])) for one in portions]
    top = 1.1 * max([*means, by_hand or 0.0])

    def place(number: float) -> float:
        return LEFT + (WIDTH - LEFT) * number / len(first)

    def height(seconds: float) -> float:
        return (HEIGHT - BOTTOM) * (1 - seconds / top)

    points = [
        (place(float(one.mean()) + 0.5), height(mean))
        for one, mean in zip(portions, means, strict=True)
    ]
    changes, last = [], ""
    for number, row in enumerate(first):
        version = row.decision.draft_version
        if version and version != last:
            changes.append((place(number), version.split("@")[-1]))
            last = version
    spans = [row.decision.decided_at[:10] for row in (first[0], first[-1])]
    line = height(by_hand) if by_hand is not None else None
    return Curve(points, top, changes, line, spans)


def write_meter_page(
    path: Path,
    *,
    looks: dict[str, LookCost],
    people: dict[str, LookCost],
    versions: dict[str, LookCost],
    saving: Saving,
    curve: Curve | None,
) -> Path:
    """Write the page; returns its path."""
    from visionloop.data.pages import write_page

    longest = max([0.01, *(row.seconds_per_image for row in (*looks.values(), *versions.values()))])
    return write_page(
        path,
        TEMPLATE,
        looks={NAMES[name]: cost for name, cost in looks.items() if cost.images},
        people=people,
        versions=versions,
        saving=saving,
        curve=curve,
        longest=longest,
        show=_show,
        size=(WIDTH, HEIGHT, LEFT, BOTTOM),
        rule=(FACTOR, LONGEST / 60),
        fewest=FEWEST,
        cut=sum(cost.cut for cost in looks.values()),
        unmeasured=sum(cost.unmeasured for cost in looks.values()),
    )


def _show(estimate: Estimate, *, is_share: bool = False) -> str:
    """Value and interval in words."""
    if estimate.value is None:
        return "not enough data" if is_share else "–"
    factor, unit, digits = (100, " %", 0) if is_share else (1, " s", 1)
    text = f"{factor * estimate.value:.{digits}f}{unit}"
    if estimate.low is None or estimate.high is None:
        return text
    return f"{text} ({factor * estimate.low:.{digits}f} to {factor * estimate.high:.{digits}f})"
