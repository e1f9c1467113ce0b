"""The table of annotation formats, and how one is told from another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from visionloop.core.errors import DataError
from visionloop.core.plugins import resolve
from visionloop.data.formats.pictures import AnnotationFormat
from visionloop.data.formats.sources import SourceFiles

__all__ = ["FORMATS", "Guess", "guess_format", "open_format"]

FORMATS = {
    "coco": "visionloop.data.formats.coco_files:CocoFormat",
    "yolo": "visionloop.data.formats.yolo:YoloFormat",
    "voc": "visionloop.data.formats.voc:VocFormat",
    "labelme": "visionloop.data.formats.labelme:LabelMeFormat",
    "csv": "visionloop.data.formats.soft_csv:SoftCsvFormat",
    "deeppcb": "visionloop.data.formats.deeppcb_text:DeepPcbFormat",
    "mask": "visionloop.data.formats.mask_png:MaskPngFormat",
    "imagefolder": "visionloop.data.formats.image_folder:ImageFolderFormat",
}
"""Name to class (see :class:`AnnotationFormat`). The order is that of guessing: what is told
by its files comes before what is told by mere folders."""


@dataclass(frozen=True)
class Guess:
    """The format that a source looks like, and why."""

    name: str
    reason: str


def open_format(name: str) -> AnnotationFormat:
    """A row of the table (ConfigError if there is none)."""
    return cast(AnnotationFormat, resolve(FORMATS, name, kind="format")())


def guess_format(files: SourceFiles) -> Guess:
    """The first format of the table that a source looks like.

    Raises
    ------
    DataError
        If it looks like none.
    """
    for name in FORMATS:
        if reason := open_format(name).recognise(files):
            return Guess(name, reason)
    kinds = f"{len(files.names)} files, {len(files.pictures)} of them PNG or JPEG"
    raise DataError(
        str(files.path),
        f"looks like no known annotation format ({kinds})",
        f"name one with --format: {', '.join(FORMATS)}",
    )
