"""The pages of ``diff``: what changed, counted and drawn, each page one self-contained file."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionloop.core.files import write_text
from visionloop.data.versions.box_changes import BoxChange

if TYPE_CHECKING:
    from visionloop.core.entities import Annotation
    from visionloop.data.versions.diff import DiffReport, SampleChange
    from visionloop.data.versions.version import DatasetVersion

__all__ = ["write_pages"]

PER_PAGE = 30
EXAMPLES = 24
"""Pictures of added and of removed samples, each."""
PICTURE_PX = 512
"""Longer side of an embedded picture."""

TEXT = {
    "added": "+ {after}",
    "removed": "− {before}",
    "moved": "↔ {after} {edge:.0f} px",
    "reshaped": "~ {after}",
    "relabelled": "{before} → {after}",
}


@dataclass(frozen=True)
class Drawn:
    """A box to draw: percent-free SVG numbers in pixels of the image, and its words."""

    kind: str
    x: float
    y: float
    width: float
    height: float
    words: str = ""
    words_y: float = 0.0


def write_pages(
    place: Path,
    report: DiffReport,
    before: DatasetVersion,
    after: DatasetVersion,
    *,
    pictures: int,
) -> Path:
    """Write ``<place>.html`` and, where the changes are many, ``<place>-2.html``, ….

    Parameters
    ----------
    place : Path
        Without a suffix.
    pictures : int
        At most so many changed samples are drawn, worst first.

    Returns
    -------
    Path
        The first page.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("diff.html.j2")
    shown = report.changes[:pictures]
    count = max(1, math.ceil(len(shown) / PER_PAGE))
    paths = [
        place.with_name(f"{place.name}{f'-{number}' if number > 1 else ''}.html")
        for number in range(1, count + 1)
    ]
    for old in place.parent.glob(f"{place.name}-[0-9]*.html"):
        if old not in paths and old.stem.removeprefix(f"{place.name}-").isdigit():
            old.unlink()  # of an earlier, longer comparison
    for number, path in enumerate(paths):
        part = shown[number * PER_PAGE : (number + 1) * PER_PAGE]
        content = {
            "report": report,
            "cards": [_card(one, before, after) for one in part],
            "groups": _example_groups(report, before, after) if number == 0 else [],
            "examples": EXAMPLES,
            "pages": [one.name for one in paths],
            "page": number,
            "first_rank": number * PER_PAGE + 1,
            "shown": len(shown),
            "json_name": f"{place.name}.json",
        }
        write_text(path, template.render(**content))
    return paths[0]


def _card(change: SampleChange, before: DatasetVersion, after: DatasetVersion) -> dict[str, Any]:
    """One changed sample: its picture once, and the boxes of both sides."""
    row = after.samples[after.samples["sample_id"] == change.sample_id].iloc[0]
    width, height = int(row["width"]), int(row["height"])
    old = [_drawn(one, one.xyxy_before, "before", width) for one in change.boxes if one.xyxy_before]
    new = [_drawn(one, one.xyxy_after, "after", width) for one in change.boxes if one.xyxy_after]
    touched = {one.xyxy_after for one in change.boxes}
    same = _plain(
        [row for row in after.annotations_of(change.sample_id) if row.xyxy not in touched]
    )
    classes = None
    if change.classes_before != change.classes_after:
        said = (change.classes_before, change.classes_after)
        classes = [", ".join(names) or "no annotation" for names in said]
    return {
        "id": change.sample_id,
        "width": width,
        "height": height,
        "font": max(width, height) / 30,
        "picture": _picture(after.images / change.file_name),
        "sides": [("before", [*same, *old]), ("after", [*same, *new])],
        "classes": classes,
        "words": [_sentence(one) for one in change.boxes],
        "facts": [str(row[name]) for name in ("camera", "split") if row.get(name)],
    }


def _example_groups(
    report: DiffReport, before: DatasetVersion, after: DatasetVersion
) -> list[dict[str, Any]]:
    """Pictures of samples that only one version has."""
    groups = []
    for title, ids, version in (
        ("Samples added", report.added, after),
        ("Samples removed", report.removed, before),
    ):
        rows = version.samples.set_index("sample_id")
        cards = []
        for one in ids[:EXAMPLES]:
            said = version.annotations_of(one)
            names = sorted({row.class_name or "nothing there" for row in said})
            width, height = int(rows.loc[one, "width"]), int(rows.loc[one, "height"])
            cards.append(
                {
                    "id": one,
                    "width": width,
                    "height": height,
                    "picture": _picture(version.images / str(rows.loc[one, "file_name"])),
                    "boxes": _plain(said),
                    "words": f"{rows.loc[one, 'split']} · {', '.join(names)}",
                }
            )
        if cards:
            groups.append({"title": title, "count": len(ids), "cards": cards})
    return groups


def _drawn(
    change: BoxChange, xyxy: tuple[float, float, float, float], side: str, image_width: int
) -> Drawn:
    x1, y1, x2, y2 = xyxy
    kind = change.kind if side == "after" or change.kind != "moved" else "moved-from"
    words = TEXT[change.kind].format(
        before=change.class_before, after=change.class_after, edge=change.edge_px
    )
    if side == "before" and change.kind != "removed":
        words = change.class_before
    font = image_width / 30
    return Drawn(kind, x1, y1, x2 - x1, y2 - y1, words, y1 - font / 4 if y1 > font else y2 + font)


def _plain(rows: list[Annotation]) -> list[Drawn]:
    """Boxes that did not change, thin and without words."""
    boxes = [row.xyxy for row in rows if row.xyxy is not None]
    return [Drawn("same", x1, y1, x2 - x1, y2 - y1) for x1, y1, x2, y2 in boxes]


def _sentence(change: BoxChange) -> tuple[str, str]:
    """Kind, and one line for a person."""
    if change.kind == "moved":
        more = f"{change.shift_px:.1f} px, edges up to {change.edge_px:.1f} px"
        return "moved", f"{change.class_after} moved {more}, IoU {change.iou:.2f}"
    if change.kind == "relabelled":
        text = f"{change.class_before} is now {change.class_after}"
        return "relabelled", text if change.iou > 0.995 else f"{text}, IoU {change.iou:.2f}"
    if change.kind == "reshaped":
        return "reshaped", f"{change.class_after} has another outline"
    return change.kind, f"{change.class_after or change.class_before} {change.kind}"


def _picture(path: Path) -> str:
    """A data URI, or empty where the image is not here."""
    import cv2

    from visionloop.core.errors import DataError
    from visionloop.serving.images import read_image

    try:
        image = read_image(path)
    except DataError:
        return ""
    scale = min(1.0, PICTURE_PX / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    coded = {
        "jpeg": cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 82])[1],
        "png": cv2.imencode(".png", small)[1],
    }
    kind = min(coded, key=lambda name: len(coded[name]))
    return f"data:image/{kind};base64,{base64.b64encode(coded[kind].tobytes()).decode()}"
