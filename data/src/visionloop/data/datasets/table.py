"""Data sets by name: where the images, their metadata and the truth come from.

A data set tells a story in *phases* (``commissioning``, ``acceptance``,
``production_1``, ``production_2``): which images the plant had annotated when, which
it holds back for acceptance, and which come later without annotations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, cast

from visionloop.core.entities import Annotation
from visionloop.core.files import sha256_of_bytes
from visionloop.core.plugins import resolve
from visionloop.core.workspace import Workspace

__all__ = ["DATASETS", "Dataset", "RawSample", "open_dataset", "open_workspace_dataset", "truth"]

DATASETS = {
    "elpv": "visionloop.data.datasets.elpv:ElpvDataset",
    "deeppcb": "visionloop.data.datasets.deeppcb:DeepPcbDataset",
}
"""Name to class. The class takes ``seed`` and ``phase_sizes`` and is a :class:`Dataset`."""


@dataclass(frozen=True)
class RawSample:
    """One image file as the plant delivers it, before import.

    Attributes
    ----------
    content : bytes
        The image file.
    suffix : str
        ``png`` or ``jpg``.
    camera, site, captured_at : str
        ``captured_at`` in UTC, RFC 3339.
    attributes : dict
        Further metadata columns.
    annotations : tuple of Annotation
        Experts' annotations; empty where nobody looked.
    phase : str
    official_split : str or None
        ``"test"`` where the data set reserves the sample for testing.
    mask : bytes or None
        The PNG file of its mask, where it has one.
    """

    content: bytes
    suffix: str
    camera: str
    site: str
    captured_at: str
    attributes: dict[str, Any] = field(default_factory=dict)
    annotations: tuple[Annotation, ...] = ()
    phase: str = ""
    official_split: str | None = None
    mask: bytes | None = None

    @cached_property
    def sample_id(self) -> str:
        """SHA-256 of the content."""
        return sha256_of_bytes(self.content)


class Dataset(Protocol):
    """What a row of the table offers.

    ``source`` says where the bytes came from ("package elpv-dataset 1.0.0.post1",
    "mirror", "download", "generated"); the same seed gives the same samples in the
    same order.
    """

    name: str
    source: str
    licence: str
    classes: tuple[str, ...]

    def samples(self, phases: Iterable[str] | None = None) -> Iterator[RawSample]:
        """The samples of these phases (all without an argument), in order of time."""

    def truth(self) -> dict[str, list[Annotation]]:
        """Truth of every sample by sample id; only the scripted annotator may read it."""


def open_dataset(name: str, seed: int, *, phase_sizes: Mapping[str, int] | None = None) -> Dataset:
    """Open a row of the dataset table.

    Parameters
    ----------
    name : str
    seed : int
        Decides which sample falls into which phase.
    phase_sizes : mapping of str to int, optional
        At most so many samples of a phase.

    Raises
    ------
    ConfigError
        Unknown name or unknown phase.
    MissingExtraError
        If the data cannot be had here; the message says how.
    """
    made = resolve(DATASETS, name, kind="dataset", extra="solar")
    return cast(Dataset, made(seed=seed, phase_sizes=dict(phase_sizes or {})))


def open_workspace_dataset(workspace: Workspace) -> Dataset:
    """The data set that ``params.yaml`` names, with its seed and phase sizes."""
    from visionloop.data.params import load_params

    project, data = load_params(workspace)
    return open_dataset(data.dataset, project.seed, phase_sizes=data.imports.phase_sizes)


def truth(dataset: Dataset) -> dict[str, list[Annotation]]:
    """Truth of every sample by sample id (for the scripted annotator and benchmarks only)."""
    return dataset.truth()
