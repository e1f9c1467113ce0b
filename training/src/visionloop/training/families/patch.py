"""``patch``: a memory of patch features of normal pictures.

PatchCore (Roth et al., 2022, arXiv 2106.08265): features of several layers of a network trained
on other pictures, averaged over neighbouring places; a coreset of them, chosen greedily so that
no normal patch is far from it (k-centre, on a random projection); how far a patch of a new
picture is from the nearest one is its distance from what is normal.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

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
    normal_split,
    refuse_heads,
)
from visionloop.training.families.table import TrainedModel, TrainingJob
from visionloop.training.families.timm_networks import build_network, make_network
from visionloop.training.resume import EpochRow

__all__ = [
    "Patch",
    "PatchMemory",
    "choose_coreset",
    "join_layers",
    "remember_normal",
    "remember_once",
]

PROJECTED = 128
"""Dimensions in which the coreset is chosen: distances hardly change (Johnson, Lindenstrauss)."""


class Patch(AnomalyFamily):
    """A memory of patches; see :class:`visionloop.training.families.table.Family`."""

    def train(self, job: TrainingJob) -> TrainedModel:
        """Remember the patches of the normal train pictures."""
        refuse_heads(job)
        torch.manual_seed(job.project.seed)
        size = job.params.image_size
        network = make_network(job.weights, classes=1, image_size=size).eval()
        spec = job.weights.picture_input(size)
        memory = PatchMemory(network, layers=list(job.params.anomaly.layers))
        row = remember_once(job, memory, spec)
        architecture = {
            "timm": job.weights.row.architecture,
            "classes": 1,
            "image_size": size,
            "layers": list(job.params.anomaly.layers),
            "memory": list(memory.memory.shape),
        }
        return finish(job, memory.eval(), spec, architecture, row)

    def build(self, checkpoint: Checkpoint) -> torch.nn.Module:
        """Images to (probabilities, embedding, heatmap)."""
        facts = checkpoint.facts.architecture
        memory = PatchMemory(build_network(facts), layers=facts["layers"])
        rows, width = facts["memory"]
        memory.remember(torch.zeros(rows, width), torch.zeros(width), torch.ones(width))
        whole = AnomalyForExport(memory, top_share=facts["top_share"], limit=1.0)
        whole.load_state_dict(checkpoint.load_tensors())
        return whole.eval()


class PatchMemory(torch.nn.Module):  # type: ignore[misc]
    """Images to (distance of each patch from the memory (B, h, w), embedding (B, D)).

    Parameters
    ----------
    network : timm network
    layers : list of int
        Which of its intermediate outputs; the grid is that of the first.
    """

    def __init__(self, network: Any, *, layers: list[int]) -> None:
        super().__init__()
        self.network, self.layers = network, layers

    def remember(self, memory: torch.Tensor, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        """Take patches (M, D), standardised by ``mean`` and ``deviation`` (D,)."""
        self.register_buffer("memory", memory)
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)

    def patches(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of each place (B, D, h, w), and of the whole picture (B, D')."""
        found = self.network.forward_intermediates(
            image, indices=self.layers, intermediates_only=True
        )
        return join_layers(found), found[-1].mean(dim=(2, 3))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """float32 (B, 3, H, W) to (raw map, embedding)."""
        features, embedding = self.patches(image)
        return self.distances(features), embedding

    def distances(self, features: torch.Tensor) -> torch.Tensor:
        """Distance of each patch (B, D, h, w) from the nearest one remembered, (B, h, w)."""
        _, width, rows, columns = features.shape
        flat = features.permute(0, 2, 3, 1).reshape(-1, width)
        flat = (flat - self.mean) / self.deviation
        squared = flat.square().sum(dim=1, keepdim=True) - 2 * flat @ self.memory.T
        squared = squared + self.memory.square().sum(dim=1)
        nearest = squared.min(dim=1).values.clamp(min=0) / width
        return nearest.sqrt().reshape(-1, rows, columns)


def join_layers(layers: Sequence[torch.Tensor], grid: Sequence[int] | None = None) -> torch.Tensor:
    """Features of several layers, averaged over 3 x 3 places, on one grid: that of the first.

    Finer layers are averaged down to a coarser grid where it divides them.
    """
    # Plain numbers: an export by tracing must not take them for values that vary.
    size = tuple(int(one) for one in (layers[0].shape[-2:] if grid is None else grid))
    parts = []
    for one in layers:
        rows, columns = int(one.shape[-2]), int(one.shape[-1])
        if rows > size[0] and rows % size[0] == 0 and columns % size[1] == 0:
            one = functional.avg_pool2d(one, (rows // size[0], columns // size[1]))
        near = functional.avg_pool2d(one, 3, stride=1, padding=1)
        if tuple(near.shape[-2:]) != size:
            near = functional.interpolate(near, size=size, mode="bilinear", align_corners=False)
        parts.append(near)
    return torch.cat(parts, dim=1)


def choose_coreset(
    patches: NDArray[np.float32], size: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Greedy k-centre: rows such that the largest distance of any row to its nearest is small.

    Parameters
    ----------
    patches : float32 array (N, D)
    size : int
        Rows to choose; all where there are no more.

    Returns
    -------
    int64 array (min(size, N),)
    """
    count = len(patches)
    if size >= count:
        return np.arange(count)
    width = patches.shape[1]
    if width > PROJECTED:
        patches = patches @ (rng.normal(size=(width, PROJECTED)) / PROJECTED**0.5).astype(
            np.float32
        )
    norms = np.einsum("nd,nd->n", patches, patches)
    chosen = np.empty(size, np.int64)
    chosen[0] = rng.integers(count)
    nearest = np.full(count, np.inf, np.float32)
    for number in track(range(size), "choosing patches to remember"):
        row = chosen[number]
        distance = norms - 2 * patches @ patches[row] + norms[row]
        np.minimum(nearest, distance, out=nearest)
        if number + 1 < size:
            chosen[number + 1] = int(nearest.argmax())
    return chosen


def remember_once(job: TrainingJob, memory: PatchMemory, spec: ImageInput) -> EpochRow:
    """Fit the memory as the one epoch of a job, or take what an interrupted call has kept."""
    if job.resume.epoch:
        content = job.resume.path("last").read_bytes()
        memory.remember(*torch.load(io.BytesIO(content), weights_only=True))
        return job.resume.history[-1]
    tensors, count = remember_normal(job, memory, spec)
    row = {"epoch": 1.0, "train_loss": 0.0, "remembered_patches": float(count)}
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    job.resume.save_epoch(row, {"last": buffer.getvalue()})
    job.on_epoch(row)
    return row


def remember_normal(
    job: TrainingJob, memory: PatchMemory, spec: ImageInput
) -> tuple[list[torch.Tensor], int]:
    """Give ``memory`` a coreset of the patches of the normal train pictures.

    Returns
    -------
    (list of Tensor, int)
        What :meth:`PatchMemory.remember` was given, and how many patches.
    """
    params, rng = job.params.anomaly, np.random.default_rng(job.project.seed)
    paths = normal_split(job, "train").normal
    each = max(1, params.max_patches // len(paths))
    kept = []
    with torch.inference_mode():
        for start in track(range(0, len(paths), BATCH), "patches of normal pictures"):
            images = [read_image(path) for path in paths[start : start + BATCH]]
            batch, _ = make_batch(images, spec)
            features, _ = memory.patches(torch.from_numpy(batch))
            for one in features.flatten(2).permute(0, 2, 1).numpy():
                rows = rng.permutation(len(one))[:each]
                kept.append(one[rows])
    patches = np.concatenate(kept)
    mean, deviation = patches.mean(axis=0), np.maximum(patches.std(axis=0), 1e-6)
    patches = ((patches - mean) / deviation).astype(np.float32)
    chosen = choose_coreset(patches, params.memory, rng)
    say_step(f"{len(chosen)} of {len(patches)} patches of {len(paths)} pictures are remembered")
    tensors = [torch.from_numpy(np.ascontiguousarray(one, np.float32))
               for one in (patches[chosen], mean, deviation)]  # fmt: skip
    memory.remember(*tensors)
    return tensors, len(chosen)
