"""``data/raw``: the table of samples and the experts' annotations, read and written together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from visionloop.core.entities import Annotation
from visionloop.core.tables import SAMPLES, read_table, write_table
from visionloop.core.workspace import Workspace
from visionloop.data.formats import coco

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
    """

    workspace: Workspace
    frame: pandas.DataFrame | None = None
    annotations: list[Annotation] = field(default_factory=list)
    known: set[str] = field(default_factory=set)

    @classmethod
    def load(cls, workspace: Workspace) -> RawStore:
        """Read what is there; an empty store where nothing is."""
        store = cls(workspace)
        table = workspace.raw / "samples.parquet"
        if table.exists():
            store.frame = read_table(table, SAMPLES)
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
        that sample's earlier ones. The table is written last: until then nothing counts.
        """
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
