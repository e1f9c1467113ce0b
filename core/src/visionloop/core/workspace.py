"""Where things are in a project folder (a *workspace*): every path in one place."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Workspace", "find_workspace"]


@dataclass(frozen=True)
class Workspace:
    """The paths of one project folder.

    Attributes
    ----------
    root : Path
        The folder that holds ``params.yaml``.
    variant : str
        Empty, or the name of a second attempt on the same data (an experiment, a
        planted bad model): its parameters, artifacts and reports live apart, below
        ``variants/<name>/``.
    """

    root: Path
    variant: str = ""

    @property
    def own(self) -> Path:
        """Where this variant's parameters, artifacts and reports are."""
        return self.root / "variants" / self.variant if self.variant else self.root

    @property
    def params(self) -> Path:
        return self.own / "params.yaml"

    @property
    def targets(self) -> Path:
        return self.root / "targets.yaml"

    @property
    def raw(self) -> Path:
        """Collected samples: ``images/``, ``samples.parquet``, ``annotations.json``."""
        return self.root / "data" / "raw"

    @property
    def images(self) -> Path:
        """Images by content hash; dataset versions refer to these files."""
        return self.raw / "images"

    @property
    def versions(self) -> Path:
        return self.root / "data" / "versions"

    @property
    def studio_annotations(self) -> Path:
        """What people said in Label Studio, as pulled (COCO)."""
        return self.root / "data" / "annotations" / "studio.json"

    @property
    def embeddings(self) -> Path:
        """``embeddings.npz`` (ids, vectors) and ``embeddings.json`` (which package made them)."""
        return self.root / "data" / "embeddings"

    @property
    def backbone(self) -> Path:
        """Package of the frozen backbone whose features everybody shares."""
        return self.root / "artifacts" / "backbone"

    @property
    def checkpoint(self) -> Path:
        return self.own / "artifacts" / "checkpoint"

    @property
    def package(self) -> Path:
        return self.own / "artifacts" / "package"

    @property
    def engine(self) -> Path:
        return self.own / "artifacts" / "engine"

    @property
    def engine_cache(self) -> Path:
        """TensorRT engines of this machine, by key; may be deleted at any time."""
        return self.root / "artifacts" / "engine_cache"

    @property
    def reports(self) -> Path:
        return self.own / "reports"

    @property
    def releases(self) -> Path:
        return self.root / "releases"

    @property
    def edge(self) -> Path:
        """State of the edge agent: outbox, kept frames, event pictures."""
        return self.root / "edge"

    @property
    def studio_state(self) -> Path:
        """State of Label Studio and our record of what was pushed."""
        return self.root / "studio"

    @property
    def tracking_uri(self) -> str:
        """MLflow's address: ``MLFLOW_TRACKING_URI`` or a SQLite file in the workspace."""
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.root / 'mlflow.db'}"

    def version(self, name: str) -> Path:
        """Folder of a dataset version."""
        return self.versions / name


def find_workspace(root: Path | None = None) -> Workspace:
    """The workspace at ``root``, else at ``VISIONLOOP_WORKSPACE``, else here."""
    chosen = root or Path(os.environ.get("VISIONLOOP_WORKSPACE", "."))
    return Workspace(chosen.resolve())
