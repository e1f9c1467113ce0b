"""What every annotation format is read into and written from: pictures, rows, faults.

Coordinates are continuous pixels of the picture: the first pixel covers 0 to 1, a box that
covers a whole picture of W x H pixels is ``(0, 0, W, H)``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from visionloop.core.entities import Annotation

if TYPE_CHECKING:
    from visionloop.data.formats.sources import SourceFiles

__all__ = ["AnnotationFormat", "Fault", "LoadOptions", "Loaded", "Picture"]


@dataclass(frozen=True)
class Picture:
    """One picture of a source and what is said about it.

    Attributes
    ----------
    file : str
        Its name in the source, POSIX: ``images/train/0001.jpg``.
    annotations : tuple of Annotation
        Their ``sample_id`` is empty until the picture is imported. Empty where nobody looked;
        one annotation with an empty class where somebody looked and found nothing.
    places : tuple of str
        Where each annotation stands: ``labels/0001.txt line 3``.
    width, height : int
        Pixels.
    split : str
        Official split: ``train``, ``val``, ``test`` or empty.
    mask : str
        File name of its mask in the source, or empty.
    attributes : dict
        Further metadata columns.
    """

    file: str
    annotations: tuple[Annotation, ...] = ()
    places: tuple[str, ...] = ()
    width: int = 0
    height: int = 0
    split: str = ""
    mask: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fault:
    """A row that is wrong (or, as a note, merely worth a word).

    Attributes
    ----------
    file : str
        File in the source.
    place : str
        ``line 3``, an XML path, a JSON index; empty for the whole file.
    reason : str
        One sentence for a person.
    kind : str
        For counting: ``not_finite``, ``degenerate_box``, ``swapped_corners``, ``outside``,
        ``unknown_class``, ``duplicate_id``, ``missing_image``, ``bad_image``, ``syntax``, ...
    is_note : bool
        True where the row was taken in all the same.
    """

    file: str
    place: str
    reason: str
    kind: str
    is_note: bool = False

    def __str__(self) -> str:
        return f"{self.file}{f', {self.place}' if self.place else ''}: {self.reason}"


Loaded = Picture | Fault


@dataclass(frozen=True)
class LoadOptions:
    """What a person or a row of the archive table knows about a source.

    Attributes
    ----------
    classes : tuple of str
        Class of number 0, 1, ... for formats that write numbers; empty takes those of the
        source.
    vision_task : str
        ``detection`` or ``classification``: what to read where a format can tell both.
    mask_kind : str
        For masks, see :mod:`visionloop.data.formats.mask_png`; empty guesses.
    """

    classes: tuple[str, ...] = ()
    vision_task: str = "detection"
    mask_kind: str = ""


class AnnotationFormat(Protocol):
    """A row of the format table: reads a source picture by picture, writes a folder.

    ``holds`` says what the format can express: ``class``, ``box``, ``polygon``,
    ``probabilities``.
    """

    holds: frozenset[str]

    def recognise(self, files: SourceFiles) -> str:
        """Why the source looks like this format, in words; empty if it does not."""

    def classes(self, files: SourceFiles) -> tuple[str, ...]:
        """Class names that the source lists, in its order; empty if it lists none."""

    def load(self, files: SourceFiles, options: LoadOptions) -> Iterator[Loaded]:
        """Pictures and faults, one at a time; never raises for a wrong row."""

    def place_of(self, picture: Picture) -> str:
        """Where the image file of an exported picture goes, relative and POSIX."""

    def save(self, folder: Path, pictures: Iterable[Picture], classes: Sequence[str]) -> None:
        """Write the annotation files of pictures whose ``file`` is their place in the folder."""
