"""What made samples may be made from: annotated, real samples of the train split, no others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Annotation
from visionloop.core.errors import DataError, VisionloopError
from visionloop.core.files import canonical_json, sha256_of_bytes
from visionloop.core.workspace import Workspace
from visionloop.data.annotated import merge_annotations
from visionloop.data.params import load_params
from visionloop.data.raw import read_samples
from visionloop.data.splits.split import foresee_splits
from visionloop.data.synthesis.mark import is_synthetic

__all__ = ["Source", "SourcePool", "read_sources"]

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Source:
    """A real sample of train.

    Attributes
    ----------
    sample_id : str
    row : dict
        Its row of the samples table.
    annotations : tuple of Annotation
    """

    sample_id: str
    row: dict[str, Any]
    annotations: tuple[Annotation, ...]


@dataclass
class SourcePool:
    """All sources of a workspace, in order of sample id.

    Attributes
    ----------
    workspace : Workspace
    sources : list of Source
    licence : str
        Of the data set.
    templates : dict of sample id to function
        Reads the PNG of the sample's defect-free template.
    no_templates : str
        Why there are none.
    """

    workspace: Workspace
    sources: list[Source]
    licence: str = "not stated"
    templates: dict[str, Callable[[], bytes]] = field(default_factory=dict)
    no_templates: str = ""

    def image(self, source: Source) -> Image:
        """The picture: uint8 (H, W, 3), BGR."""
        from visionloop.serving.images import read_image

        return read_image(self.workspace.images / str(source.row["file_name"]))

    def template(self, source: Source) -> Image:
        """The defect-free template of a sample: uint8 (H, W, 3), BGR."""
        from visionloop.serving.images import decode_image

        return decode_image(self.templates[source.sample_id](), subject=source.sample_id[:12])

    @cached_property
    def with_template(self) -> list[Source]:
        """The sources whose template is known.

        Raises
        ------
        DataError
            If there is none.
        """
        found = [one for one in self.sources if one.sample_id in self.templates]
        if not found:
            raise DataError(
                "data.synthesise",
                self.no_templates or "the data set has no template of a train sample",
                "templates: drawn, or a folder of defect-free images",
            )
        return found

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the samples and what is annotated on them."""
        content = [
            [one.sample_id, [[row.class_name, list(row.xyxy or ())] for row in one.annotations]]
            for one in self.sources
        ]
        return sha256_of_bytes(canonical_json(content))


def read_sources(workspace: Workspace) -> SourcePool:
    """The annotated real samples of train: as they were split, or as they would be now.

    Raises
    ------
    DataError
        If nothing was imported, or train has no annotated sample.
    """
    samples = read_samples(workspace)
    samples = samples[[not made for made in is_synthetic(samples)]].reset_index(drop=True)
    splits = foresee_splits(workspace, samples)
    annotations: dict[str, list[Annotation]] = {}
    for row in merge_annotations(workspace).annotations:
        annotations.setdefault(row.sample_id, []).append(row)
    sources = [
        Source(str(row["sample_id"]), row, tuple(annotations[row["sample_id"]]))
        for row in samples.to_dict("records")
        if splits.get(row["sample_id"]) == "train" and row["sample_id"] in annotations
    ]
    if not sources:
        raise DataError(
            "data.synthesise", "train has no annotated sample", "import or annotate first"
        )
    return _with_dataset(SourcePool(workspace, sources))


def _with_dataset(pool: SourcePool) -> SourcePool:
    """Licence and templates of the data set that params.yaml names, where it can be had."""
    from visionloop.data.datasets.table import open_workspace_dataset

    _, data = load_params(pool.workspace)
    if data.imports.sources:
        pool.licence = "that of the sources in data.import.sources"
        pool.no_templates = "pictures of one's own have no templates"
        return pool
    try:
        dataset = open_workspace_dataset(pool.workspace)
    except VisionloopError as error:
        pool.no_templates = f"the data set cannot be opened here: {error.problems[0]}"
        return pool
    pool.licence = dataset.licence
    templates = getattr(dataset, "templates", None)
    if templates is None:
        pool.no_templates = f"data set '{dataset.name}' has no templates"
    else:
        pool.templates = templates()
    return pool
