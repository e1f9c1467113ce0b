"""Pascal VOC: one XML file a picture, ``ImageSets/Main/<split>.txt`` for the splits.

Corners are taken as edges in pixels (the first column begins at 0), as labelImg, CVAT and
Roboflow write them; the devkit of 2012 counted pixels from 1, so its boxes sit one pixel off.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from visionloop.core.errors import DataError
from visionloop.core.files import write_bytes, write_text
from visionloop.data.formats.pictures import Fault, Loaded, LoadOptions, Picture
from visionloop.data.formats.rows import (
    RowReader,
    picture_header,
    split_of,
    splits_of_lists,
    unused_pictures,
)
from visionloop.data.formats.sources import SourceFiles

__all__ = ["VocFormat"]

CORNERS = ("xmin", "ymin", "xmax", "ymax")


class VocFormat:
    """The row ``voc`` of the format table."""

    holds = frozenset({"box"})

    def recognise(self, files: SourceFiles) -> str:
        """XML files whose root is ``annotation``."""
        for name in files.with_suffix(".xml")[:3]:
            if b"<annotation" in files.read(name)[:4096]:
                return f"XML files such as {name} have the root <annotation>"
        return ""

    def classes(self, files: SourceFiles) -> tuple[str, ...]:
        """The format lists none."""
        return ()

    def load(self, files: SourceFiles, options: LoadOptions) -> Iterator[Loaded]:
        """One picture an XML file."""
        splits = splits_of_lists(files)
        used: dict[str, str] = {}
        for name in files.with_suffix(".xml"):
            root, fault = _parse(files, name)
            if root is None:
                yield fault or Fault(name, "", "cannot be read", "syntax")
                continue
            image = _picture_of(files, name, root)
            if not image:
                said = root.findtext("filename") or PurePosixPath(name).stem
                yield Fault(name, "filename", f"there is no picture '{said}'", "missing_image")
            elif image in used:
                reason = f"a second file about {image}, after {used[image]}"
                yield Fault(name, "", reason, "duplicate_id")
            else:
                used[image] = name
                split = splits.get(PurePosixPath(image).stem) or split_of(image)
                yield from _read(files, name, root, image, split)
        yield from unused_pictures(files, set(used), "has no XML file: left out")

    def place_of(self, picture: Picture) -> str:
        """``JPEGImages/<name>``."""
        return f"JPEGImages/{PurePosixPath(picture.file).name}"

    def save(self, folder: Path, pictures: Iterable[Picture], classes: Sequence[str]) -> None:
        """``Annotations/<stem>.xml`` and ``ImageSets/Main/<split>.txt``."""
        lists: dict[str, list[str]] = {}
        for picture in pictures:
            stem = PurePosixPath(picture.file).stem
            lists.setdefault(picture.split or "trainval", []).append(stem)
            if picture.annotations:
                root = _element(picture)
                ElementTree.indent(root)
                content = ElementTree.tostring(root, encoding="utf-8")
                write_bytes(folder / "Annotations" / f"{stem}.xml", content + b"\n")
        for split, stems in lists.items():
            write_text(folder / "ImageSets" / "Main" / f"{split}.txt", "\n".join(stems) + "\n")


def _parse(files: SourceFiles, name: str) -> tuple[ElementTree.Element | None, Fault | None]:
    try:
        content = files.read(name)
        # An XML file about a picture needs no entities; they can be made to explode.
        if b"<!ENTITY" in content or b"<!DOCTYPE" in content:
            return None, Fault(name, "", "declares entities or a document type", "syntax")
        root = ElementTree.fromstring(content)
    except DataError as error:
        return None, Fault(name, "", "; ".join(error.problems), "syntax")
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        line = getattr(error, "position", (0, 0))[0]
        return None, Fault(name, f"line {line}", f"is not valid XML: {error}", "syntax")
    if root.tag != "annotation":
        return None, Fault(name, root.tag, "the root is not <annotation>", "syntax")
    return root, None


def _picture_of(files: SourceFiles, name: str, root: ElementTree.Element) -> str:
    said = (root.findtext("filename") or "").strip()
    stem = PurePosixPath(name).stem
    return (files.find_picture(said, near=name) if said else "") or files.find_picture(
        stem, near=name
    )


def _read(
    files: SourceFiles, name: str, root: ElementTree.Element, image: str, split: str
) -> Iterator[Loaded]:
    header, fault = picture_header(files, image)
    if header is None:
        yield fault or Fault(image, "", "cannot be read", "bad_image")
        return
    reader = RowReader(name, header.width, header.height)
    if problem := _size_problem(root, header.width, header.height):
        reader.refuse("size", "size_mismatch", problem)
    else:
        for number, thing in enumerate(root.findall("object"), start=1):
            _read_object(reader, f"object[{number}]", thing)
    annotations, places = reader.finish()
    yield from reader.faults
    yield Picture(image, annotations, places, header.width, header.height, split)


def _read_object(reader: RowReader, place: str, thing: ElementTree.Element) -> None:
    box = thing.find("bndbox")
    if box is None:
        reader.refuse(place, "syntax", "has no <bndbox>")
        return
    try:
        corners = [float((box.findtext(corner) or "").strip()) for corner in CORNERS]
    except ValueError:
        texts = [f"{corner}={box.findtext(corner)!r}" for corner in CORNERS]
        reader.refuse(f"{place}/bndbox", "syntax", f"is not four numbers: {', '.join(texts)}")
        return
    reader.add_box(f"{place}/bndbox", (thing.findtext("name") or "").strip(), corners)


def _size_problem(root: ElementTree.Element, width: int, height: int) -> str:
    """A stated size that differs means that the boxes belong to another version of the picture."""
    try:
        said = [int(float(root.findtext(f"size/{side}") or 0)) for side in ("width", "height")]
    except ValueError:
        return "width and height are not numbers"
    if all(said) and (abs(said[0] - width) > 1 or abs(said[1] - height) > 1):
        return f"says {said[0]} x {said[1]}, but the picture has {width} x {height} pixels"
    return ""


def _element(picture: Picture) -> ElementTree.Element:
    root = ElementTree.Element("annotation")
    place = PurePosixPath(picture.file)
    ElementTree.SubElement(root, "folder").text = place.parent.name
    ElementTree.SubElement(root, "filename").text = place.name
    size = ElementTree.SubElement(root, "size")
    for side, value in (("width", picture.width), ("height", picture.height), ("depth", 3)):
        ElementTree.SubElement(size, side).text = str(value)
    for row in picture.annotations:
        if row.xyxy is None:
            continue
        thing = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(thing, "name").text = row.class_name
        box = ElementTree.SubElement(thing, "bndbox")
        for corner, text in zip(CORNERS, _corner_texts(row.xyxy), strict=True):
            ElementTree.SubElement(box, corner).text = text
    return root


def _corner_texts(xyxy: tuple[float, float, float, float]) -> list[str]:
    """Whole pixels, as most readers of VOC expect; decimals where a thin box would vanish."""
    x1, y1, x2, y2 = (round(value) for value in xyxy)
    if x1 < x2 and y1 < y2:
        return [str(value) for value in (x1, y1, x2, y2)]
    return [f"{value:.2f}" for value in xyxy]
