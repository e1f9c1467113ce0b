"""CSV with soft classes: one line a picture, a column with its file, a column a class.

Numbers in class columns are probabilities that sum to 1, or whole numbers of people (votes).
Columns ``class``, ``split``, ``camera``, ``site``, ``captured_at`` are known; what is neither
known nor a number becomes a metadata column.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from visionloop.core.entities import Annotation
from visionloop.core.errors import DataError
from visionloop.core.files import write_text
from visionloop.data.formats.pictures import Fault, Loaded, LoadOptions, Picture
from visionloop.data.formats.rows import (
    SPLIT_WORDS,
    picture_header,
    read_rows_text,
    split_of,
    unused_pictures,
)
from visionloop.data.formats.sources import SourceFiles

__all__ = ["SoftCsvFormat"]

FILE_COLUMNS = ("file", "file_name", "filename", "image", "path")
CLASS_COLUMNS = ("class", "class_name")
METADATA = ("camera", "site", "captured_at")
KNOWN_COLUMNS = frozenset({*FILE_COLUMNS, *CLASS_COLUMNS, *METADATA, "split"})


class SoftCsvFormat:
    """The row ``csv`` of the format table."""

    holds = frozenset({"class", "probabilities"})

    def recognise(self, files: SourceFiles) -> str:
        """A CSV file with a column for the file."""
        for name in files.with_suffix(".csv"):
            text, _ = read_rows_text(files, name)
            header = next(csv.reader(io.StringIO(text)), [])
            if any(column.strip().lower() in FILE_COLUMNS for column in header):
                return f"{name} has a column for the picture's file"
        return ""

    def classes(self, files: SourceFiles) -> tuple[str, ...]:
        """The class columns, in order."""
        names: dict[str, None] = {}
        for name in files.with_suffix(".csv"):
            table, _ = _read_table(files, name)
            names |= dict.fromkeys(_class_columns(table))
        return tuple(names)

    def load(self, files: SourceFiles, options: LoadOptions) -> Iterator[Loaded]:
        """Pictures in order of the lines."""
        used: dict[str, str] = {}
        for name in files.with_suffix(".csv"):
            table, faults = _read_table(files, name)
            yield from faults
            columns = _class_columns(table)
            for line, row in table:
                yield from _read(files, name, line, row, columns, used)
        yield from unused_pictures(files, set(used), "is in no line: left out")

    def place_of(self, picture: Picture) -> str:
        """``images/<name>``."""
        return f"images/{PurePosixPath(picture.file).name}"

    def save(self, folder: Path, pictures: Iterable[Picture], classes: Sequence[str]) -> None:
        """``samples.csv``; probabilities with all their digits."""
        if taken := KNOWN_COLUMNS & {name.lower() for name in classes}:
            raise DataError("CSV", f"a class is named like a column: {min(taken)}", "use COCO")
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["file", "split", "class", *classes])
        for picture in pictures:
            row = next((one for one in picture.annotations if one.xyxy is None), None)
            shares = dict(row.probabilities) if row else {}
            numbers = [repr(shares.get(name, 0.0)) if shares else "" for name in classes]
            writer.writerow([picture.file, picture.split, row.class_name if row else "", *numbers])
        write_text(folder / "samples.csv", text.getvalue())


Line = tuple[int, dict[str, str]]


def _read_table(files: SourceFiles, name: str) -> tuple[list[Line], list[Fault]]:
    """Lines with their number in the file; faults of the file and of lines of a wrong length."""
    text, faults = read_rows_text(files, name)
    reader = csv.reader(io.StringIO(text), strict=True)
    table: list[Line] = []
    try:
        header = [column.strip() for column in next(reader, [])]
        if not any(column.lower() in FILE_COLUMNS for column in header):
            if text:
                reason = f"no column is named {', '.join(FILE_COLUMNS)}"
                faults.append(Fault(name, "line 1", reason, "syntax"))
            return [], faults
        if doubled := {column for column in header if header.count(column) > 1}:
            reason = f"column '{min(doubled)}' is there twice"
            faults.append(Fault(name, "line 1", reason, "duplicate_id"))
            return [], faults
        for values in reader:
            if len(values) == len(header):
                row = {key: value.strip() for key, value in zip(header, values, strict=True)}
                table.append((reader.line_num, row))
            elif values:
                reason = f"has {len(values)} columns, the first line has {len(header)}"
                faults.append(Fault(name, f"line {reader.line_num}", reason, "syntax"))
    except csv.Error as error:
        faults.append(Fault(name, f"line {reader.line_num}", f"is not CSV: {error}", "syntax"))
    return table, faults


def _class_columns(table: list[Line]) -> list[str]:
    """Columns that are not known and hold mostly numbers."""
    if not table:
        return []
    found = []
    for column in table[0][1]:
        values = [row[column] for _, row in table if row[column]]
        numbers = sum(_number(value) is not None for value in values)
        if column.lower() not in KNOWN_COLUMNS and values and 2 * numbers > len(values):
            found.append(column)
    return found


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _read(
    files: SourceFiles,
    name: str,
    line: int,
    row: dict[str, str],
    columns: list[str],
    used: dict[str, str],
) -> Iterator[Loaded]:
    place = f"line {line}"
    said = next(row[column] for column in row if column.lower() in FILE_COLUMNS)
    image = files.find_picture(said, near=name) if said else ""
    if not image:
        yield Fault(name, place, f"there is no one picture '{said}'", "missing_image")
        return
    if image in used:
        yield Fault(name, place, f"{image} is there already, {used[image]}", "duplicate_id")
        return
    used[image] = place
    header, fault = picture_header(files, image)
    if header is None:
        yield fault or Fault(image, "", "cannot be read", "bad_image")
        return
    annotation, fault = _annotation(name, place, row, columns)
    if fault:
        yield fault
    split = SPLIT_WORDS.get(row.get("split", "").lower(), "") or split_of(image)
    attributes: dict[str, Any] = {
        key: value
        for key, value in row.items()
        if key not in columns and (key in METADATA or key.lower() not in KNOWN_COLUMNS) and value
    }
    size = header.width, header.height
    rows = (annotation,) if annotation else ()
    places = (f"{name}, {place}",) * len(rows)
    yield Picture(image, rows, places, *size, split, attributes=attributes)


def _annotation(
    name: str, place: str, row: dict[str, str], columns: list[str]
) -> tuple[Annotation | None, Fault | None]:
    stated = next((row[key] for key in row if key.lower() in CLASS_COLUMNS), "")
    texts = {column: row[column] for column in columns if row[column]}
    if not texts:
        return (Annotation("", stated), None) if stated else (None, None)
    numbers = {column: _number(text) for column, text in texts.items()}
    wrong = [key for key, one in numbers.items() if one is None or not math.isfinite(one)]
    if wrong:
        reason = f"{texts[wrong[0]]!r} in column '{wrong[0]}' is no finite number"
        return None, Fault(name, place, reason, "not_finite")
    shares = {key: one for key, one in numbers.items() if one is not None}
    total = sum(shares.values())
    if min(shares.values()) < 0:
        return None, Fault(name, place, "a share is negative", "bad_probability")
    is_votes = all(one.is_integer() for one in shares.values()) and total >= 1
    if not is_votes and abs(total - 1) > 1e-3:
        return None, Fault(name, place, f"shares sum to {total:.4f}, not 1", "bad_probability")
    kept = tuple((key, one / total if is_votes else one) for key, one in shares.items() if one > 0)
    best = max(kept, key=lambda pair: pair[1])[0]
    if stated and stated not in columns:
        return None, Fault(name, place, f"class '{stated}' has no column", "unknown_class")
    return Annotation("", stated or best, probabilities=kept), None
