"""``ensemble``: anomaly families that look at a picture together (autoencoder and CLIP).

Each member's map is divided by its mean on held-out normal pictures, so that they count alike; the
mean of the maps is the map of the ensemble, whose limit is set like that of any other family.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.nn import functional

from visionloop.training.checkpoint import Checkpoint
from visionloop.training.families.anomaly import (
    AnomalyFamily,
    AnomalyForExport,
    finish,
    normal_split,
    raw_values,
    refuse_heads,
)
from visionloop.training.families.autoencoder import Redrawing, redraw_normal
from visionloop.training.families.clip import ClipMemory, make_clip_memory
from visionloop.training.families.patch import PatchMemory, remember_normal
from visionloop.training.families.table import TrainedModel, TrainingJob
from visionloop.training.families.timm_networks import build_network, make_network
from visionloop.training.resume import EpochRow
from visionloop.training.weights import find_weights

__all__ = ["Ensemble", "Together"]


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
        val = normal_split(job, "val").normal
        for number, member in enumerate(together.alone()):
            whole = AnomalyForExport(member, top_share=1.0, limit=1.0).eval()
            values = raw_values(whole, val, spec, f"held-out pictures, {names[number]}")
            together.scales[number] = float(values.mean()) if len(values) else 1.0
        facts = {"members": [_describe(job, n, m) for n, m in zip(names, members, strict=True)],
                 "mean": list(spec.mean), "std": list(spec.std)}  # fmt: skip
        return finish(job, together.eval(), spec, facts, row)

    def build(self, checkpoint: Checkpoint) -> torch.nn.Module:
        """Images to (probabilities, embedding, heatmap)."""
        facts = checkpoint.facts.architecture
        members = [_build(one) for one in facts["members"]]
        together = Together(members, mean=facts["mean"], std=facts["std"])
        whole = AnomalyForExport(together, top_share=facts["top_share"], limit=1.0)
        whole.load_state_dict(checkpoint.load_tensors())
        return whole.eval()


class Together(torch.nn.Module):  # type: ignore[misc]
    """Images to (mean of the members' maps (B, h, w), embedding of the last (B, D)).

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
        self.register_buffer("scales", torch.ones(len(members)))
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
            places = (places / self.scales[number])[:, None]
            if size is None:
                size = places.shape[-2:]
            elif places.shape[-2:] != size:
                places = functional.interpolate(
                    places, size=size, mode="bilinear", align_corners=False
                )
            total = places if total is None else total + places
        assert total is not None
        return total[:, 0] / len(self.members), embedding


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
