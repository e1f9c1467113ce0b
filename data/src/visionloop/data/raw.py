"""``data/raw``: the table of samples and the experts' annotations, read and written together."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionloop.core.entities import Annotation
from visionloop.core.tables import SAMPLES, read_table, write_table
from visionloop.core.workspace import Workspace
from visionloop.data.formats import coco
from visionloop.serving.releases.index import locked

if TYPE_CHECKING:
    import pandas

__all__ = ["RawStore", "read_samples"]


def read_samples(workspace: Workspace) -> pandas.DataFrame:
    """The table of all samples in ``data/raw``, ordered by ``sample_id``.

    Raises
    ------
    DataError
        If nothing was imported yet.
    """
    return read_table(workspace.raw / "samples.parquet", SAMPLES)


@dataclass
class RawStore:
    """The content of ``data/raw`` that a verb adds to.

    Attributes
    ----------
    workspace : Workspace
    frame : DataFrame or None
        Samples so far.
    annotations : list of Annotation
        Experts' annotations so far.
    known : set of str
        Sample ids whose row and image file are there.
    read_ids : set of str
        Sample ids that were there when it was read, with or without a file.
    """

    workspace: Workspace
    frame: pandas.DataFrame | None = None
    annotations: list[Annotation] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    read_ids: set[str] = field(default_factory=set)
    _stamp: tuple[int, int] = (0, 0)

    @classmethod
    def load(cls, workspace: Workspace) -> RawStore:
        """Read what is there; an empty store where nothing is."""
        store = cls(workspace)
        table = workspace.raw / "samples.parquet"
        store._stamp = _stamp_of(table)
        if table.exists():
            store.frame = read_table(table, SAMPLES)
            store.read_ids = set(store.frame["sample_id"])
            store.known = {
                row.sample_id
                for row in store.frame.itertuples()
                if (workspace.images / str(row.file_name)).exists()
            }
        if (workspace.raw / "annotations.json").exists():
            _, store.annotations, _ = coco.load(workspace.raw / "annotations.json")
        return store

    def save(
        self, rows: list[dict[str, Any]], annotations: list[Annotation], classes: list[str]
    ) -> pandas.DataFrame:
        """Add samples and annotations and write both files; returns the whole table.

        A new row replaces the row of the same sample; annotations of a sample replace
        that sample's earlier ones. Samples that another process (a collection) has added
        since this store was read stay. The table is written last: until then nothing counts.
        """
        with locked(self.workspace.raw.parent / ".raw.lock"):
            self._add_what_others_wrote()
            return self._write(rows, annotations, classes)

    def _add_what_others_wrote(self) -> None:
        if _stamp_of(self.workspace.raw / "samples.parquet") == self._stamp:
            return
        import pandas

        now = RawStore.load(self.workspace)
        added = now.read_ids - self.read_ids
        if now.frame is not None and added:
            theirs = now.frame[now.frame["sample_id"].isin(added)]
            mine = [] if self.frame is None else [self.frame]
            self.frame = pandas.concat([*mine, theirs], ignore_index=True)
        self.annotations += [row for row in now.annotations if row.sample_id in added]

    def _write(
        self, rows: list[dict[str, Any]], annotations: list[Annotation], classes: list[str]
    ) -> pandas.DataFrame:
        import pandas

        frame = pandas.DataFrame(rows)
        if self.frame is not None:
            added = {row["sample_id"] for row in rows}
            earlier = self.frame[~self.frame["sample_id"].isin(added)]
            frame = pandas.concat([earlier, frame], ignore_index=True) if rows else earlier
        frame = frame.sort_values("sample_id").reset_index(drop=True)
        renewed = {row.sample_id for row in annotations}
        kept = [row for row in self.annotations if row.sample_id not in renewed]
        images = [
            coco.CocoImage(row.sample_id, row.file_name, int(row.width), int(row.height))
            for row in frame.itertuples()
        ]
        path = self.workspace.raw / "annotations.json"
        coco.save(path, images, kept + annotations, classes)
        write_table(self.workspace.raw / "samples.parquet", SAMPLES, frame)
        return frame


def _stamp_of(path: Path) -> tuple[int, int]:
    """Time of change and inode: every writing makes a new file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_ino)
