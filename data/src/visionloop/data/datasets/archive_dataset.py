"""Any source as samples: pictures read by a format, with the row of a known archive applied.

``open_archive_dataset("neu-det")`` iterates over the samples of a known archive with their
annotations; ``read_source`` does the same for a folder or archive of one's own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, cast

from visionloop.core.entities import Annotation
from visionloop.core.errors import ConfigError, DataError
from visionloop.core.files import sha256_of_bytes
from visionloop.core.plugins import nearest_hint, resolve
from visionloop.data.datasets.known import KNOWN, KnownArchive
from visionloop.data.datasets.table import RawSample
from visionloop.data.formats.pictures import Fault, Loaded, LoadOptions, Picture
from visionloop.data.formats.sources import SourceFiles, open_source
from visionloop.data.formats.table import open_format

__all__ = ["ArchiveDataset", "find_archive", "open_archive_dataset", "read_source", "to_sample"]


@dataclass
class ArchiveDataset:
    """The samples of a known archive; iterate over it as often as you like.

    Attributes
    ----------
    name, source, licence : str
    classes : tuple of str
    vision_task : str
        ``detection`` or ``classification``.
    path : Path
    faults : list of Fault
        Rows that are wrong (left out) and notes, as of the last complete iteration.
    """

    name: str
    path: Path
    vision_task: str
    source: str = "mirror"
    faults: list[Fault] = field(default_factory=list)

    @property
    def row(self) -> KnownArchive:
        return KNOWN[self.name]

    @property
    def classes(self) -> tuple[str, ...]:
        return self.row.classes

    @property
    def licence(self) -> str:
        return self.row.licence

    def __iter__(self) -> Iterator[RawSample]:
        """Samples in order of file name; ``attributes["file"]`` is the name in the archive."""
        faults: list[Fault] = []
        for part, path in self.parts():
            with open_source(path) as files:
                for one in read_source(files, self.row.format, self.vision_task, part):
                    if isinstance(one, Fault):
                        faults.append(one)
                        continue
                    try:
                        yield to_sample(files, one)
                    except DataError as error:
                        faults.append(Fault(one.file, "", "; ".join(error.problems), "bad_image"))
        self.faults = faults

    def parts(self) -> list[tuple[str, Path]]:
        """Rows of the table to read, each with its archive of pictures."""
        names = self.row.parts or (self.name,)
        return [(name, self.path.with_name(KNOWN[name].file)) for name in names]


def open_archive_dataset(
    name: str, *, path: Path | None = None, vision_task: str = ""
) -> ArchiveDataset:
    """Open a row of the table of known archives.

    Parameters
    ----------
    name : str
        ``neu-det``, ``bccd``, ``magnetic-tile``, ``cifar10n``, ...
    path : Path or None
        The archive; None looks into ``VISIONLOOP_MIRROR``.
    vision_task : str
        ``detection`` or ``classification``; empty takes that of the row. The tiles can be
        read as both.

    Raises
    ------
    ConfigError
        If there is no such row.
    DataError
        If the archive is not there, or not safe to open.
    """
    if name not in KNOWN:
        raise ConfigError(f"archive '{name}'", "is not known", nearest_hint(name, KNOWN))
    place = path if path is not None else find_archive(KNOWN[name].file)
    return ArchiveDataset(name, place, vision_task or KNOWN[name].vision_task)


def find_archive(file: str) -> Path:
    """An archive in the folder that ``VISIONLOOP_MIRROR`` names (DataError if it is not there)."""
    mirror = os.environ.get("VISIONLOOP_MIRROR", "")
    place = Path(mirror) / file
    if not mirror or not place.is_file():
        why = f"is not in {mirror}" if mirror else "is looked for in VISIONLOOP_MIRROR, not set"
        raise DataError(file, why, "set VISIONLOOP_MIRROR, or name the archive's path")
    return place


def read_source(
    files: SourceFiles, format_name: str, vision_task: str, known: str = ""
) -> Iterator[Loaded]:
    """Pictures and faults of a source, with the row of a known archive applied."""
    row = KNOWN.get(known)
    options = LoadOptions(vision_task=vision_task)
    form = open_format(format_name)
    if row is None:
        yield from form.load(files, options)
        return
    files.pass_over(*row.leave_out)
    loaded: Iterator[Loaded] = (
        _apply(row, one, vision_task) if isinstance(one, Picture) else one
        for one in form.load(files, options)
    )
    if row.people:
        labels = files.path.with_name(row.labels_file)
        if not labels.is_file():
            raise DataError(str(labels), "is missing: it holds the people's answers")
        lay_over = cast(
            Callable[[Iterator[Loaded], Path], Iterator[Loaded]],
            resolve({"people": row.people}, "people", kind="people's answers"),
        )
        loaded = lay_over(loaded, labels)
    yield from loaded


def to_sample(files: SourceFiles, picture: Picture, **fields: str) -> RawSample:
    """The sample of a picture: its bytes read, its annotations tied to their hash.

    Parameters
    ----------
    files : SourceFiles
    picture : Picture
    **fields : str
        ``camera``, ``site``, ``captured_at``; they count more than those of the source.

    Raises
    ------
    DataError
        If the picture cannot be read.
    """
    content = files.read(picture.file)
    sample_id = sha256_of_bytes(content)
    suffix = PurePosixPath(picture.file).suffix.lower().removeprefix(".")
    columns = {"file": picture.file, **picture.attributes}
    given = {
        name: fields.get(name) or str(columns.pop(name, ""))
        for name in ("camera", "site", "captured_at")
    }
    return RawSample(
        content=content,
        suffix="jpg" if suffix == "jpeg" else suffix,
        attributes=columns,
        annotations=tuple(
            replace(row, sample_id=sample_id, annotator=row.annotator or "expert")
            for row in picture.annotations
        ),
        official_split=picture.split or None,
        mask=files.read(picture.mask) if picture.mask else None,
        phase="imported",
        **given,
    )


def _apply(row: KnownArchive, picture: Picture, vision_task: str) -> Picture:
    """Class names, official split and columns, as the row says."""
    splits = [split for folder, split in row.splits if picture.file.startswith(folder)]
    columns = dict(picture.attributes)
    if row.attributes and (found := re.fullmatch(row.attributes, PurePosixPath(picture.file).stem)):
        for name, value in found.groupdict().items():
            columns[name.removesuffix("_n")] = int(value) if name.endswith("_n") else value
    split = splits[0] if splits else picture.split
    named = tuple(_renamed(row, one) for one in picture.annotations)
    places = picture.places or (picture.file,) * len(named)
    pairs = list(_for_task(row, zip(named, places, strict=True), columns, vision_task, picture))
    return replace(
        picture,
        annotations=tuple(one for one, _ in pairs),
        places=tuple(place for _, place in pairs),
        split=split,
        attributes=columns,
    )


def _for_task(
    row: KnownArchive,
    annotations: Iterable[tuple[Annotation, str]],
    columns: Mapping[str, Any],
    vision_task: str,
    picture: Picture,
) -> Iterator[tuple[Annotation, str]]:
    """Annotations with their places as an anomaly or a scene has them; others stay as they are."""
    if not row.normal_class or vision_task not in ("anomaly", "scene"):
        yield from annotations
        return
    for one, place in annotations:
        is_normal = one.class_name == row.normal_class
        if vision_task == "anomaly":
            yield replace(one, class_name="normal" if is_normal else "defective"), place
        elif not is_normal:
            yield one, place
    if vision_task == "scene":
        for name in row.scene_columns:
            if columns.get(name):  # 0 says nothing: three tiles have no exposure in their name
                yield Annotation("", f"{name}{columns[name]}"), picture.file


def _renamed(row: KnownArchive, annotation: Annotation) -> Annotation:
    if not row.class_prefix:
        return annotation
    return replace(annotation, class_name=annotation.class_name.removeprefix(row.class_prefix))
