"""ImageFolder: the folder of a picture is its class, ``[<split>/]<class>/<name>``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from visionloop.core.entities import Annotation
from visionloop.data.formats.pictures import Fault, Loaded, LoadOptions, Picture
from visionloop.data.formats.rows import SPLIT_WORDS, picture_header, split_of, unused_pictures
from visionloop.data.formats.sources import SourceFiles

__all__ = ["ImageFolderFormat", "class_of_folder"]

NOT_CLASSES = frozenset({"images", "imgs", "img", "jpegimages", "pictures", "data", "dataset"})
UNANNOTATED = "unannotated"
"""Folder of exported pictures that nobody has annotated."""


class ImageFolderFormat:
    """The row ``imagefolder`` of the format table."""

    holds = frozenset({"class"})

    def recognise(self, files: SourceFiles) -> str:
        """Pictures in at least two class folders of one depth, and hardly any other file."""
        classes = {class_of_folder(name) for name in files.pictures} - {""}
        depths = {name.count("/") for name in files.pictures}
        others = len(files.names) - len(files.pictures)
        if len(classes) < 2 or len(depths) != 1 or others > max(2, 0.1 * len(files.names)):
            return ""
        return f"pictures lie in {len(classes)} folders such as '{min(classes)}'"

    def classes(self, files: SourceFiles) -> tuple[str, ...]:
        """The format lists none."""
        return ()

    def load(self, files: SourceFiles, options: LoadOptions) -> Iterator[Loaded]:
        """One picture a file."""
        yield from unused_pictures(files, set(files.pictures), "")
        for name in files.pictures:
            header, fault = picture_header(files, name)
            if header is None:
                yield fault or Fault(name, "", "cannot be read", "bad_image")
                continue
            class_name = class_of_folder(name)
            if not class_name:
                yield Fault(name, "", "lies in no class folder", "unknown_class")
                continue
            rows = () if class_name == UNANNOTATED else (Annotation("", class_name),)
            size = header.width, header.height
            yield Picture(name, rows, (name,) * len(rows), *size, split=split_of(name))

    def place_of(self, picture: Picture) -> str:
        """``<split>/<class>/<name>``."""
        classes = [row.class_name for row in picture.annotations if row.xyxy is None]
        folder = classes[0] if classes and classes[0] else UNANNOTATED
        return f"{picture.split or 'train'}/{folder}/{PurePosixPath(picture.file).name}"

    def save(self, folder: Path, pictures: Iterable[Picture], classes: Sequence[str]) -> None:
        """Nothing to write: the places of the pictures say it all."""


def class_of_folder(name: str) -> str:
    """The class that a picture's path names; empty if none does."""
    for part in reversed(PurePosixPath(name).parts[:-1]):
        if part.lower() in SPLIT_WORDS:
            return ""
        if part.lower() not in NOT_CLASSES:
            return part
    return ""
