"""The plant's side of the demonstration: a phase of a data set as image files on a line."""

from __future__ import annotations

from pathlib import Path

from visionloop.core.files import replace_folder
from visionloop.data.datasets.table import Dataset

__all__ = ["write_line"]


def write_line(dataset: Dataset, phase: str, folder: Path, limit: int | None = None) -> int:
    """Write the images of a phase for the edge agent's folder source.

    Files are named ``<number>-<camera>.<suffix>`` in order of time and hold the original
    bytes, so a frame that the edge keeps has the same sample id. The folder is replaced
    as a whole.

    Parameters
    ----------
    dataset : Dataset
    phase : str
    folder : Path
    limit : int or None
        The first so many images.

    Returns
    -------
    int
        Number of files.
    """
    count = 0
    with replace_folder(folder) as staging:
        for count, raw in enumerate(dataset.samples([phase]), start=1):
            if limit is not None and count > limit:
                count -= 1
                break
            (staging / f"{count:06d}-{raw.camera}.{raw.suffix}").write_bytes(raw.content)
    return count
