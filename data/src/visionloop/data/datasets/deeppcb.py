"""Circuit boards: DeepPCB, 1,500 images of 640 x 640 with six kinds of defects.

Tang et al., "Online PCB Defect Detector On A New PCB Defect Dataset", 2019. The images
come from ``deeppcb.zip`` in ``VISIONLOOP_MIRROR``, else from their public repository
(checked against the same contents), else they are generated; ``source`` says which.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol

from visionloop.core.entities import Annotation
from visionloop.core.errors import DataError, UnreachableError
from visionloop.core.files import sha256_of_bytes
from visionloop.core.progress import say_step
from visionloop.data.datasets.phases import PHASES, cap_phases, check_phases, time_of
from visionloop.data.datasets.table import RawSample
from visionloop.data.formats.archives import open_archive, read_member

__all__ = ["CLASSES", "DeepPcbDataset"]

CLASSES = ("open", "short", "mousebite", "spur", "copper", "pin-hole")
"""Class of type 1, 2, ... in the annotation files."""

SHA256 = "8ef525a8adc51e1991fd9f7f9923cc97b51f5052defbbd078ef49a20d6447071"
DENSE_BOARDS = frozenset({"12000", "50600", "92000"})
"""Boards of closely packed copper: the product that the line switches to."""

SIZES = {
    "commissioning": ("open", 260),
    "production_1": ("open", 250),
    "production_2": ("dense", 161),
}
ACCEPTANCE = {"open": 100, "dense": 50}
"""Of the official test split."""
ANNOTATED = ("commissioning", "acceptance")

Boxes = list[tuple[float, float, float, float, str]]


class BoardSource(Protocol):
    """Where board images come from."""

    source: str
    licence: str

    def names(self) -> dict[str, bool]:
        """Name of each image to "belongs to the official test split"; 8 digits, board first."""

    def image(self, name: str) -> bytes:
        """The image file, PNG."""

    def template(self, name: str) -> bytes:
        """The board without defects, PNG."""

    def boxes(self, name: str) -> Boxes:
        """Defects: x1, y1, x2, y2 in pixels and the class name."""


class DeepPcbDataset:
    """The row ``deeppcb``: boards of open layout first, then of dense layout."""

    name = "deeppcb"
    classes = CLASSES

    def __init__(self, *, seed: int, phase_sizes: dict[str, int] | None = None) -> None:
        check_phases(phase_sizes or {}, "data.import.phase_sizes")
        self._boards = _find_source(seed)
        self.source = self._boards.source
        self.licence = self._boards.licence
        self._phase_of = cap_phases(_share_out(self._boards.names(), seed), phase_sizes or {})

    def samples(self, phases: Iterable[str] | None = None) -> Iterator[RawSample]:
        """The boards of these phases, in order of (simulated) time."""
        wanted = tuple(phases) if phases is not None else PHASES
        check_phases(wanted, "phases")
        for phase in PHASES:
            if phase in wanted:
                names = sorted(name for name, one in self._phase_of.items() if one == phase)
                for number, name in enumerate(names):
                    yield self._sample(name, phase, number)

    def truth(self) -> dict[str, list[Annotation]]:
        """The boxes of every image by sample id."""
        return {
            sample_id: _annotations(sample_id, self._boards.boxes(name))
            for name, sample_id in self._sample_ids.items()
        }

    def templates(self) -> dict[str, Callable[[], bytes]]:
        """Sample id to a function that reads the PNG of its defect-free board."""
        return {
            sha256_of_bytes(self._boards.image(name)): partial(self._boards.template, name)
            for name in sorted(self._phase_of)
        }

    @cached_property
    def _sample_ids(self) -> dict[str, str]:
        return {name: sha256_of_bytes(self._boards.image(name)) for name in self._boards.names()}

    def _sample(self, name: str, phase: str, number: int) -> RawSample:
        content = self._boards.image(name)
        annotations: list[Annotation] = []
        if phase in ANNOTATED:
            sample_id = sha256_of_bytes(content)
            annotations = _annotations(sample_id, self._boards.boxes(name))
        return RawSample(
            content=content,
            suffix="png",
            camera=f"line-{1 + number % 2}",
            site="plant-2",
            captured_at=time_of(phase, number),
            attributes={"board": name[:5], "layout": _layout(name)},
            annotations=tuple(annotations),
            phase=phase,
            official_split="test" if phase == "acceptance" else None,
        )


def _layout(name: str) -> str:
    return "dense" if name[:5] in DENSE_BOARDS else "open"


def _annotations(sample_id: str, boxes: Boxes) -> list[Annotation]:
    """Annotations of one image; "looked at, nothing there" where it has no defect."""
    if not boxes:
        return [Annotation(sample_id, "", annotator="expert")]
    return [
        Annotation(sample_id, class_name, (x1, y1, x2, y2), annotator="expert")
        for x1, y1, x2, y2, class_name in boxes
    ]


def _share_out(names: dict[str, bool], seed: int) -> dict[str, str]:
    """Phase of each image: acceptance from the official test split, the rest from the others."""
    generator = random.Random(seed)
    phase_of: dict[str, str] = {}
    for layout, size in ACCEPTANCE.items():
        free = sorted(name for name, test in names.items() if test and _layout(name) == layout)
        phase_of |= dict.fromkeys(generator.sample(free, min(size, len(free))), "acceptance")
    for phase, (layout, size) in SIZES.items():
        free = sorted(
            name
            for name, test in names.items()
            if not test and name not in phase_of and _layout(name) == layout
        )
        phase_of |= dict.fromkeys(generator.sample(free, min(size, len(free))), phase)
    return phase_of


def _find_source(seed: int) -> BoardSource:
    mirror = os.environ.get("VISIONLOOP_MIRROR")
    if mirror and (path := Path(mirror) / "deeppcb.zip").exists():
        return ZippedBoards(path)
    from visionloop.data.datasets.deeppcb_download import DownloadedBoards, download

    try:
        return DownloadedBoards(download())
    except UnreachableError as error:
        say_step(f"DeepPCB cannot be had here ({error.problems[0]}): boards are generated")
    from visionloop.data.synthesis.boards import GeneratedBoards

    return GeneratedBoards(seed)


class ZippedBoards:
    """``deeppcb.zip`` of the mirror: test/, labels/, trainval.txt, test.txt."""

    source = "mirror"
    licence = "MIT file; its README adds 'for research purpose'"

    def __init__(self, path: Path) -> None:
        self._archive = open_archive(path, sha256=SHA256)

    def names(self) -> dict[str, bool]:
        lists = {False: "trainval.txt", True: "test.txt"}
        return {
            name: test
            for test, file in lists.items()
            for name in re.findall(r"\d{8}", read_member(self._archive, file).decode())
        }

    def image(self, name: str) -> bytes:
        return read_member(self._archive, f"test/{name}.png")

    def template(self, name: str) -> bytes:
        """The defect-free board that the image was compared with, PNG of the same size."""
        return read_member(self._archive, f"temp/{name}.png")

    def boxes(self, name: str) -> Boxes:
        file = f"labels/{name}.txt"
        return parse_boxes(read_member(self._archive, file).decode(), subject=file)


def parse_boxes(text: str, *, subject: str) -> Boxes:
    """Lines ``x1 y1 x2 y2 type`` (spaces or commas; BOM and CRLF are tolerated).

    Raises
    ------
    DataError
        Naming every line that is not four finite numbers in order and a known type.
    """
    boxes: Boxes = []
    problems = []
    for number, line in enumerate(text.lstrip("\ufeff").splitlines(), start=1):
        parts = line.replace(",", " ").split()
        if not parts:
            continue
        try:
            x1, y1, x2, y2 = (float(part) for part in parts[:4])
            class_name = CLASSES[[str(n) for n in range(1, 1 + len(CLASSES))].index(parts[4])]
        except (ValueError, IndexError):
            problems.append(f"line {number}: {line!r} is not x1 y1 x2 y2 type (1 to 6)")
            continue
        if not (0 <= x1 < x2 < 1e5 and 0 <= y1 < y2 < 1e5):
            problems.append(f"line {number}: box {parts[:4]} has no area or is not in the image")
            continue
        boxes.append((x1, y1, x2, y2, class_name))
    if problems:
        raise DataError(subject, problems, "correct these lines; nothing was read")
    return boxes
