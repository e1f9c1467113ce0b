"""The unfinished folder of a redaction: what an interrupted run leaves, and how it goes on."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from visionloop.core.files import (
    canonical_json,
    sha256_of_bytes,
    sha256_of_file,
    write_bytes,
    write_text,
)
from visionloop.core.progress import say_step

__all__ = ["RedactSettings", "RedactedPicture", "Staging", "open_staging"]


@dataclass(frozen=True)
class RedactedPicture:
    """One picture of the folder.

    Attributes
    ----------
    name : str
        Relative to the folder.
    source_sha256, sha256 : str
        Of the original and of what is passed on; the latter empty if it is withheld.
    boxes : tuple of (x1, y1, x2, y2)
        What was redacted, pixels.
    withheld : str
        Why it is not passed on; empty if it is.
    """

    name: str
    source_sha256: str
    sha256: str = ""
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    withheld: str = ""


@dataclass(frozen=True)
class RedactSettings:
    """What decides the result: a run goes on only with the same."""

    source: str
    package: str
    classes: list[str]
    mode: str
    min_confidence: float
    margin: float
    cells: int


@dataclass
class Staging:
    """The unfinished folder beside ``out``, and the journal of what is in it."""

    folder: Path
    done: dict[str, RedactedPicture] = field(default_factory=dict)

    @property
    def pictures(self) -> Path:
        return self.folder / "pictures"

    @property
    def journal(self) -> Path:
        return self.folder / "journal.jsonl"

    def find(self, name: str, source_sha256: str) -> RedactedPicture | None:
        """What an interrupted run made of this very original, if it is whole."""
        known = self.done.get(name)
        if known is None or known.source_sha256 != source_sha256:
            return None
        target = self.pictures / name
        return known if target.is_file() and sha256_of_file(target) == known.sha256 else None

    def keep_only(self, names: set[str]) -> None:
        """Remove what an interrupted run left of originals that are gone or withheld now."""
        for path in self.pictures.rglob("*"):
            if path.is_file() and path.relative_to(self.pictures).as_posix() not in names:
                path.unlink()

    def add(self, row: RedactedPicture, coded: bytes) -> None:
        """Write a redacted picture, then its line of the journal."""
        write_bytes(self.pictures / row.name, coded)
        with self.journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps(vars(row)) + "\n")


def open_staging(out: Path, settings: RedactSettings) -> Staging:
    """Go on with what an interrupted run with the same settings left, else begin anew."""
    staging = Staging(out.with_name(f".{out.name}.redacting"))
    key = sha256_of_bytes(canonical_json(vars(settings)))
    mark = staging.folder / "settings.sha256"
    if staging.folder.exists() and (not mark.is_file() or mark.read_text() != key):
        shutil.rmtree(staging.folder)
    staging.pictures.mkdir(parents=True, exist_ok=True)
    write_text(mark, key)
    if staging.journal.is_file():
        for line in staging.journal.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:  # the line that was being written when it was killed
                continue
            boxes = tuple(tuple(box) for box in row.pop("boxes"))
            staging.done[row["name"]] = RedactedPicture(**row, boxes=boxes)
        say_step(f"going on: {len(staging.done)} pictures are done")
    return staging
