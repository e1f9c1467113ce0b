"""``gaussian``: what features of normal pictures look like, as two normal distributions.

One for places: features of several layers of a network trained on other pictures, averaged over
neighbouring places, of all places together (PaDiM, Defard et al., 2021, arXiv 2011.08785, without
its positions: surfaces look alike everywhere). How much farther a place is than half of its own
picture tells small defects whatever texture and light.

One for whole pictures: means and deviations of the last layers (Rippel et al., 2021, arXiv
2005.14140). It tells what is unusual everywhere, which no place of the picture stands out by.

Both are Mahalanobis distances. They are standardised on normal train pictures, each judged by
distributions without its own group, and added.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray

from visionloop.core.progress import say_step, track
from visionloop.serving.images import read_image
from visionloop.serving.manifest import ImageInput
from visionloop.serving.preprocess import make_batch
from visionloop.training.checkpoint import Checkpoint
from visionloop.training.families.anomaly import (
    BATCH,
    AnomalyFamily,
    AnomalyForExport,
    finish,
    largest,
    normal_split,
    refuse_heads,
)
from visionloop.training.families.false_alarm_limit import HeldOut, deal_folds
from visionloop.training.families.moments import Moments, whiten
from visionloop.training.families.patch import join_layers
from visionloop.training.families.table import TrainedModel, TrainingJob
from visionloop.training.families.timm_networks import build_network, make_network
from visionloop.training.resume import EpochRow

__all__ = ["Gaussian", "GaussianMaps"]

PLACE_FLOOR, PICTURE_FLOOR = 1e-3, 0.03
"""Added to the variance in every direction, as a share of the mean one."""
FITTED = ("place_mean", "place_whiten", "picture_mean", "picture_whiten", "centres", "scales")
FOLDS = 5
SOFTNESS, FARTHEST = 4.0, 200.0
"""Sums of distances are divided by the one, cut at the other: half precision holds its square."""
TINY = 1e-6


class Gaussian(AnomalyFamily):
    """Two normal distributions; see :class:`visionloop.training.families.table.Family`."""

    def train(self, job: TrainingJob) -> TrainedModel:
        """Fit both distributions to the normal train pictures."""
        refuse_heads(job)
        torch.manual_seed(job.project.seed)
        size = job.params.image_size
        network = make_network(job.weights, classes=1, image_size=size).eval()
        spec = job.weights.picture_input(size)
        layers = list(job.params.anomaly.layers)
        maps = GaussianMaps(network, layers=layers)
        row, others = _fit_once(job, maps, spec)
        architecture = {
            "timm": job.weights.row.architecture,
            "classes": 1,
            "image_size": size,
            "layers": layers,
            "widths": [len(maps.place_mean), len(maps.picture_mean)],
        }
        return finish(job, maps.eval(), spec, architecture, row, others)

    def build(self, checkpoint: Checkpoint) -> torch.nn.Module:
        """Images to (probabilities, embedding, heatmap)."""
        facts = checkpoint.facts.architecture
        maps = GaussianMaps(build_network(facts), layers=facts["layers"])
        places, picture = facts["widths"]
        maps.place_mean, maps.place_whiten = torch.zeros(places), torch.zeros(places, places)
        maps.picture_mean, maps.picture_whiten = torch.zeros(picture), torch.zeros(picture, picture)
        whole = AnomalyForExport(maps, top_share=facts["top_share"], limit=1.0)
        whole.load_state_dict(checkpoint.load_tensors())
        return whole.eval()


class GaussianMaps(torch.nn.Module):  # type: ignore[misc]
    """Images to (raw map (B, h, w), embedding (B, D)).

    The raw map grows with the sum of two standardised distances, of the place and of the picture,
    so that one limit holds for both.

    Parameters
    ----------
    network : timm network
    layers : list of int
        Which of its intermediate outputs; the grid is that of the one in the middle.
    """

    def __init__(self, network: Any, *, layers: list[int]) -> None:
        super().__init__()
        self.network, self.layers = network, layers
        self.deepest = len(network.feature_info) - 1
        for name in FITTED:
            self.register_buffer(name, torch.zeros(2))

    def features(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of each place (B, D, h, w), of the picture (B, P), and the embedding (B, E)."""
        wanted = sorted({*self.layers, self.deepest})
        found = self.network.forward_intermediates(image, indices=wanted, intermediates_only=True)
        known = dict(zip(wanted, found, strict=True))
        layers = [known[one] for one in self.layers]
        places = join_layers(layers, layers[len(layers) // 2].shape[-2:])
        mean = layers[-1].mean(dim=(2, 3))
        variance = layers[-1].square().mean(dim=(2, 3)) - mean.square()
        embedding = known[self.deepest].mean(dim=(2, 3))
        picture = torch.cat([mean, variance.clamp(min=TINY).sqrt(), embedding], dim=1)
        return places, picture, embedding

    def distances(
        self, places: torch.Tensor, picture: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """How far places stand out of their picture (B, h, w), and how far the picture is (B,)."""
        width, rows, columns = (int(one) for one in places.shape[1:])
        flat = places.permute(0, 2, 3, 1).reshape(-1, rows * columns, width)
        white = (flat - self.place_mean) @ self.place_whiten
        far = white.square().mean(dim=2).sqrt()
        half = rows * columns // 2 + 1
        median = far.topk(half, dim=1).values[:, -1:]  # ONNX knows no median
        out = (far - median).reshape(-1, rows, columns)
        whole = ((picture - self.picture_mean) @ self.picture_whiten).square().mean(dim=1).sqrt()
        return out, whole

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """float32 (B, 3, H, W) to (raw map, embedding)."""
        places, picture, embedding = self.features(image)
        out, whole = self.distances(places, picture)
        return self.raw(out, whole), embedding

    def raw(self, out: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
        """Both distances, standardised and added, as a positive map (B, ...).

        ``exp(asinh(x))``: one in the middle, linear far out, where ``exp`` alone would overflow.
        """
        place = (out - self.centres[0]) / self.scales[0]
        picture = (whole - self.centres[1]) / self.scales[1]
        together = (place + picture.reshape(-1, *[1] * (place.dim() - 1))) / SOFTNESS
        together = together.clamp(-FARTHEST, FARTHEST)
        return (together + (together.square() + 1).sqrt()).clamp(min=TINY)

    def take(self, places: Moments, pictures: Moments) -> None:
        """Take the distributions of these features."""
        self.place_mean, self.place_whiten = whiten(places, PLACE_FLOOR)
        self.picture_mean, self.picture_whiten = whiten(pictures, PICTURE_FLOOR)


@dataclass(frozen=True, eq=False)
class _Seen:
    """Features of the normal train pictures, those of places in a file; and their moments.

    Attributes
    ----------
    places : float16 array (N, D, h, w)
    pictures : float32 array (N, P)
    folds : int64 array (N,)
        Pictures of one group are in one fold.
    moments : list of (Moments of places, Moments of pictures)
        Of each fold.
    """

    places: NDArray[np.float16]
    pictures: NDArray[np.float32]
    folds: NDArray[np.int64]
    moments: list[tuple[Moments, Moments]]

    def without(self, fold: int | None) -> tuple[Moments, Moments]:
        """Moments of all folds but one; of all where that leaves none."""
        kept = [one for number, one in enumerate(self.moments) if number != fold] or self.moments
        places, pictures = kept[0]
        for more in kept[1:]:
            places, pictures = places + more[0], pictures + more[1]
        return places, pictures


def _fit_once(job: TrainingJob, maps: GaussianMaps, spec: ImageInput) -> tuple[EpochRow, HeldOut]:
    """Fit as the one epoch of a job, or take what an interrupted call has kept."""
    groups = normal_split(job, "train").normal_groups
    if job.resume.epoch:
        kept = torch.load(io.BytesIO(job.resume.path("last").read_bytes()), weights_only=True)
        for name in FITTED:
            setattr(maps, name, kept[name])
        return job.resume.history[-1], HeldOut(kept["values"].numpy(), groups)
    values = _fit(job, maps, spec, groups)
    row: EpochRow = {"epoch": 1.0, "train_loss": 0.0, "groups": float(len(np.unique(groups)))}
    buffer = io.BytesIO()
    tensors = {name: getattr(maps, name) for name in FITTED}
    torch.save({**tensors, "values": torch.from_numpy(values)}, buffer)
    job.resume.save_epoch(row, {"last": buffer.getvalue()})
    job.on_epoch(row)
    return row, HeldOut(values, groups)


def _fit(
    job: TrainingJob, maps: GaussianMaps, spec: ImageInput, groups: NDArray[np.str_]
) -> NDArray[np.float64]:
    """Give ``maps`` its distributions; raw values of the pictures, each without its group."""
    paths = normal_split(job, "train").normal
    folds = deal_folds(groups, FOLDS, np.random.default_rng(job.project.seed))
    with tempfile.TemporaryFile(dir=job.workspace.root) as file, torch.inference_mode():
        seen = _see(maps, spec, paths, folds, file)
        tops, wholes = [], []
        for fold in range(len(seen.moments)):
            maps.take(*seen.without(fold))
            for row in np.flatnonzero(folds == fold):
                places = torch.from_numpy(np.asarray(seen.places[row : row + 1], np.float32))
                out, whole = maps.distances(places, torch.from_numpy(seen.pictures[row : row + 1]))
                tops.append(largest(out, job.params.anomaly.top_share)[0])
                wholes.append(whole[0])
        maps.take(*seen.without(None))
    top, whole = torch.stack(tops), torch.stack(wholes)
    typical = top.mean(dim=1)
    maps.centres = torch.stack([typical.mean(), whole.mean()])
    maps.scales = torch.stack([typical.std(), whole.std()]).clamp(min=TINY)
    order = np.argsort(np.concatenate([np.flatnonzero(folds == one) for one in range(FOLDS)]))
    values: NDArray[np.float64] = maps.raw(top, whole).mean(dim=1).double().numpy()[order]
    say_step(f"{len(paths)} normal pictures of {len(np.unique(groups))} groups are described")
    return values


def _see(
    maps: GaussianMaps,
    spec: ImageInput,
    paths: Sequence[Path],
    folds: NDArray[np.int64],
    file: IO[bytes],
) -> _Seen:
    """Look at every picture once."""
    kept: NDArray[np.float16] | None = None
    pictures: list[NDArray[np.float32]] = []
    moments: list[Moments | None] = [None] * int(folds.max() + 1)
    for start in track(range(0, len(paths), BATCH), "features of normal pictures"):
        images = [read_image(path) for path in paths[start : start + BATCH]]
        batch, _ = make_batch(images, spec)
        places, picture, _ = maps.features(torch.from_numpy(batch))
        if kept is None:
            shape = (len(paths), *places.shape[1:])
            kept = np.memmap(file, np.float16, "w+", shape=shape)
        kept[start : start + len(images)] = places.numpy()
        pictures += list(picture.numpy())
        for row, one in enumerate(places.flatten(2).permute(0, 2, 1).numpy(), start):
            found, before = Moments.of(one), moments[folds[row]]
            moments[folds[row]] = found if before is None else before + found
    assert kept is not None
    whole = np.stack(pictures)
    both = [(one, Moments.of(whole[folds == fold])) for fold, one in enumerate(moments) if one]
    return _Seen(kept, whole, folds, both)
