"""The verb ``embed``: one vector an image by the frozen backbone that everybody shares."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import DataError
from visionloop.core.failpoints import failpoint
from visionloop.core.files import read_json, write_bytes, write_json
from visionloop.core.progress import track
from visionloop.core.workspace import Workspace
from visionloop.data.params import load_params
from visionloop.data.raw import read_samples

if TYPE_CHECKING:
    from visionloop.serving.predictor import Predictor

__all__ = ["EmbedReport", "Embeddings", "embed", "load_embeddings", "save_embeddings"]


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Vectors of samples.

    Attributes
    ----------
    ids : list of N str
        Sample ids, ordered.
    vectors : float32 array (N, D)
    package : str
        SHA-256 of the backbone package that made them.
    """

    ids: list[str]
    vectors: NDArray[np.float32]
    package: str

    def of(self, sample_ids: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of these samples, float32 (N, D), in this order.

        Raises
        ------
        DataError
            If a sample has none.
        """
        place = {one: number for number, one in enumerate(self.ids)}
        missing = [one for one in sample_ids if one not in place]
        if missing:
            raise DataError(
                "embeddings",
                f"{len(missing)} of {len(sample_ids)} samples have none, first {missing[0][:12]}",
                "run: visionloop data embed",
            )
        return self.vectors[[place[one] for one in sample_ids]]


@dataclass(frozen=True)
class EmbedReport:
    """How many vectors were computed now, how many there are, their length, their package."""

    computed: int
    total: int
    dimension: int
    package: str


def load_embeddings(folder: Path) -> Embeddings:
    """Read ``data/embeddings``.

    Raises
    ------
    DataError
        If it is missing or damaged.
    """
    facts = read_json(folder / "embeddings.json")
    try:
        with np.load(folder / "embeddings.npz", allow_pickle=False) as stored:
            ids, vectors = [str(one) for one in stored["ids"]], stored["vectors"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            str(folder / "embeddings.npz"), f"cannot be read: {error}", "delete it and embed again"
        ) from None
    if len(ids) != len(vectors):
        raise DataError(str(folder), f"{len(ids)} ids for {len(vectors)} vectors")
    return Embeddings(ids, np.asarray(vectors, np.float32), str(facts["package"]))


def save_embeddings(folder: Path, embeddings: Embeddings) -> None:
    """Write ``embeddings.npz`` and ``embeddings.json`` durably, ordered by sample id."""
    order = np.argsort(np.array(embeddings.ids))
    buffer = io.BytesIO()
    np.savez(
        buffer,
        ids=np.array([embeddings.ids[number] for number in order], dtype="U64"),
        vectors=np.asarray(embeddings.vectors, np.float32)[order],
    )
    write_bytes(folder / "embeddings.npz", buffer.getvalue())
    dimension = int(embeddings.vectors.shape[1])
    facts = {"package": embeddings.package, "dimension": dimension, "count": len(embeddings.ids)}
    write_json(folder / "embeddings.json", facts)


def embed(*, workspace: Workspace) -> EmbedReport:
    """Compute the vectors that are missing, with the package in ``artifacts/backbone``.

    Vectors of the same package are kept; those of another are computed anew. Every
    ``save_every`` images the work so far is saved, so an interrupted call goes on.

    Raises
    ------
    PackageError
        If the backbone package cannot be trusted.
    DataError
        If nothing was imported, or an image is damaged.
    """
    from visionloop.serving.package import load_package
    from visionloop.serving.predictor import Predictor

    _, data = load_params(workspace)
    samples = read_samples(workspace)
    package = load_package(workspace.backbone)
    known = _known_vectors(workspace.embeddings, package.sha256)
    names = dict(zip(samples["sample_id"], samples["file_name"], strict=True))
    missing = [sample_id for sample_id in names if sample_id not in known]
    computed = 0
    if missing:
        predictor = Predictor(package, threads=data.embed.threads)
        size = data.embed.batch
        batches = [missing[start : start + size] for start in range(0, len(missing), size)]
        for batch in track(batches, f"embedding {len(missing)} images (batches of {size})"):
            known |= _embed_batch(predictor, workspace.images, batch, names)
            computed += len(batch)
            if computed % data.embed.save_every < size:
                _save(workspace.embeddings, known, package.sha256)
                failpoint("embed.saved")
        _save(workspace.embeddings, known, package.sha256)
    dimension = len(next(iter(known.values())))
    return EmbedReport(computed, len(known), dimension, package.sha256)


def _embed_batch(
    predictor: Predictor, images: Path, batch: list[str], names: dict[str, str]
) -> dict[str, NDArray[np.float32]]:
    from visionloop.serving.images import read_image

    vectors = predictor.embed([read_image(images / names[sample_id]) for sample_id in batch])
    return dict(zip(batch, vectors, strict=True))


def _known_vectors(folder: Path, package: str) -> dict[str, NDArray[np.float32]]:
    if not (folder / "embeddings.json").exists():
        return {}
    stored = load_embeddings(folder)
    if stored.package != package:
        return {}
    return dict(zip(stored.ids, stored.vectors, strict=True))


def _save(folder: Path, known: dict[str, NDArray[np.float32]], package: str) -> None:
    save_embeddings(folder, Embeddings(list(known), np.stack(list(known.values())), package))
