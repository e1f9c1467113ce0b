"""``ensemble``: anomaly families that look at a picture together (autoencoder and CLIP).

A member's map says how far above what is ordinary a place lies: less the median of held-out normal
pictures, in units of how far these reach above it. The map of the ensemble is the weighted mean.
Weights come from flaws made on held-out normal pictures (``made_flaws``): a member that cannot tell
these from the pictures without has no say, whatever it answers. The limit is set like that of any
other family.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from visionloop.core.progress import say_step
from visionloop.serving.images import read_image
from visionloop.serving.manifest import ImageInput
from visionloop.serving.preprocess import place_image
from visionloop.training.checkpoint import Checkpoint
from visionloop.training.families.anomaly import (
    AnomalyFamily,
    AnomalyForExport,
    area_under_roc,
    finish,
    normal_split,
    raw_values,
    refuse_heads,
)
from visionloop.training.families.autoencoder import Redrawing, redraw_normal
from visionloop.training.families.clip import ClipMemory, make_clip_memory
from visionloop.training.families.made_flaws import make_flaw
from visionloop.training.families.patch import PatchMemory, remember_normal
from visionloop.training.families.table import TrainedModel, TrainingJob
from visionloop.training.families.timm_networks import build_network, make_network
from visionloop.training.resume import EpochRow
from visionloop.training.weights import find_weights

__all__ = ["Ensemble", "Together"]

REACH = 0.9
"""Quantile of held-out normal pictures to which a member's unit reaches."""
MOST_MADE = 200
"""Held-out pictures on which flaws are made."""


class Ensemble(AnomalyFamily):
    """Several members; see :class:`visionloop.training.families.table.Family`."""

    def train(self, job: TrainingJob) -> TrainedModel:
        """Train the autoencoder by the loop, then the members that remember."""
        refuse_heads(job)
        names = job.params.anomaly.members
        memories: dict[str, PatchMemory] = {
            name: _make_memory(job, name) for name in names if name != "autoencoder"
        }
        side = next((one.side for one in memories.values() if isinstance(one, ClipMemory)),
                    job.params.image_size)  # fmt: skip
        spec = job.weights.picture_input(side)
        members, row = _learn(job, names, memories, side)
        together = Together(members, mean=spec.mean, std=spec.std)
        shares = _weigh(together, names, job, spec)
        facts = {"members": [_describe(job, n, m) for n, m in zip(names, members, strict=True)],
                 "mean": list(spec.mean), "std": list(spec.std)}  # fmt: skip
        return finish(job, together.eval(), spec, facts, row | shares)

    def build(self, checkpoint: Checkpoint) -> torch.nn.Module:
        """Images to (probabilities, embedding, heatmap)."""
        facts = checkpoint.facts.architecture
        members = [_build(one) for one in facts["members"]]
        together = Together(members, mean=facts["mean"], std=facts["std"])
        whole = AnomalyForExport(together, top_share=facts["top_share"], limit=1.0)
        whole.load_state_dict(checkpoint.load_tensors())
        return whole.eval()


class Together(torch.nn.Module):  # type: ignore[misc]
    """Images to (weighted mean of the members' maps (B, h, w), embedding of the last (B, D)).

    Parameters
    ----------
    members : sequence of Module
        Each float32 (B, 3, H, W) to (raw map, embedding).
    mean, std : sequence of 3 floats
        How the pictures come, on the scale 0 to 255: an autoencoder wants them from 0 to 1.
    """

    def __init__(
        self, members: Sequence[torch.nn.Module], *, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.members = torch.nn.ModuleList(members)
        for name in ("ordinary", "unit", "weight"):
            self.register_buffer(name, torch.full((len(members),), float(name != "ordinary")))
        shape = (1, 3, 1, 1)
        self.register_buffer("offset", torch.tensor(mean).reshape(shape) / 255)
        self.register_buffer("factor", torch.tensor(std).reshape(shape) / 255)

    def alone(self) -> list[torch.nn.Module]:
        """Each member on pictures as they come."""
        return [_Alone(self, number).eval() for number in range(len(self.members))]

    def look(self, number: int, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What one member says."""
        member = self.members[number]
        if isinstance(member, Redrawing):
            image = (image * self.factor + self.offset).clamp(0, 1)
        places, embedding = member(image)
        return places, embedding

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """float32 (B, 3, H, W) to (raw map, embedding)."""
        size, total, embedding = None, None, image
        for number in range(len(self.members)):
            places, embedding = self.look(number, image)
            # Below what is ordinary members add next to nothing, but still in their order.
            above = functional.softplus((places - self.ordinary[number]) / self.unit[number])
            places = (above * self.weight[number])[:, None]
            if size is None:
                size = places.shape[-2:]
            elif places.shape[-2:] != size:
                places = functional.interpolate(
                    places, size=size, mode="bilinear", align_corners=False
                )
            total = places if total is None else total + places
        assert total is not None
        return total[:, 0], embedding


class _Alone(torch.nn.Module):  # type: ignore[misc]
    """One member of an ensemble."""

    def __init__(self, together: Together, number: int) -> None:
        super().__init__()
        self.together, self.number = together, number

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As the member does."""
        return self.together.look(self.number, image)


def _make_memory(job: TrainingJob, name: str) -> PatchMemory:
    if name == "clip":
        return make_clip_memory(job)
    network = make_network(job.weights, classes=1, image_size=job.params.image_size)
    return PatchMemory(network.eval(), layers=list(job.params.anomaly.layers))


def _learn(
    job: TrainingJob, names: Sequence[str], memories: dict[str, PatchMemory], side: int
) -> tuple[list[torch.nn.Module], EpochRow]:
    """The members in their order, and the row of the autoencoder's best epoch."""
    row: EpochRow = {"epoch": 1.0, "train_loss": 0.0}
    found: dict[str, torch.nn.Module] = dict(memories)
    if "autoencoder" in names:
        plain = find_weights("none")
        found["autoencoder"], row = redraw_normal(
            replace(job, weights=plain), plain.picture_input(side)
        )
    for memory in memories.values():
        remember_normal(job, memory, job.weights.picture_input(side))
        memory.eval()
    if "autoencoder" not in names and not job.resume.epoch:
        job.resume.save_epoch(row, {"last": b""})
        job.on_epoch(row)
    return [found[name] for name in names], row


def _weigh(
    together: Together, names: Sequence[str], job: TrainingJob, spec: ImageInput
) -> dict[str, float]:
    """Set what is ordinary for each member, its unit and its weight; returns the weights."""
    val = normal_split(job, "val").normal
    made = _make_flaws(val[:MOST_MADE], spec, job.project.seed)
    told = []
    for number, member in enumerate(together.alone()):
        top = job.params.anomaly.top_share
        whole = AnomalyForExport(member, top_share=top, limit=1.0).eval()
        values = raw_values(whole, val, spec, f"held-out pictures, {names[number]}")
        flawed = raw_values(whole, made, spec, f"made flaws, {names[number]}")
        if not len(values):
            return {}  # the limit will ask for held-out pictures
        ordinary, reach = np.quantile(values, [0.5, REACH])
        together.ordinary[number] = float(ordinary)
        together.unit[number] = float(max(reach - ordinary, 1e-3 * abs(ordinary), 1e-9))
        both = np.concatenate([values[: len(made)], flawed])
        told.append(area_under_roc(both, np.arange(len(both)) >= len(made)))
    better = np.maximum(2 * np.array(told) - 1, 0)
    share = better / better.sum() if better.any() else np.full(len(told), 1 / len(told))
    together.weight.copy_(torch.from_numpy(share))
    for name, value, weight in zip(names, told, share, strict=True):
        say_step(f"{name} tells made flaws with AUROC {value:.2f}: {weight:.0%} of the answer")
    return {f"weight_{name}": float(one) for name, one in zip(names, share, strict=True)}


def _make_flaws(paths: Sequence[Path], spec: ImageInput, seed: int) -> list[NDArray[np.uint8]]:
    """A flaw on each of these pictures, at the size of the input."""
    rng = np.random.default_rng(seed)
    images = [place_image(read_image(one), spec)[0].astype(np.float32) for one in paths]
    others = rng.permutation(len(images))
    made = [make_flaw(image, images[other], rng)[0]
            for image, other in zip(images, others, strict=True)]  # fmt: skip
    return [np.rint(one).astype(np.uint8) for one in made]


def _describe(job: TrainingJob, name: str, member: torch.nn.Module) -> dict[str, Any]:
    if isinstance(member, ClipMemory):
        return {"name": name, **member.describe()}
    if isinstance(member, PatchMemory):
        return {
            "name": name,
            "timm": job.weights.row.architecture,
            "classes": 1,
            "image_size": job.params.image_size,
            "layers": member.layers,
            "memory": list(member.memory.shape),
        }
    return {"name": name}


def _build(facts: dict[str, Any]) -> torch.nn.Module:
    if facts["name"] == "clip":
        return ClipMemory.from_facts(facts)
    if facts["name"] == "patch":
        memory = PatchMemory(build_network(facts), layers=facts["layers"])
        rows, width = facts["memory"]
        memory.remember(torch.zeros(rows, width), torch.zeros(width), torch.ones(width))
        return memory
    return Redrawing()
