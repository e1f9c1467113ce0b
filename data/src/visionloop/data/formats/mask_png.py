"""Mask PNGs: each picture has a mask of one channel; objects become outlines and boxes.

Kinds: ``binary`` (bright is an object of the class of the picture's folder), ``semantic``
(8 bit: value k is class k of ``classes.txt``, 0 nothing, 255 unknown), ``instance`` (16 bit:
``1000 * class + number``, the convention of Cityscapes' instance ids). Outlines run through
the centres of the border pixels, so that a hole-free object is drawn back pixel by pixel.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Annotation
from visionloop.core.errors import DataError
from visionloop.core.files import write_bytes, write_text
from visionloop.data.formats.image_folder import class_of_folder
from visionloop.data.formats.outlines import Outlined, draw_outline, trace_objects
from visionloop.data.formats.pictures import Fault, Loaded, LoadOptions, Picture
from visionloop.data.formats.rows import nothing_there, picture_header, read_rows_text, split_of
from visionloop.data.formats.sources import SourceFiles

__all__ = ["MaskPngFormat", "read_mask"]

MASK_FOLDERS = ("mask", "masks", "gt", "ground_truth", "segmentation", "segmentationclass")
BRIGHT, UNKNOWN, INSTANCES = 128, 255, 1000


class MaskPngFormat:
    """The row ``mask`` of the format table."""

    holds = frozenset({"polygon"})

    def recognise(self, files: SourceFiles) -> str:
        """A PNG beside a JPEG of the same name, or a folder of masks."""
        masks = _masks_of(files)
        if not masks or 2 * len(masks) < 0.9 * len(files.pictures):
            return ""
        image, mask = next(iter(masks.items()))
        return f"pictures have masks, such as {mask} for {image}"

    def classes(self, files: SourceFiles) -> tuple[str, ...]:
        """Those of ``classes.txt``, the first is value 1."""
        if "classes.txt" not in files.names:
            return ()
        lines = read_rows_text(files, "classes.txt")[0].splitlines()
        return tuple(line.strip() for line in lines if line.strip())

    def load(self, files: SourceFiles, options: LoadOptions) -> Iterator[Loaded]:
        """One picture a mask; pictures without a mask are noted and left out."""
        masks = _masks_of(files)
        classes = options.classes or self.classes(files)
        kind = options.mask_kind or ("values" if classes else "binary")
        empty_classes = _empty_classes(files, masks) if kind == "binary" else set()
        for image, name in masks.items():
            header, fault = picture_header(files, image)
            mask, problem = read_mask(files, name)
            if header is None or mask is None:
                yield fault or Fault(name, "", problem, "bad_image")
            elif mask.shape != (header.height, header.width):
                reason = f"has {mask.shape[1]} x {mask.shape[0]} pixels, its picture "
                reason += f"{header.width} x {header.height}"
                yield Fault(name, "", reason, "size_mismatch")
            else:
                picture = Picture(
                    image, (), (), header.width, header.height, split_of(image), mask=name
                )
                if kind == "binary":
                    yield from _read_binary(picture, mask, options.vision_task, empty_classes)
                else:
                    yield from _read_values(picture, mask, classes)
        yield from _left_over(files, masks)

    def place_of(self, picture: Picture) -> str:
        """``images/<name>``."""
        return f"images/{picture.split or 'train'}/{PurePosixPath(picture.file).name}"

    def save(self, folder: Path, pictures: Iterable[Picture], classes: Sequence[str]) -> None:
        """``masks/<split>/<stem>.png`` (instances, 16 bit) and ``classes.txt``."""
        numbers = {name: number for number, name in enumerate(classes, start=1)}
        if len(numbers) > 64:
            raise DataError("mask PNG", f"{len(numbers)} classes do not fit 16 bits", "use COCO")
        for picture in pictures:
            if picture.annotations:
                place = PurePosixPath(picture.file)
                content = _encode(_draw(picture, numbers))
                write_bytes(folder / "masks" / place.parent.name / f"{place.stem}.png", content)
        write_text(folder / "classes.txt", "".join(f"{name}\n" for name in classes))


def read_mask(files: SourceFiles, name: str) -> tuple[NDArray[Any] | None, str]:
    """The values of a mask, shape (H, W), uint8 or uint16; or why it cannot be read."""
    from PIL import Image

    try:
        header = files.header(name)  # size is checked before anything is decoded
        if header.format != "PNG":
            return None, "a mask must be a PNG: JPEG changes its values"
        with Image.open(io.BytesIO(files.read(name)), formats=["PNG"]) as image:
            if image.mode not in ("1", "L", "P", "I;16", "I"):
                return None, f"a mask has one channel; this one is {image.mode}"
            values = np.asarray(image)
    except DataError as error:
        return None, "; ".join(error.problems)
    except (OSError, SyntaxError, ValueError) as error:
        return None, f"cannot be decoded: {error}"
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * 255, ""
    return values if values.dtype == np.uint8 else values.astype(np.uint16), ""


def _masks_of(files: SourceFiles) -> dict[str, str]:
    """Picture to mask: beside it under the same stem, or in a folder that says so."""
    names = set(files.pictures)
    found: dict[str, str] = {}
    in_mask_folders = defaultdict(list)
    for name in files.pictures:
        place = PurePosixPath(name)
        if {part.lower() for part in place.parts[:-1]} & set(MASK_FOLDERS):
            in_mask_folders[place.stem].append(name)
    masks = {name for rows in in_mask_folders.values() for name in rows}
    for name in files.pictures:
        if name in masks:
            continue
        beside = str(PurePosixPath(name).with_suffix(".png"))
        if beside != name and beside in names:
            found[name] = beside
        elif candidates := in_mask_folders.get(PurePosixPath(name).stem):
            same = [row for row in candidates if split_of(row) == split_of(name)]
            if len(same) == 1:
                found[name] = same[0]
    return found


def _empty_classes(files: SourceFiles, masks: dict[str, str]) -> set[str]:
    """Folders whose masks are all empty: there, an empty mask means "nothing there"."""
    filled: dict[str, bool] = {}
    for image, name in masks.items():
        mask, _ = read_mask(files, name)
        has_object = mask is not None and bool((mask >= BRIGHT).any())
        folder = class_of_folder(image)
        filled[folder] = filled.get(folder, False) or has_object
    return {folder for folder, is_filled in filled.items() if not is_filled}


def _read_binary(
    picture: Picture, mask: NDArray[Any], vision_task: str, empty_classes: set[str]
) -> Iterator[Loaded]:
    class_name = class_of_folder(picture.file) or "object"
    bright = mask >= BRIGHT
    rows: tuple[Annotation, ...] = (Annotation("", class_name),)
    if not bright.any() and class_name not in empty_classes:
        reason = f"is empty, though its picture is filed under '{class_name}'"
        yield Fault(picture.mask, "", reason, "empty_mask", is_note=True)
        rows = rows if vision_task != "detection" else ()
    elif vision_task == "detection":
        rows = tuple(_annotations(trace_objects(bright), class_name)) or (nothing_there(),)
    yield _with_rows(picture, rows)


def _read_values(
    picture: Picture, mask: NDArray[Any], classes: tuple[str, ...]
) -> Iterator[Loaded]:
    is_instances = mask.dtype == np.uint16
    rows: list[Annotation] = []
    wrong = False
    for value in np.unique(mask).tolist():
        if value == 0 or (value == UNKNOWN and not is_instances):
            continue
        number = value // INSTANCES if is_instances else value
        if not 1 <= number <= len(classes):
            reason = f"value {value} is of no class (there are {len(classes)})"
            yield Fault(picture.mask, f"value {value}", reason, "unknown_class")
            wrong = True
            continue
        objects = trace_objects(mask == value, as_one=is_instances)
        rows += _annotations(objects, classes[number - 1])
    yield _with_rows(picture, tuple(rows) or (() if wrong else (nothing_there(),)))


def _annotations(objects: Iterable[Outlined], class_name: str) -> Iterator[Annotation]:
    for one in objects:
        yield Annotation("", class_name, one.xyxy, polygon=one.polygon)


def _with_rows(picture: Picture, rows: tuple[Annotation, ...]) -> Picture:
    from dataclasses import replace

    return replace(picture, annotations=rows, places=(picture.mask,) * len(rows))


def _left_over(files: SourceFiles, masks: dict[str, str]) -> Iterator[Fault]:
    used = {*masks, *masks.values()}
    for name in files.pictures:
        if name not in used:
            reason = "has no mask, or is a mask without its picture: left out"
            yield Fault(name, "", reason, "without_annotation", is_note=True)
    for name in files.other_pictures:
        reason = "is in a format that is not read (PNG and JPEG are): convert it"
        yield Fault(name, "", reason, "bad_image")


def _draw(picture: Picture, numbers: dict[str, int]) -> NDArray[np.uint16]:
    mask = np.zeros((picture.height, picture.width), np.uint16)
    counts: dict[str, int] = defaultdict(int)
    for row in picture.annotations:
        if row.polygon:
            counts[row.class_name] += 1
            if counts[row.class_name] >= INSTANCES:
                raise DataError(picture.file, "has 1,000 objects of one class", "use COCO")
            value = numbers[row.class_name] * INSTANCES + counts[row.class_name]
            mask[draw_outline(row.polygon, picture.width, picture.height)] = value
    return mask


def _encode(mask: NDArray[np.uint16]) -> bytes:
    import cv2

    done, content = cv2.imencode(".png", mask)
    if not done:
        raise DataError("mask PNG", "cannot be encoded")
    return bytes(content)
