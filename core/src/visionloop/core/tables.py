"""The tables in which stages of one level meet: columns, reader, writer (Parquet).

pandas and pyarrow are imported on use: a device has neither.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from visionloop.core.errors import DataError
from visionloop.core.failpoints import failpoint

if TYPE_CHECKING:
    import pandas

__all__ = ["FINDINGS", "PREDICTIONS", "REQUESTS", "SAMPLES", "Table", "read_table", "write_table"]


@dataclass(frozen=True)
class Table:
    """A table's name and required columns (name to meaning); further columns are kept."""

    name: str
    columns: dict[str, str]


SAMPLES = Table(
    "samples",
    {
        "sample_id": "SHA-256 of the image file",
        "file_name": "name below the image folder",
        "width": "pixels",
        "height": "pixels",
        "camera": "where from",
        "site": "where from",
        "captured_at": "UTC, RFC 3339",
        "luminance": "mean grey level, 0 to 255",
        "contrast": "standard deviation of the grey level",
        "blur": "variance of the Laplacian",
        "noise": "standard deviation of sensor noise, grey levels",
    },
)
"""One row a sample. A dataset version adds ``group`` and ``split``."""

PREDICTIONS = Table(
    "predictions",
    {
        "sample_id": "SHA-256 of the image",
        "package": "fingerprint of the package that answered",
        "fold": "cross-validation fold that left this sample out, -1 for none",
        "probabilities": "list of C floats (classification), else null",
        "xyxy": "list of N lists of 4 floats, pixels (detection), else null",
        "class_id": "list of N ints (detection), else null",
        "confidence": "list of N floats (detection), else null",
        "embedding": "list of D floats, or null",
    },
)

FINDINGS = Table(
    "findings",
    {
        "sample_id": "the sample in doubt",
        "kind": "label_issue, near_duplicate, dark, blurred, ...; for boxes missing, spurious, "
        "shifted, swapped",
        "reason": "one sentence for a person",
        "severity": "float, larger is worse; rows are ordered by it",
        "suggestion": "class name that fits better, or empty",
        "xyxy": "list of 4 floats of the box in doubt, or null for the whole image",
    },
)

REQUESTS = Table(
    "requests",
    {
        "sample_id": "the sample that should be annotated or looked at again",
        "reason": "one sentence for a person",
        "priority": "float, larger first",
        "requested_by": "feedback, quality, verdict",
    },
)


def read_table(path: Path, table: Table) -> pandas.DataFrame:
    """Read a Parquet file and check its columns.

    Raises
    ------
    DataError
        If the file is missing, is not Parquet, or lacks a column.
    """
    import pandas
    import pyarrow

    try:
        frame = pandas.read_parquet(path)
    except FileNotFoundError:
        raise DataError(str(path), f"there is no {table.name} table here") from None
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(str(path), f"is not a Parquet file: {error}") from None
    missing = [name for name in table.columns if name not in frame.columns]
    if missing:
        raise DataError(str(path), f"the {table.name} table lacks {', '.join(missing)}")
    return frame


def write_table(path: Path, table: Table, frame: pandas.DataFrame) -> Path:
    """Write a Parquet file durably; required columns come first.

    Raises
    ------
    ValueError
        If a required column is missing.
    """
    missing = [name for name in table.columns if name not in frame.columns]
    if missing:
        raise ValueError(f"the {table.name} table lacks {', '.join(missing)}")
    others = [name for name in frame.columns if name not in table.columns]
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    try:
        frame[[*table.columns, *others]].to_parquet(temporary, index=False)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        failpoint("tables.before_rename")
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
