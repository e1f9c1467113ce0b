"""The verb ``redact``: a folder of pictures to a folder that may leave the site.

Fail closed: a picture is passed on redacted, or not at all. The new folder appears under its
name only when every picture was seen; an interrupted run goes on where it was.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import DataError, InputError, VisionloopError
from visionloop.core.failpoints import failpoint
from visionloop.core.files import sha256_of_bytes, write_json
from visionloop.core.progress import track
from visionloop.core.workspace import Workspace
from visionloop.data.collection.obscure import Mode, kept_bits
from visionloop.data.collection.redact_page import write_redaction_page
from visionloop.data.collection.redact_staging import (
    RedactedPicture,
    RedactSettings,
    Staging,
    open_staging,
)
from visionloop.data.collection.redaction import Redactor
from visionloop.serving.images import IMAGE_SUFFIXES, decode_image

__all__ = ["RedactReport", "encode_redacted", "redact"]

JPEG_QUALITY = 95


@dataclass(frozen=True)
class RedactReport:
    """What a redaction made.

    Attributes
    ----------
    out : Path
        The folder that may leave the site.
    page : Path
    passed_on, boxes, without_box : int
        Pictures in ``out``, boxes in them, pictures among them in which nothing was found.
    withheld : dict of str to str
        Pictures that are not in ``out``, with the reason.
    other_files : int
        Files that are no pictures; none of them is passed on.
    """

    out: Path
    page: Path
    passed_on: int
    boxes: int
    without_box: int
    withheld: dict[str, str]
    other_files: int


def redact(
    *,
    workspace: Workspace,
    pictures: Path,
    out: Path,
    package: Path,
    classes: Sequence[str],
    mode: Mode = "blur",
    min_confidence: float = 0.05,
    margin: float = 0.25,
    cells: int = 0,
    trusted_keys: Sequence[Path] | None = None,
) -> RedactReport:
    """Redact every picture of a folder and its sub-folders into a new folder.

    Originals are not touched. PNG stays PNG and JPEG stays JPEG, written anew from pixels:
    no EXIF, no thumbnail, no comment of the original goes along. Also writes
    ``reports/redact/{redact.json,index.html}``.

    Parameters
    ----------
    workspace : Workspace
    pictures, out : Path
        ``out`` must not exist yet.
    package, classes, mode, min_confidence, margin, cells, trusted_keys
        See :class:`visionloop.data.collection.redaction.Redactor`.

    Raises
    ------
    InputError
        If ``out`` exists, one folder lies in the other, or there is no picture.
    ConfigError, PackageError
        If the package cannot be used.
    """
    source, out = Path(pictures).resolve(), Path(out).resolve()
    names, other_files = _list_pictures(source, out)
    redactor = Redactor(
        package, classes, mode, min_confidence, margin, trusted_keys=trusted_keys, cells=cells
    )
    settings = RedactSettings(
        str(source), redactor.package.sha256, list(classes), mode, min_confidence, margin, cells
    )
    staging = open_staging(out, settings)
    rows = [
        _redact_one(source, name, redactor, staging) for name in track(names, "redacting pictures")
    ]
    withheld = {row.name: row.withheld for row in rows if row.withheld}
    staging.keep_only({row.name for row in rows} - set(withheld))
    report = RedactReport(
        out=out,
        page=workspace.reports / "redact" / "index.html",
        passed_on=len(rows) - len(withheld),
        boxes=sum(len(row.boxes) for row in rows),
        without_box=sum(not row.boxes and not row.withheld for row in rows),
        withheld=withheld,
        other_files=other_files,
    )
    _write_report(report, rows, settings, staging)
    failpoint("redact.before_rename")
    os.replace(staging.pictures, out)
    shutil.rmtree(staging.folder)
    return report


def encode_redacted(image: NDArray[np.uint8], suffix: str) -> bytes:
    """A picture file made from pixels alone.

    Parameters
    ----------
    image : uint8 array (H, W, 3), BGR
    suffix : str
        ``.png``, ``.jpg`` or ``.jpeg``.

    Raises
    ------
    DataError
        If it cannot be encoded.
    """
    options = [] if suffix.lower() == ".png" else [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    done, coded = cv2.imencode(suffix.lower(), image, options)
    if not done:
        raise DataError("redacted picture", f"cannot be encoded as {suffix}")
    return bytes(coded)


def _list_pictures(source: Path, out: Path) -> tuple[list[str], int]:
    problems = []
    if not source.is_dir():
        problems.append(f"there is no folder {source}")
    if out.exists():
        problems.append(f"{out} exists already")
    if source == out or source in out.parents or out in source.parents:
        problems.append("one of the two folders lies inside the other")
    if problems:
        raise InputError("redaction", problems, "name a new folder for the redacted pictures")
    # Links are not followed: they lead to files that nobody named.
    files = [one for one in sorted(source.rglob("*")) if one.is_symlink() or one.is_file()]
    wanted = [one for one in files if one.suffix.lower() in IMAGE_SUFFIXES]
    if not wanted:
        raise InputError(str(source), "holds no PNG or JPEG file", "name a folder of pictures")
    return [one.relative_to(source).as_posix() for one in wanted], len(files) - len(wanted)


def _redact_one(source: Path, name: str, redactor: Redactor, staging: Staging) -> RedactedPicture:
    path = source / name
    if path.is_symlink():
        return RedactedPicture(name, "", withheld="is a link")
    try:
        content = path.read_bytes()
    except OSError as error:
        return RedactedPicture(name, "", withheld=f"cannot be read: {error.strerror}")
    source_sha256 = sha256_of_bytes(content)
    if known := staging.find(name, source_sha256):
        return known
    try:
        image = decode_image(content, subject=name, suffix=path.suffix)
        hidden, boxes = redactor.redact(image)
        coded = encode_redacted(hidden, path.suffix)
    except (VisionloopError, cv2.error, ValueError, MemoryError) as error:
        return RedactedPicture(name, source_sha256, withheld=_reason(error))
    rows = tuple((float(x1), float(y1), float(x2), float(y2)) for x1, y1, x2, y2 in boxes)
    row = RedactedPicture(name, source_sha256, sha256_of_bytes(coded), rows)
    staging.add(row, coded)
    failpoint("redact.picture")
    return row


def _reason(error: BaseException) -> str:
    if isinstance(error, VisionloopError):
        return "; ".join(error.problems)
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _write_report(
    report: RedactReport, rows: list[RedactedPicture], settings: RedactSettings, staging: Staging
) -> None:
    bits = [
        kept_bits(int(x2 - x1), int(y2 - y1), settings.cells)
        for row in rows
        for x1, y1, x2, y2 in row.boxes
    ]
    content: dict[str, Any] = {
        "out": str(report.out),
        "settings": vars(settings),
        "passed_on": report.passed_on,
        "boxes": report.boxes,
        "without_box": report.without_box,
        "other_files": report.other_files,
        "most_bits_kept_of_a_box": max(bits, default=0),
        "withheld": report.withheld,
        # Not the hash of an original: with it, whoever has a guess could confirm it.
        "pictures": [
            {"name": row.name, "sha256": row.sha256, "boxes": row.boxes}
            for row in rows
            if not row.withheld
        ],
    }
    write_json(report.page.parent / "redact.json", content)
    write_redaction_page(report, rows, content, staging.pictures)
