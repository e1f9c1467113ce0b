"""Looking at a source before anything is taken in: every fault, every oddity, nothing written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from visionloop.core.errors import DataError
from visionloop.core.progress import track
from visionloop.data.datasets.archive_dataset import read_source, to_sample
from visionloop.data.datasets.known import KNOWN, known_archive_of
from visionloop.data.datasets.oddities import facts_of, find_oddities
from visionloop.data.datasets.oddity import Facts, Oddity
from visionloop.data.datasets.table import RawSample
from visionloop.data.formats.pictures import Fault, Picture
from visionloop.data.formats.sources import SourceFiles, open_source
from visionloop.data.formats.table import guess_format, open_format
from visionloop.serving.images import decode_image

__all__ = ["Examined", "Plan", "examine", "keep_classes", "plan_import", "read_plan"]

MAX_COMPARED = 20_000
"""Pictures that are compared with each other; of larger sets the first so many."""


@dataclass(frozen=True)
class Plan:
    """How a source is read.

    Attributes
    ----------
    source : Path
    format, reason : str
        Row of the format table, and why it was chosen.
    known : str
        Row of the table of known archives, or empty.
    vision_task : str
    parts : tuple of (known row, archive)
        What is read, in order.
    classes : tuple of str
        Order of classes that the source itself gives; empty if it gives none.
    """

    source: Path
    format: str
    reason: str
    known: str
    vision_task: str
    parts: tuple[tuple[str, Path], ...]
    classes: tuple[str, ...]


@dataclass
class Examined:
    """What a source holds.

    Attributes
    ----------
    samples, annotations : int
    class_counts : dict of class name to annotations (boxes or pictures)
    task_counts : dict
        Annotations by vision task.
    splits : dict of official split to samples
    faults, notes : list of Fault
        Rows that are wrong; rows that are taken in with a word about them.
    facts : list of Facts
    oddities : list of Oddity
    """

    samples: int = 0
    annotations: int = 0
    class_counts: Counter[str] = field(default_factory=Counter)
    task_counts: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    notes: list[Fault] = field(default_factory=list)
    facts: list[Facts] = field(default_factory=list)
    oddities: list[Oddity] = field(default_factory=list)


def plan_import(source: Path, *, format_name: str, vision_task: str) -> Plan:
    """Decide how a source is read; an unnamed format is that of a known archive, or guessed.

    Raises
    ------
    ConfigError
        If there is no such format.
    DataError
        If the source is not there, not safe to open, or like no format.
    """
    known = known_archive_of(source.name) if source.is_file() else ""
    if format_name and known and KNOWN[known].format != format_name:
        known = ""
    if known:
        row = KNOWN[known]
        parts = tuple((one, source.with_name(KNOWN[one].file)) for one in row.parts or (known,))
        reason = f"the archive {row.file} is known"
        with open_source(source):  # refuses the whole archive if it is not safe
            return Plan(source, row.format, reason, known, vision_task, parts, row.classes)
    with open_source(source) as files:
        if format_name:
            reason = "named on the command line"
        else:
            guess = guess_format(files)
            format_name, reason = guess.name, f"guessed: {guess.reason}"
        classes = open_format(format_name).classes(files)
    return Plan(source, format_name, reason, "", vision_task, (("", source),), classes)


def read_plan(plan: Plan, faults: list[Fault]) -> Iterator[tuple[SourceFiles, Picture]]:
    """The pictures of a plan; faults are appended to the list."""
    for known, path in plan.parts:
        with open_source(path) as files:
            for one in read_source(files, plan.format, plan.vision_task, known):
                if isinstance(one, Fault):
                    faults.append(one)
                else:
                    yield files, one


def examine(plan: Plan, *, known_classes: Sequence[str] | None = None) -> Examined:
    """Read everything once and decode every picture; nothing is written.

    Parameters
    ----------
    plan : Plan
    known_classes : sequence of str or None
        Annotations of other classes are faults; None takes all.
    """
    seen = Examined()
    faults: list[Fault] = []
    for files, whole in track(read_plan(plan, faults), "examining pictures"):
        for row in whole.annotations:
            if row.class_name:
                seen.task_counts["classification" if row.xyxy is None else "detection"] += 1
        picture = keep_classes(whole, known_classes, faults)
        try:
            raw = to_sample(files, picture)
            image = decode_image(raw.content, subject=picture.file, suffix=f".{raw.suffix}")
        except DataError as error:
            faults.append(Fault(picture.file, "", "; ".join(error.problems), "bad_image"))
            continue
        if (image.shape[1], image.shape[0]) != (picture.width, picture.height):
            reason = "is turned by its EXIF data: turn the pixels, boxes cannot follow"
            faults.append(Fault(picture.file, "", reason, "size_mismatch"))
            continue
        _count(seen, raw)
        if len(seen.facts) < MAX_COMPARED:
            seen.facts.append(facts_of(raw, image))
    seen.faults = [fault for fault in faults if not fault.is_note]
    seen.notes = [fault for fault in faults if fault.is_note]
    seen.oddities = find_oddities(seen.facts, faults)
    return seen


def _count(seen: Examined, raw: RawSample) -> None:
    seen.samples += 1
    seen.annotations += len(raw.annotations)
    seen.splits[raw.official_split or ""] += 1
    for row in raw.annotations:
        seen.class_counts[row.class_name] += 1


def keep_classes(
    picture: Picture, known_classes: Sequence[str] | None, faults: list[Fault]
) -> Picture:
    """A picture without its annotations of other classes, each of them a fault."""
    if known_classes is None:
        return picture
    kept = []
    for row, place in zip(picture.annotations, picture.places, strict=True):
        if row.class_name and row.class_name not in known_classes:
            reason = f"class '{row.class_name}' is not one of project.classes"
            file, _, inside = place.partition(", ")
            faults.append(Fault(file, inside, reason, "unknown_class"))
        else:
            kept.append((row, place))
    rows, places = tuple(row for row, _ in kept), tuple(place for _, place in kept)
    return replace(picture, annotations=rows, places=places)
