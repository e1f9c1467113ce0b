"""What annotators see: the controls of the labeling interface, and the instructions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from itertools import islice
from xml.etree import ElementTree

from visionloop.core.config import ProjectParams
from visionloop.core.entities import Annotation
from visionloop.core.errors import ConfigError
from visionloop.core.workspace import Workspace

__all__ = ["INTERFACES", "instructions", "interface_of", "labeling_interface"]

INTERFACES = {
    "classes": ("classification",),
    "anomaly": ("anomaly", "classification"),
    "boxes": ("detection",),
    "polygons": ("detection",),
    "masks": ("detection",),
}
"""Templates, and the vision tasks whose annotations they make. ``anomaly`` asks for a verdict on
the whole image, and lets people paint where the last class is seen."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
"""Told apart by people who see colours differently: Okabe and Ito,
https://jfly.uni-koeln.de/color/"""

HOTKEYS = "123456789qwertyuiopasdfghjklzxcvbnm"

CONTROLS = {
    "Choices": "Choice",
    "PolygonLabels": "Label",
    "BrushLabels": "Label",
    "RectangleLabels": "Label",
}
"""Controls that name classes, and the element of a class."""

EXAMPLES = 2
"""Pictures of each class in the instructions."""

SENTENCES = {
    "classes": "Choose the class of the picture.",
    "anomaly": "Say whether the picture is normal. Where it is not, you may paint the place.",
    "boxes": "Draw a box around each object, as tight as it is seen, and give its class.",
    "polygons": "Draw the outline of each object and give its class. A box is enough where "
    "the outline is not seen.",
    "masks": "Paint each object, one region an object, and give its class.",
}


def interface_of(project: ProjectParams, wanted: str) -> str:
    """The row of ``INTERFACES`` for a project; an empty wish takes the plainest.

    Raises
    ------
    ConfigError
        If the wanted interface makes annotations of another vision task, or needs two classes,
        or no interface makes annotations of this one.
    """
    task = project.vision_task
    fitting = [one for one, tasks in INTERFACES.items() if task in tasks]
    if not fitting:
        raise ConfigError(
            "params.yaml, project.vision_task",
            f"there is no labeling interface for '{task}'",
            "import its annotations instead: visionloop data import",
        )
    name = wanted or fitting[0]
    if name not in fitting:
        raise ConfigError(
            "params.yaml, labeling.interface",
            f"'{name}' is for {' and '.join(INTERFACES[name])}, the project's vision task is "
            f"{task}",
            f"choose one of: {', '.join(fitting)}",
        )
    if name == "anomaly" and len(project.classes) != 2:
        raise ConfigError(
            "params.yaml, labeling.interface",
            f"'anomaly' wants two classes, normal and not, and project.classes has "
            f"{len(project.classes)}",
            "name two classes, or take the interface 'classes'",
        )
    return name


def labeling_interface(project: ProjectParams, wanted: str = "") -> str:
    """The XML of the labeling interface: its template with classes, colours and hotkeys."""
    name = interface_of(project, wanted)
    template = files("visionloop.labeling").joinpath("templates", f"{name}.xml")
    root = ElementTree.fromstring(template.read_text(encoding="utf-8"))
    controls = [element for element in root if element.tag in CONTROLS]
    for place, control in enumerate(controls):
        classes = list(enumerate(project.classes))
        # Of an anomaly verdict only the last class has a place in the picture.
        for number, class_name in classes[-1:] if name == "anomaly" and place else classes:
            colour = COLOURS[number % len(COLOURS)]
            attributes = {"value": class_name, "background": colour}
            if number < len(HOTKEYS):
                # The second control of a class answers to the same key with shift.
                attributes["hotkey"] = "shift+" * (place > 0) + HOTKEYS[number]
            ElementTree.SubElement(control, CONTROLS[control.tag], attributes)
    return ElementTree.tostring(root, encoding="unicode").strip()


def instructions(workspace: Workspace, project: ProjectParams, wanted: str = "") -> str:
    """What people read before they begin: HTML with pictures of each class, as far as known.

    The pictures are the project's own, from the folder that Label Studio serves to those
    who are signed in.
    """
    name = interface_of(project, wanted)
    parts = [f"<p>{SENTENCES[name]}</p>"]
    if project.vision_task == "detection":
        parts.append("<p>Submit a picture without objects as it is: none is there.</p>")
    parts.append("<p>A draft is a proposal: correct it. Skip what cannot be told.</p>")
    found = _examples(workspace, project.classes)
    for number, class_name in enumerate(project.classes):
        key = f" (key {HOTKEYS[number]})" if number < len(HOTKEYS) else ""
        parts.append(f"<h4>{escape(class_name, quote=False)}{key}</h4>")
        pictures = [f'<img src="{escape(one)}" width="240">' for one in found.get(class_name, [])]
        parts += [f"<p>{' '.join(pictures)}</p>"] if pictures else []
    return "".join(parts)


def _examples(workspace: Workspace, classes: Sequence[str]) -> dict[str, list[str]]:
    """Class to addresses of pictures that show it and no other, the largest objects first."""
    from visionloop.data.annotated import merge_annotations
    from visionloop.data.raw import read_samples
    from visionloop.labeling.tasks import image_address

    if not (workspace.raw / "samples.parquet").exists():
        return {}
    by_sample: dict[str, list[Annotation]] = {}
    for row in merge_annotations(workspace).annotations:
        by_sample.setdefault(row.sample_id, []).append(row)
    names = dict(read_samples(workspace)[["sample_id", "file_name"]].itertuples(index=False))
    chosen: dict[str, list[str]] = {}
    for class_name, ids in _ranked(by_sample).items():
        there = (one for one in ids if one in names)
        files = (str(names[one]) for one in there)
        present = (name for name in files if (workspace.images / name).is_file())
        chosen[class_name] = [image_address(name) for name in islice(present, EXAMPLES)]
    return chosen


def _ranked(by_sample: Mapping[str, Sequence[Annotation]]) -> dict[str, list[str]]:
    ranked: dict[str, list[tuple[float, str]]] = {}
    for sample_id, rows in by_sample.items():
        counts = Counter(row.class_name for row in rows)
        if len(counts) == 1 and "" not in counts:
            ranked.setdefault(rows[0].class_name, []).append((-_size(rows), sample_id))
    return {name: [one for _, one in sorted(rows)] for name, rows in ranked.items()}


def _size(rows: Sequence[Annotation]) -> float:
    """Area of the largest object in pixels; 0 for a class of the whole image."""
    return max(_areas(rows), default=0.0)


def _areas(rows: Sequence[Annotation]) -> Iterator[float]:
    for row in rows:
        if row.xyxy is not None:
            x1, y1, x2, y2 = row.xyxy
            yield (x2 - x1) * (y2 - y1)
