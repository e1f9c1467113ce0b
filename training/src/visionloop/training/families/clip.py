"""``clip``: prompts and a few-shot memory, in the features of CLIP's image tower.

Prompts without a single picture: how much more a picture is like descriptions of a damaged
product than of a flawless one (WinCLIP, Jeong et al., 2023, arXiv 2303.14814, without its
windows). Memory: distance of each patch from those of the normal pictures, as in ``patch``. The
text tower is needed for training only: the features of the prompts become constants of the graph.
"""

from __future__ import annotations

import logging
from typing import Any

import torch

from visionloop.core.errors import ConfigError, DataError
from visionloop.training.checkpoint import Checkpoint
from visionloop.training.families.anomaly import (
    AnomalyFamily,
    AnomalyForExport,
    finish,
    refuse_heads,
)
from visionloop.training.families.patch import PatchMemory, join_layers, remember_once
from visionloop.training.families.table import TrainedModel, TrainingJob
from visionloop.training.weight_files import load_tensors
from visionloop.training.weights import FoundWeights

__all__ = ["Clip", "ClipMemory", "make_clip_memory"]

FLAWLESS = ("a flawless {}", "a {} without a defect", "an intact {}", "a {} in good condition")
DAMAGED = (
    *("a damaged {}", "a {} with a defect", "a broken {}", "a {} with a crack"),
    *("a {} with a stain", "a {} with a scratch"),
)
FRAMES = ("a photo of {}.", "a close-up photo of {}.", "a dark photo of {}.")

SHARPNESS = 100.0
"""What CLIP multiplies similarities with before the softmax."""


class Clip(AnomalyFamily):
    """CLIP with prompts and memory; see :class:`visionloop.training.families.table.Family`."""

    def train(self, job: TrainingJob) -> TrainedModel:
        """Put the prompts into the network and remember the patches of normal pictures."""
        refuse_heads(job)
        memory = make_clip_memory(job)
        spec = job.weights.picture_input(memory.side)
        row = remember_once(job, memory, spec)
        return finish(job, memory.eval(), spec, memory.describe(), row)

    def build(self, checkpoint: Checkpoint) -> torch.nn.Module:
        """Images to (probabilities, embedding, heatmap)."""
        facts = checkpoint.facts.architecture
        memory = ClipMemory.from_facts(facts)
        whole = AnomalyForExport(memory, top_share=facts["top_share"], limit=1.0)
        whole.load_state_dict(checkpoint.load_tensors())
        return whole.eval()


class ClipMemory(PatchMemory):
    """Images to (raw map (B, h, w), embedding (B, D)): patch distances and what prompts say.

    Parameters
    ----------
    tower : open_clip vision transformer
    architecture : str
        Its name.
    layers : list of int
    prompts : float32 tensor (2, D)
        Features of flawless and of damaged, of length 1.
    prompt_weight : float
    """

    def __init__(
        self,
        tower: Any,
        *,
        architecture: str,
        layers: list[int],
        prompts: torch.Tensor,
        prompt_weight: float,
    ) -> None:
        super().__init__(tower, layers=layers)
        self.architecture, self.prompt_weight = architecture, prompt_weight
        self.register_buffer("prompts", prompts)

    @property
    def side(self) -> int:
        """Pixels of its square input."""
        size = self.network.image_size
        return int(size[0] if isinstance(size, tuple | list) else size)

    def describe(self) -> dict[str, Any]:
        """JSON from which :meth:`from_facts` builds it again."""
        return {
            "open_clip": self.architecture,
            "layers": self.layers,
            "memory": list(self.memory.shape),
            "prompts": list(self.prompts.shape),
            "prompt_weight": self.prompt_weight,
        }

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> ClipMemory:
        """With zeros in the place of all tensors."""
        made = cls(
            _make_clip(facts["open_clip"]).visual,
            architecture=facts["open_clip"],
            layers=facts["layers"],
            prompts=torch.zeros(facts["prompts"]),
            prompt_weight=facts["prompt_weight"],
        )
        rows, width = facts["memory"]
        made.remember(torch.zeros(rows, width), torch.zeros(width), torch.ones(width))
        return made

    def patches(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of each place (B, D, h, w), and of the picture (B, D'), of length 1."""
        found = self.network.forward_intermediates(image, indices=self.layers, output_fmt="NCHW")
        whole = torch.nn.functional.normalize(found["image_features"], dim=1)
        return join_layers(found["image_intermediates"]), whole

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """float32 (B, 3, H, W) to (raw map, embedding)."""
        features, whole = self.patches(image)
        damaged = torch.softmax(SHARPNESS * whole @ self.prompts.T, dim=1)[:, 1]
        places = self.distances(features) + self.prompt_weight * damaged[:, None, None]
        return places, whole


def make_clip_memory(job: TrainingJob) -> ClipMemory:
    """CLIP's image tower with the prompts of the job in it, and nothing remembered yet.

    Raises
    ------
    ConfigError
        If the weights are not CLIP's.
    DataError
        If their tensors do not fit.
    """
    row, params = job.weights.row, job.params.anomaly
    if row.library != "open_clip":
        raise ConfigError(
            f"training.weights '{job.weights.name}'",
            f"belongs to {row.library or 'no library'}, not to open_clip",
            "choose weights of CLIP: clip-vit-b-32",
        )
    torch.manual_seed(job.project.seed)
    model = _make_clip(row.architecture)
    if not job.weights.is_scratch:
        _load(model, job.weights)
    tower = model.visual
    deepest = len(tower.transformer.resblocks) - 1
    layers = [min(one, deepest) for one in params.layers]
    return ClipMemory(
        tower,
        architecture=row.architecture,
        layers=sorted(set(layers)),
        prompts=_describe(model, row.architecture, params.object_name),
        prompt_weight=params.prompt_weight,
    )


def _make_clip(architecture: str) -> Any:
    import open_clip

    level = logging.root.level
    logging.root.setLevel(logging.ERROR)  # it warns of random weights, which are loaded next
    try:
        return open_clip.create_model(architecture, pretrained=None).eval()
    finally:
        logging.root.setLevel(level)


def _load(model: Any, weights: FoundWeights) -> None:
    found, wanted = load_tensors(weights), model.state_dict()
    if set(found) != set(wanted) or any(found[k].shape != wanted[k].shape for k in wanted):
        raise DataError(
            f"weights '{weights.name}'",
            f"their tensors do not fit {weights.row.architecture}",
            "check the file, it is not what its name says",
        )
    model.load_state_dict(found)


def _describe(model: Any, architecture: str, name: str) -> torch.Tensor:
    """Mean features of the prompts for flawless and for damaged, float32 (2, D)."""
    import open_clip

    tokenizer = open_clip.get_tokenizer(architecture)
    rows = []
    with torch.inference_mode():
        for states in (FLAWLESS, DAMAGED):
            texts = [frame.format(state.format(name)) for frame in FRAMES for state in states]
            features = torch.nn.functional.normalize(model.encode_text(tokenizer(texts)), dim=1)
            rows.append(torch.nn.functional.normalize(features.mean(dim=0), dim=0))
    return torch.stack(rows).clone()
