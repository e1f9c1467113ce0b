"""Windows: the frames of a stretch of production as one table, and what is compared in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import DataError
from visionloop.core.tables import Table, read_table, write_table
from visionloop.core.workspace import Workspace

if TYPE_CHECKING:
    import pandas

__all__ = [
    "BOXES_PREFIX",
    "PROBABILITY_PREFIX",
    "WINDOW",
    "Embeddings",
    "Window",
    "common_embeddings",
    "common_package",
    "load_window",
    "save_window",
    "window_path",
]

PROBABILITY_PREFIX = "probability_"
BOXES_PREFIX = "boxes_"

WINDOW = Table(
    "window",
    {
        "sample_id": "SHA-256 of the frame's image file",
        "camera": "where from",
        "site": "where from",
        "captured_at": "UTC, RFC 3339",
        "sequence": "number of the frame at its camera",
        "package": "fingerprint of the package that answered",
        "confidence": "of the predicted class; mean of the boxes; NaN where there is none",
        "predicted_class": "class name (classification), else empty",
        "boxes": "number of boxes (detection), else -1",
        "embedding": "list of D floats, or null",
        "embedding_package": "fingerprint of the package that made the embedding, or empty",
        "image": "kept picture, below the project folder where it lies there, or empty",
    },
)
"""One row a frame. Besides: image statistics, attributes as columns, ``probability_<class>``
(classification) or ``boxes_<class>`` (detection)."""


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Feature vectors of a window.

    Attributes
    ----------
    rows : int64 array (N,)
        Rows of the window that have one.
    vectors : float32 array (N, D)
    package : str
        Fingerprint of the package that made them.
    """

    rows: NDArray[np.int64]
    vectors: NDArray[np.float32]
    package: str


@dataclass(frozen=True, eq=False)
class Window:
    """A named table of frames (columns of ``WINDOW`` and more), ordered by time."""

    name: str
    frames: pandas.DataFrame

    def __len__(self) -> int:
        return len(self.frames)

    def take(self, rows: NDArray[np.integer], name: str = "") -> Window:
        """The window of these rows."""
        return Window(name or self.name, self.frames.iloc[rows].reset_index(drop=True))

    def thinned(self, limit: int) -> Window:
        """At most ``limit`` frames, drawn evenly over time."""
        if len(self) <= limit:
            return self
        return self.take(np.linspace(0, len(self) - 1, limit).round().astype(np.int64))

    def columns(self, prefix: str) -> list[str]:
        """Columns that start so, in the order of the table."""
        return [str(name) for name in self.frames.columns if str(name).startswith(prefix)]

    def distinct(self) -> Window:
        """Each picture once, though several packages may have answered on it."""
        return self.take(np.flatnonzero(~self.frames["sample_id"].duplicated().to_numpy()))

    def answered_by(self, package: str) -> Window:
        """The frames that this package answered on."""
        return self.take(np.flatnonzero((self.frames["package"] == package).to_numpy()))

    def numbers(self, column: str) -> NDArray[np.float64] | None:
        """A column as float64 (N,), or None where the window lacks it or it is empty."""
        if column not in self.frames.columns:
            return None
        import pandas

        series = pandas.to_numeric(self.frames[column], errors="coerce")
        values = np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan), np.float64)
        return values if np.isfinite(values).any() else None

    def packages(self) -> list[str]:
        """Fingerprints of the packages that answered, most frequent first."""
        return [str(name) for name in self.frames["package"].value_counts().index]

    def embedding_packages(self) -> list[str]:
        """Fingerprints of the packages that made embeddings, most frequent first."""
        made = self.frames.loc[self.frames["embedding"].notna(), "embedding_package"]
        return [str(name) for name in made.value_counts().index]

    def embeddings(self, package: str) -> Embeddings:
        """Vectors that one package made, each picture once; rows that are not finite are left out.

        Raises
        ------
        DataError
            If they differ in length.
        """
        made = self.frames["embedding"].notna() & (self.frames["embedding_package"] == package)
        made &= ~self.frames["sample_id"].where(made).duplicated()
        rows = np.flatnonzero(made.to_numpy())
        stored = self.frames["embedding"].to_numpy()
        parts = [np.asarray(stored[row], np.float32) for row in rows]
        if len({len(part) for part in parts}) > 1:
            raise DataError(f"window {self.name}", "its embeddings differ in length")
        vectors = np.stack(parts) if parts else np.zeros((0, 0), np.float32)
        whole = np.isfinite(vectors).all(axis=1)
        return Embeddings(rows[whole], vectors[whole], package)

    def class_counts(self) -> tuple[NDArray[np.int64], list[str]]:
        """How often each class was predicted on each frame: int64 (N, C), and the classes."""
        if names := self.columns(BOXES_PREFIX):
            counts = self.frames[names].fillna(0).to_numpy().astype(np.int64)
            return counts, [name.removeprefix(BOXES_PREFIX) for name in names]
        names = [name.removeprefix(PROBABILITY_PREFIX) for name in self.columns(PROBABILITY_PREFIX)]
        predicted = self.frames["predicted_class"].to_numpy()
        return np.stack([predicted == name for name in names], axis=1).astype(np.int64) if (
            names
        ) else np.zeros((len(self), 0), np.int64), names

    def span(self) -> tuple[str, str]:
        """First and last moment, empty strings where there are no frames."""
        moments = self.frames["captured_at"].astype(str)
        return (str(moments.min()), str(moments.max())) if len(self) else ("", "")


def common_package(reference: Sequence[str], current: Sequence[str]) -> str:
    """The package that both lists have and that stands farthest ahead in them; "" for none."""
    shared = [name for name in reference if name in current]
    return min(shared, key=lambda name: reference.index(name) + current.index(name), default="")


def common_embeddings(reference: Window, current: Window) -> tuple[Embeddings, Embeddings] | None:
    """Vectors of both windows that one package made; None where no package made both."""
    package = common_package(reference.embedding_packages(), current.embedding_packages())
    if not package:
        return None
    return reference.embeddings(package), current.embeddings(package)


def window_path(workspace: Workspace, name: str) -> Path:
    """File of a window."""
    return workspace.reports / "windows" / f"{name}.parquet"


def load_window(workspace: Workspace, name: str) -> Window:
    """Read a window.

    Raises
    ------
    DataError
        If it was not summarised yet (the windows that exist are named) or is damaged.
    """
    path = window_path(workspace, name)
    if not path.is_file():
        known = sorted(file.stem for file in path.parent.glob("*.parquet"))
        found = f"windows here: {', '.join(known)}" if known else "there are no windows yet"
        raise DataError(
            f"window '{name}'",
            f"was not summarised: {found}",
            "visionloop monitor summarise writes the windows of params.yaml",
        )
    return Window(name, read_table(path, WINDOW))


def save_window(workspace: Workspace, window: Window) -> Path:
    """Write a window durably."""
    return write_table(window_path(workspace, window.name), WINDOW, window.frames)
