"""What a second look asks: the annotation as it was, and each doubt about it drawn in.

Before a second look is sent, ``studio/doubts.json`` keeps what was asked, so that the answer can
be compared with it later: :mod:`visionloop.labeling.finder_precision`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from visionloop.core.entities import Annotation
from visionloop.core.files import read_json, write_json
from visionloop.core.workspace import Workspace
from visionloop.labeling.regions import Region, read_region
from visionloop.labeling.shapes import XYXY, placed
from visionloop.labeling.state import state_folder
from visionloop.labeling.tasks import Draft

__all__ = [
    "Asked",
    "Doubt",
    "draw",
    "find_box",
    "load_asked",
    "place_of",
    "regions_before",
    "save_asked",
    "write_notes",
]


@dataclass(frozen=True)
class Doubt:
    """A finding that doubts an annotation.

    Attributes
    ----------
    kind : str
        label_issue, missing, spurious, shifted or swapped.
    severity : float
        In [0, 1].
    reason : str
        One sentence.
    suggestion : str
        The class that fits better, or empty.
    xyxy : tuple of 4 floats or None
        The box in doubt, in pixels; where one is missing, the place of it.
    suggested_xyxy : tuple of 4 floats or None
        Shifted: where the box seems to belong.
    """

    kind: str
    severity: float
    reason: str = ""
    suggestion: str = ""
    xyxy: XYXY | None = None
    suggested_xyxy: XYXY | None = None

    @classmethod
    def of(cls, finding: Mapping[str, Any]) -> Doubt:
        """From a row of ``data/findings.parquet``."""
        return cls(
            kind=str(finding["kind"]),
            severity=float(finding["severity"]),
            reason=str(finding["reason"]).strip(),
            suggestion=str(finding["suggestion"] or ""),
            xyxy=place_of(finding["xyxy"]),
            suggested_xyxy=place_of(finding.get("suggested_xyxy")),
        )


@dataclass(frozen=True)
class Asked:
    """One second look: which list of findings asked, the regions then, and the doubts."""

    findings: str
    before: list[Region]
    doubts: list[Doubt]


def regions_before(annotations: Iterable[Annotation], interface: str) -> list[Region]:
    """The present annotation as regions; their keys tell in the answer what became of each.

    Parameters
    ----------
    annotations : iterable of Annotation
    interface : str
        Row of :data:`visionloop.labeling.interface.INTERFACES`: what it can show is drawn as it
        is, an outline where it knows none as the box around it.
    """
    return [
        _region_before(row, "class" if row.xyxy is None else f"now{number}", interface)
        for number, row in enumerate(annotations)
        if row.class_name
    ]


def _region_before(row: Annotation, key: str, interface: str) -> Region:
    if row.xyxy is None or interface == "boxes":
        return Region(row.class_name, row.xyxy, key)
    if interface == "anomaly":  # which has a brush and nothing else
        x1, y1, x2, y2 = row.xyxy
        outline = row.polygon or ((x1, y1, x2, y1, x2, y2, x1, y2),)
        return Region(row.class_name, row.xyxy, key, None, outline, True)
    if interface == "polygons" and len(row.polygon) > 1:
        return Region(row.class_name, row.xyxy, key)
    return Region(row.class_name, row.xyxy, key, None, row.polygon,
                  interface == "masks" and bool(row.polygon))  # fmt: skip


def draw(asked: Asked, rank: int, version: str) -> Draft:
    """The present annotation with what the doubts suggest carried out.

    A missing box is added, a swapped class replaced, a shifted box moved to where it seems to
    belong. A spurious box stays, to be removed by a person: only a box that is there can be
    looked at.
    """
    regions = list(asked.before)
    for number, doubt in enumerate(asked.doubts):
        if doubt.xyxy is None:
            if doubt.suggestion:
                regions = [Region(doubt.suggestion, None, "class")]
        elif doubt.kind == "missing" and doubt.suggestion:
            regions.append(Region(doubt.suggestion, doubt.xyxy, _key_of_missing(number)))
        elif (at := find_box(asked.before, doubt.xyxy)) is not None:
            if doubt.kind == "swapped" and doubt.suggestion:
                regions[at] = replace(regions[at], class_name=doubt.suggestion)
            elif doubt.kind == "shifted" and doubt.suggested_xyxy is not None:
                regions[at] = _move(regions[at], doubt.suggested_xyxy)
    return Draft(regions, 1 - 1 / (rank + 1), version)


def _move(region: Region, xyxy: XYXY) -> Region:
    assert region.xyxy is not None
    return replace(region, xyxy=xyxy, polygon=placed(region.polygon, region.xyxy, xyxy))


def write_notes(task: dict[str, Any], asked: Asked) -> None:
    """Note the suspected kind on each region in doubt, where Label Studio shows it to people.

    Parameters
    ----------
    task : dict
        As :func:`visionloop.labeling.tasks.build_task` makes it, with the draft of
        :func:`draw`; changed in place.
    """
    notes: dict[str, list[str]] = {}
    for number, doubt in enumerate(asked.doubts):
        key = _key_of(number, doubt, asked.before)
        notes.setdefault(key, []).append(f"Suspected: {doubt.kind}. {doubt.reason}")
    for prediction in task["predictions"]:
        for entry in prediction["result"]:
            if entry["id"] in notes:
                entry["meta"] = {"text": notes[entry["id"]]}


def find_box(regions: Sequence[Region], xyxy: XYXY) -> int | None:
    """Which region has this very box, to a pixel."""
    for number, region in enumerate(regions):
        corners = region.xyxy
        if corners and max(abs(a - b) for a, b in zip(corners, xyxy, strict=True)) < 1:
            return number
    return None


def load_asked(workspace: Workspace) -> dict[str, Asked]:
    """Sample id to what was asked about it last; empty before the first second look."""
    path = workspace.studio_state / "doubts.json"
    if not path.exists():
        return {}
    return {
        sample_id: Asked(
            row["findings"],
            [read_region(region) for region in row["before"]],
            [_read_doubt(doubt) for doubt in row["doubts"]],
        )
        for sample_id, row in read_json(path).items()
    }


def save_asked(workspace: Workspace, asked: Mapping[str, Asked]) -> None:
    """Add to what was asked before, durably."""
    known = load_asked(workspace) | dict(asked)
    content = {sample_id: asdict(row) for sample_id, row in sorted(known.items())}
    write_json(state_folder(workspace) / "doubts.json", content)


def place_of(values: Any) -> XYXY | None:
    """Four numbers as a box; None for anything else, as a table has for the whole image."""
    if values is None or not hasattr(values, "__len__") or len(values) != 4:
        return None
    x1, y1, x2, y2 = (float(value) for value in values)
    return x1, y1, x2, y2


def _key_of(number: int, doubt: Doubt, before: Sequence[Region]) -> str:
    if doubt.xyxy is None:
        return "class"
    if doubt.kind == "missing":
        return _key_of_missing(number)
    at = find_box(before, doubt.xyxy)
    return "" if at is None else before[at].key


def _key_of_missing(number: int) -> str:
    return f"missing{number}"


def _read_doubt(row: Mapping[str, Any]) -> Doubt:
    places = {name: place_of(row[name]) for name in ("xyxy", "suggested_xyxy")}
    return Doubt(**{**row, **places})
