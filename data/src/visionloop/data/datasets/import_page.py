"""The report of an import: JSON with every row, and a page with pictures."""

from __future__ import annotations

import base64
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionloop.core.errors import DataError
from visionloop.core.files import write_json, write_text
from visionloop.core.workspace import Workspace
from visionloop.data.datasets.examine import Examined, Plan
from visionloop.data.datasets.known import KNOWN
from visionloop.data.datasets.oddity import Facts
from visionloop.data.formats.sources import open_source

if TYPE_CHECKING:
    from visionloop.data.datasets.imports import ImportReport

__all__ = ["Outcome", "write_report"]

MAX_ROWS = 200
EXAMPLES = 12
OF_AN_ODDITY = 4
SIDE = 220
COLOURS = ("#e4572e", "#17bebb", "#ffc914", "#76b041", "#8963ba", "#2e86ab", "#d81159", "#7a6c5d")


@dataclass(frozen=True)
class Outcome:
    """What a report is about."""

    workspace: Workspace
    plan: Plan
    seen: Examined


def write_report(outcome: Outcome, verdict: str, *, taken_in: ImportReport | None = None) -> Path:
    """Write ``reports/import/<source>.json`` and ``.html``; returns the page."""
    from jinja2 import Environment, PackageLoader

    plan, seen = outcome.plan, outcome.seen
    name = plan.source.resolve().name
    folder = outcome.workspace.reports / "import"
    content = _content(plan, seen, verdict, taken_in)
    write_json(folder / f"{name}.json", content)
    classes = [*dict.fromkeys([*plan.classes, *sorted(seen.class_counts)])]
    colours = {
        one: COLOURS[place % len(COLOURS)] for place, one in enumerate(filter(None, classes))
    }
    pictures = _pictures(plan, seen, colours)
    oddities = [
        {
            "reason": row.reason,
            "kind": row.kind,
            "files": row.files[:OF_AN_ODDITY],
            "count": len(row.files),
        }
        for row in seen.oddities
    ]
    environment = Environment(
        loader=PackageLoader("visionloop.data.datasets"), autoescape=True, trim_blocks=True
    )
    page = environment.get_template("import.html.j2").render(
        content | {"oddities": oddities, "name": name, "pictures": pictures, "colours": colours},
        examples=[row.file for row in _spread(seen.facts, EXAMPLES)],
        most=max(seen.class_counts.values(), default=1),
        max_rows=MAX_ROWS,
    )
    return write_text(folder / f"{name}.html", page)


def _content(
    plan: Plan, seen: Examined, verdict: str, taken_in: ImportReport | None
) -> dict[str, Any]:
    known = KNOWN.get(plan.known)
    return {
        "verdict": verdict,
        "source": str(plan.source),
        "format": plan.format,
        "reason": plan.reason,
        "licence": known.licence if known else "",
        "origin": known.origin if known else "",
        "vision_task": plan.vision_task,
        "samples": seen.samples,
        "annotations": seen.annotations,
        "added": taken_in.added if taken_in else 0,
        "known": taken_in.known if taken_in else 0,
        "duplicates": taken_in.duplicates if taken_in else 0,
        "class_counts": dict(seen.class_counts.most_common()),
        "splits": {name or "none": count for name, count in seen.splits.items()},
        "fault_counts": dict(Counter(row.kind for row in seen.faults).most_common()),
        "note_counts": dict(Counter(row.kind for row in seen.notes).most_common()),
        "oddities": [asdict(row) for row in seen.oddities],
        "faults": [asdict(row) for row in seen.faults],
        "notes": [asdict(row) for row in seen.notes],
    }


def _spread(facts: list[Facts], count: int) -> list[Facts]:
    """So many of them, evenly spread."""
    number = min(count, len(facts))
    return [facts[place * len(facts) // number] for place in range(number)]


def _pictures(plan: Plan, seen: Examined, colours: dict[str, str]) -> dict[str, str]:
    """Data addresses of the pictures that the page shows, boxes drawn, by file name."""
    wanted = {row.file: row for row in _spread(seen.facts, EXAMPLES)}
    by_file = {row.file: row for row in seen.facts}
    for oddity in seen.oddities:
        wanted |= {name: by_file[name] for name in oddity.files[:OF_AN_ODDITY] if name in by_file}
    found: dict[str, str] = {}
    for _, path in plan.parts:
        with open_source(path) as files:
            for name in sorted(set(wanted) & set(files.pictures)):
                try:
                    found[name] = _thumbnail(files.read(name), wanted[name], colours)
                except DataError:
                    continue
    return found


def _thumbnail(content: bytes, facts: Facts, colours: dict[str, str]) -> str:
    import cv2

    from visionloop.serving.images import decode_image

    image = decode_image(content)
    scale = SIDE / max(image.shape[:2])
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=way)
    for class_name, box in facts.said:
        if box:
            colour = colours.get(class_name, COLOURS[0])
            blue, green, red = (int(colour[place : place + 2], 16) for place in (5, 3, 1))
            x1, y1, x2, y2 = (round(value * scale) for value in box)
            cv2.rectangle(small, (x1, y1), (x2, y2), (blue, green, red), 2)
    done, coded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 82])
    if not done:
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(bytes(coded)).decode()}"
