"""The scripted annotator's errors: planned before the work, kept in a file, the same again.

``studio/planted_errors.json`` names every sample that was planned for and, of those that
are answered wrongly, the kind of error (as in the findings table: swapped, missing,
shifted), the truth and what is said instead. Only tests and reports read it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from visionloop.core.config import ProjectParams
from visionloop.core.files import read_json, write_json
from visionloop.core.workspace import Workspace
from visionloop.labeling.regions import Region
from visionloop.labeling.shapes import XYXY
from visionloop.labeling.state import state_folder

__all__ = ["Mistake", "Mistakes", "load_mistakes", "plan_mistakes"]

SHIFT = 0.3
"""A shifted box moves by this share of its sides: IoU 0.32."""


@dataclass(frozen=True)
class Mistake:
    """One sample answered wrongly: kind of error, what is true, what is said."""

    kind: str
    truth: list[Region]
    given: list[Region]


@dataclass(frozen=True)
class Mistakes:
    """Samples that were planned for, and the errors among them by sample id."""

    planned: frozenset[str]
    errors: Mapping[str, Mistake]

    def distort(self, sample_id: str, regions: list[Region]) -> list[Region]:
        """What the annotator says where it should say ``regions``."""
        mistake = self.errors.get(sample_id)
        return mistake.given if mistake else regions

    def kept(self, share: float, seed: int) -> Mistakes:
        """The errors that a second look does not repair, drawn with probability ``share``."""
        kept = {
            one: mistake
            for one, mistake in self.errors.items()
            if _draw(one, seed, "second look") < share
        }
        return Mistakes(self.planned, kept)


def load_mistakes(workspace: Workspace) -> Mistakes:
    """All errors planted so far; none before the first review."""
    path = workspace.studio_state / "planted_errors.json"
    if not path.exists():
        return Mistakes(frozenset(), {})
    content = read_json(path)
    errors = {
        one: Mistake(row["kind"], _regions(row["truth"]), _regions(row["given"]))
        for one, row in content["errors"].items()
    }
    return Mistakes(frozenset(content["planned"]), errors)


def plan_mistakes(
    workspace: Workspace,
    truth: Mapping[str, Sequence[Region]],
    sizes: Mapping[str, tuple[int, int]],
    project: ProjectParams,
    share: float,
    seed: int,
) -> Mistakes:
    """Choose the samples to answer wrongly among those not planned for yet, and keep the plan.

    Parameters
    ----------
    truth : mapping of sample id to regions
        The samples about to be annotated.
    sizes : mapping of sample id to (width, height)
        Pixels.
    share : float
        Of them, rounded to a whole number; samples without any object are spared.
    """
    before = load_mistakes(workspace)
    fresh = [one for one in truth if one not in before.planned]
    able = [one for one in fresh if truth[one] and len(project.classes) > 1]
    able.sort(key=lambda one: _draw(one, seed, "whether"))
    errors = dict(before.errors)
    for one in able[: round(share * len(fresh))]:
        errors[one] = _err(one, list(truth[one]), sizes[one], project.classes, seed)
    planned = before.planned | set(fresh)
    content = {
        "planned": sorted(planned),
        "errors": {one: asdict(errors[one]) for one in sorted(errors)},
    }
    write_json(state_folder(workspace) / "planted_errors.json", content)
    return Mistakes(planned, errors)


def _err(
    sample_id: str, truth: list[Region], size: tuple[int, int], classes: list[str], seed: int
) -> Mistake:
    rng = np.random.default_rng(int(_draw(sample_id, seed, "how") * 2**32))
    number = int(rng.integers(len(truth)))
    region = truth[number]
    kinds = ("swapped",) if region.xyxy is None else ("missing", "shifted", "swapped")
    kind = str(rng.choice(kinds))
    given = list(truth)
    if kind == "missing":
        del given[number]
    elif kind == "shifted" and region.xyxy is not None:
        given[number] = Region(region.class_name, _shift(region.xyxy, size, rng))
    else:
        others = [name for name in classes if name != region.class_name]
        given[number] = Region(str(rng.choice(others)), region.xyxy)
    return Mistake(kind, truth, given)


def _shift(xyxy: XYXY, size: tuple[int, int], rng: np.random.Generator) -> XYXY:
    """Moved in both directions, away from the edge of the image where it is near."""
    moved = []
    for low, high, length in ((xyxy[0], xyxy[2], size[0]), (xyxy[1], xyxy[3], size[1])):
        step = SHIFT * (high - low) * (1 if rng.random() < 0.5 else -1)
        if low + step < 0 or high + step > length:
            step = -step
        moved.append((max(0.0, low + step), min(float(length), high + step)))
    return moved[0][0], moved[1][0], moved[0][1], moved[1][1]


def _draw(sample_id: str, seed: int, purpose: str) -> float:
    """Uniform in [0, 1), the same for the same sample whatever the order of the work."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{sample_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _regions(rows: list[dict[str, Any]]) -> list[Region]:
    return [Region(row["class_name"], tuple(row["xyxy"]) if row["xyxy"] else None) for row in rows]
